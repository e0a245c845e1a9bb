package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// tokens asks for a JSON Web Token (RFC 7519) that an issuer signed.
type tokens struct {
	expected jwt.Expected
	claim    string
	keys     keySet
}

// signatures are those by which an issuer alone can sign. What whoever checks can sign, too, is none.
var signatures = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// clockLeeway is how far the issuer's clock may be off.
const clockLeeway = time.Minute

func newTokens(a *maru.Auth) (step, error) {
	if a.Issuer == "" {
		return nil, maru.Errorf(maru.Invalid, "nobody is named whose tokens count")
	}
	t := &tokens{expected: jwt.Expected{Issuer: a.Issuer, AnyAudience: a.Audiences}, claim: a.Claim}
	if t.claim == "" {
		t.claim = "sub"
	}
	t.keys = keySet{issuer: a.Issuer, url: a.Keys}
	return t, nil
}

var (
	errToken = errors.New("the token is not valid")
	errKeys  = errors.New("the issuer's keys are not known")
)

func (t *tokens) take(x *Exchange) *Answer {
	scheme, raw, _ := strings.Cut(x.Request.Header.Get("Authorization"), " ")
	if !message.Equal(scheme, "Bearer") {
		return unauthorized("Bearer", "A token is needed here.")
	}
	raw = message.Trim(raw)
	user, err := t.user(x.Client.Context, raw)
	switch {
	case errors.Is(err, errKeys):
		return &Answer{
			Status: http.StatusServiceUnavailable, Title: "Tokens can't be checked", Reason: err.Error(), After: keysAgain,
			What: "The keys by which tokens are checked can't be had at the moment.", Do: "Try again in a moment.",
		}
	case err != nil:
		a := unauthorized(`Bearer error="invalid_token"`, "The token is not valid here, or not any more.")
		a.Reason = err.Error()
		return a
	}
	x.User, x.Token = user, raw
	x.Out.Edits = append(x.Out.Edits, message.Edit{Op: message.Set, Name: UserHeader, Value: user})
	return nil
}

// user gives whom a token is about.
func (t *tokens) user(client func() context.Context, raw string) (string, error) {
	token, err := jwt.ParseSigned(raw, signatures)
	if err != nil || len(token.Headers) != 1 {
		return "", errToken
	}
	keys, err := t.keys.find(client(), token.Headers[0].KeyID, time.Now())
	if err != nil {
		return "", err
	}
	for _, key := range keys {
		var standard jwt.Claims
		var all map[string]any
		if key.Algorithm != "" && key.Algorithm != token.Headers[0].Algorithm || token.Claims(key, &standard, &all) != nil {
			continue
		}
		expected := t.expected
		expected.Time = time.Now()
		if err := standard.ValidateWithLeeway(expected, clockLeeway); err != nil {
			return "", err
		}
		user, ok := all[t.claim].(string)
		if standard.Expiry == nil || !ok || user == "" || strings.ContainsFunc(user, isControl) {
			return "", errToken
		}
		return user, nil
	}
	return "", errToken
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

const (
	keysFresh = 10 * time.Minute // how long keys are used before the issuer is asked whether there are others
	keysAgain = 10 * time.Second // how soon the issuer is asked again, for a key that is not known or after a failure
	keysTime  = 5 * time.Second  // that the issuer has to answer
	keysBytes = 1 << 20          // of an answer at most
)

// keySet are an issuer's keys. They are asked for when they are needed; while the issuer does not answer
// those that it had are used on.
type keySet struct {
	issuer, url string // url "": the issuer tells it

	asking sync.Mutex // held by the one who asks
	mu     sync.Mutex // of what follows
	known  []jose.JSONWebKey
	had    time.Time // when they were asked for with success
	asked  time.Time // when they were asked for
	failed error     // why they were not had
}

// find gives the keys with that ID, or for "" all.
func (s *keySet) find(ctx context.Context, id string, now time.Time) ([]jose.JSONWebKey, error) {
	keys, again := s.look(id, now)
	if again {
		s.asking.Lock()
		defer s.asking.Unlock()
		if keys, again = s.look(id, now); again {
			s.ask(ctx, now)
			keys, _ = s.look(id, now)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.had.IsZero() {
		return nil, fmt.Errorf("%w: %w", errKeys, s.failed)
	}
	return keys, nil
}

// look gives the keys there are with that ID, and whether the issuer is to be asked.
func (s *keySet) look(id string, now time.Time) (keys []jose.JSONWebKey, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.known {
		if (id == "" || k.KeyID == id) && k.Use != "enc" && k.IsPublic() {
			keys = append(keys, k)
		}
	}
	return keys, now.Sub(s.asked) >= keysAgain && (len(keys) == 0 || now.Sub(s.had) >= keysFresh)
}

func (s *keySet) ask(ctx context.Context, now time.Time) {
	// The others that wait need the keys also when this client goes away.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), keysTime, errKeys)
	defer cancel()
	keys, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.failed = now, err
	if err == nil {
		s.known, s.had = keys, now
	}
}

func (s *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	from := s.url
	if from == "" {
		var about struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := fetchJSON(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration", &about); err != nil {
			return nil, err
		}
		if about.Issuer != s.issuer {
			return nil, fmt.Errorf("the issuer calls itself %q", about.Issuer)
		}
		from = about.Keys
	}
	var set jose.JSONWebKeySet
	err := fetchJSON(ctx, from, &set)
	return set.Keys, err
}

func fetchJSON(ctx context.Context, from string, to any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", from, res.Status)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, keysBytes))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, to)
}
