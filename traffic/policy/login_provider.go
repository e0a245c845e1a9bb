package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// providerTime is what a provider has to answer, and shortestFresh how long its word counts at least.
const (
	providerTime  = 10 * time.Second
	shortestFresh = time.Second
	freshAgain    = 30 * time.Second // when one that does not answer is asked again
)

var errProvider = errors.New("the login provider does not answer in time")

// knownFor is after how long a provider is asked anew what it is.
const knownFor = 24 * time.Hour

// provider is asked what it is when that is needed, anew after a day, and again after a while when it could not be
// asked. What is known counts until it says otherwise.
type provider struct {
	issuer string

	mu     sync.Mutex
	known  *oidc.Provider
	next   time.Time // when it is asked
	failed error     // nil when known
}

// providers is the client by which they are asked: what they say is bounded.
var providers = &http.Client{Transport: boundedTransport{&http.Transport{
	Proxy: http.ProxyFromEnvironment, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: providerTime, ForceAttemptHTTP2: true,
}}, Timeout: providerTime}

type boundedTransport struct{ under http.RoundTripper }

// RoundTrip bounds the answer's body.
func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := t.under.RoundTrip(r)
	if err == nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, keysBytes), res.Body}
	}
	return res, err
}

// providerContext is for one conversation with a provider. What is begun for one client others may wait
// for, so that it goes on when that one goes away.
func providerContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), providerTime, errProvider)
	return oidc.ClientContext(ctx, providers), cancel
}

func (p *provider) get(ctx context.Context, now time.Time) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.next) {
		return p.known, p.failed
	}
	limit, cancel := providerContext(ctx)
	defer cancel()
	known, err := oidc.NewProvider(limit, p.issuer)
	if err == nil {
		p.known, p.failed, p.next = known, nil, now.Add(knownFor)
		return known, nil
	}
	p.next = time.Now().Add(keysAgain)
	if p.known == nil {
		p.failed = err
	}
	return p.known, p.failed
}

// exchange makes a session of the code that the provider gave.
func (s *login) exchange(x *Exchange, p *oidc.Provider, code string, b begun, now time.Time) (session, error) {
	ctx, cancel := providerContext(x.Client.Context())
	defer cancel()
	token, err := s.config(x, p).Exchange(ctx, code, oauth2.VerifierOption(b.Verifier))
	if err != nil {
		return session{}, fmt.Errorf("the code: %w", err)
	}
	id, err := s.verified(ctx, p, token)
	switch {
	case err != nil:
		return session{}, err
	case id == nil:
		return session{}, errors.New("there is no ID token")
	case id.Nonce != b.Nonce:
		return session{}, errors.New("the ID token is for another login")
	}
	held := session{Subject: id.Subject, End: now.Add(s.Session).Unix()}
	return held, s.fill(ctx, p, &held, id, token, now)
}

// verified gives the ID token that comes with a token; nil for none.
func (s *login) verified(ctx context.Context, p *oidc.Provider, token *oauth2.Token) (*oidc.IDToken, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, nil
	}
	id, err := p.VerifierContext(ctx, &oidc.Config{ClientID: s.Client}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("the ID token: %w", err)
	}
	var more struct {
		Party string `json:"azp"`
	}
	if err := id.Claims(&more); err != nil || more.Party != s.Client && (more.Party != "" || len(id.Audience) > 1) {
		return nil, errors.New("the ID token is another client's")
	}
	return id, nil
}

// fill takes into a session what the provider says of who logged in.
func (s *login) fill(ctx context.Context, p *oidc.Provider, held *session, id *oidc.IDToken, token *oauth2.Token, now time.Time) error {
	held.Refresh = token.RefreshToken
	fresh := token.Expiry
	if fresh.IsZero() && id != nil {
		fresh = id.Expiry
	}
	if least := now.Add(shortestFresh); fresh.Before(least) {
		fresh = least
	}
	held.Fresh = fresh.Unix()
	if id == nil {
		return nil
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return err
	}
	if s.lacks(claims) && p.UserInfoEndpoint() != "" {
		info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil {
			return fmt.Errorf("user info: %w", err)
		}
		more := map[string]any{}
		if err := info.Claims(&more); err != nil || info.Subject != id.Subject {
			return errors.New("the user info is of somebody else")
		}
		for name, value := range more {
			if _, has := claims[name]; !has {
				claims[name] = value
			}
		}
	}
	return s.read(held, claims)
}

// lacks tells whether somebody asks for a claim that is not there.
func (s *login) lacks(claims map[string]any) bool {
	wanted := append([]string{s.claim}, s.claims...)
	if len(s.Emails) > 0 {
		wanted = append(wanted, "email")
	}
	if len(s.Groups) > 0 {
		wanted = append(wanted, "groups")
	}
	return slices.ContainsFunc(wanted, func(name string) bool { return claimOf(claims, name) == nil })
}

func (s *login) read(held *session, claims map[string]any) error {
	held.User, held.Email, held.Groups, held.Claims = "", "", nil, nil
	if user := textsOf(claimOf(claims, s.claim)); len(user) == 1 {
		held.User = user[0]
	}
	if held.User == "" {
		return fmt.Errorf("the claim %s does not say who it is", s.claim)
	}
	if email := textsOf(claims["email"]); len(email) == 1 && slices.Equal(textsOf(claims["email_verified"]), []string{"true"}) {
		held.Email = email[0]
	}
	held.Groups = slices.DeleteFunc(textsOf(claims["groups"]), func(group string) bool { return strings.Contains(group, ",") })
	for _, name := range s.claims {
		if held.Claims == nil {
			held.Claims = map[string][]string{}
		}
		held.Claims[name] = textsOf(claimOf(claims, name))
	}
	return nil
}

// claimOf gives a claim by its name, or by a path of names with dots between.
func claimOf(claims map[string]any, name string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	first, rest, found := strings.Cut(name, ".")
	if within, ok := claims[first].(map[string]any); ok && found {
		return claimOf(within, rest)
	}
	return nil
}

// textsOf gives a claim's values as a header can have them; what is not a text, a number, true or false, or has
// control characters, is left out.
func textsOf(value any) []string {
	var all []string
	switch value := value.(type) {
	case []any:
		for _, one := range value {
			all = append(all, textsOf(one)...)
		}
	case string:
		if value != "" && !strings.ContainsFunc(value, isControl) {
			all = append(all, value)
		}
	case bool:
		all = append(all, strconv.FormatBool(value))
	case float64:
		all = append(all, strconv.FormatFloat(value, 'f', -1, 64))
	}
	return all
}
