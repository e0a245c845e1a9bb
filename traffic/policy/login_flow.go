package policy

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/marucloud/maru/traffic/message"
)

// begun is a login that was begun, as the client keeps it until it comes back, encrypted.
type begun struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"` // of PKCE (RFC 7636)
	Target   string `json:"t"` // where the client wanted to go
	End      int64  `json:"x"` // Unix seconds
}

// longestTarget is of one that is come back to; whoever wanted to go to a longer one gets to the route's beginning.
const longestTarget = 2048

// send sends a browser to the provider.
func (s *login) send(x *Exchange, now time.Time) *Answer {
	p, err := s.provider.get(x.Client.Context(), now)
	if err != nil {
		return unavailable(err)
	}
	b := begun{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Target: x.Request.Target, End: now.Add(loginTime).Unix()}
	if len(b.Target) > longestTarget || !strings.HasPrefix(b.Target, "/") {
		b.Target = strings.TrimSuffix(s.base, s.Path) + "/"
	}
	data, err := json.Marshal(b)
	if err != nil {
		return unavailable(err)
	}
	text := x.env.Sealer.Seal("login "+s.name, message.HostName(x.Request.Host), data)
	to := s.config(x, p).AuthCodeURL(b.State, oidc.Nonce(b.Nonce), oauth2.S256ChallengeOption(b.Verifier))
	return redirectTo(to, []string{s.cookie(x, s.begunName(x, b.State), text, s.base+"/callback", loginTime)})
}

// begunName is the name of the cookie of one login: somebody may have begun several, in as many windows.
func (s *login) begunName(x *Exchange, state string) string {
	name := begunCookie + s.name + "-" + state[:min(len(state), 8)]
	if x.scheme() == "https" {
		return "__Secure-" + name
	}
	return name
}

func (s *login) config(x *Exchange, p *oidc.Provider) *oauth2.Config {
	at := p.Endpoint()
	at.AuthStyle = oauth2.AuthStyleInHeader
	var takes struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"` // none: client_secret_basic
	}
	if s.secret == "" || p.Claims(&takes) == nil && len(takes.Methods) > 0 && !slices.Contains(takes.Methods, "client_secret_basic") {
		at.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: s.Client, ClientSecret: x.env.Secrets[s.secret], Endpoint: at,
		RedirectURL: x.origin() + s.base + "/callback", Scopes: append([]string{oidc.ScopeOpenID}, s.Scopes...),
	}
}

// callback takes in who comes back from the provider.
func (s *login) callback(x *Exchange) *Answer {
	_, raw, _ := strings.Cut(x.Request.Target, "?")
	query, err := url.ParseQuery(raw)
	if err != nil || x.Request.Method != http.MethodGet {
		return s.failed("the provider's answer can't be read")
	}
	now := time.Now()
	state := query.Get("state")
	b, ok := s.begun(x, state, now)
	switch {
	case !ok:
		return s.failed("it took too long, or was begun in another browser")
	case query.Has("iss") && query.Get("iss") != s.issuer: // RFC 9207
		return s.failed("another provider answers")
	case query.Has("error"):
		return s.failed("the provider says " + plainText(query.Get("error")))
	case s.secret != "" && x.env.Secrets[s.secret] == "":
		return unavailable(errors.New("the client's secret is not known"))
	}
	p, err := s.provider.get(x.Client.Context(), now)
	if err != nil {
		return unavailable(err)
	}
	held, err := s.exchange(x, p, query.Get("code"), b, now)
	if err != nil {
		a := s.failed("the provider's word for you does not hold")
		a.Reason = "login: " + err.Error()
		return a
	}
	cookies := s.store(x, held, now)
	if cookies == nil {
		return s.failed("the provider says more of you than a browser can keep")
	}
	return redirectTo(x.origin()+b.Target, append(cookies, s.cookie(x, s.begunName(x, state), "", s.base+"/callback", 0)))
}

// begun gives the login that the state is of, if the client began it.
func (s *login) begun(x *Exchange, state string, now time.Time) (begun, bool) {
	text, _ := cookieOf(x.Request.Header, s.begunName(x, state))
	data, ok := x.env.Sealer.Open("login "+s.name, message.HostName(x.Request.Host), text)
	var b begun
	if !ok || json.Unmarshal(data, &b) != nil || now.Unix() >= b.End || subtle.ConstantTimeCompare([]byte(b.State), []byte(state)) != 1 {
		return begun{}, false
	}
	return b, true
}

func (s *login) failed(why string) *Answer {
	return &Answer{
		Status: http.StatusBadRequest, Title: "Login failed", Reason: "login: " + why,
		What: "You are not logged in: " + why + ".", Do: "Go to the page that you wanted to see, and try again.",
		Header: message.Header{{Name: "Cache-Control", Value: "no-store"}},
	}
}

// plainText gives the beginning of a text that somebody else wrote.
func plainText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text[:min(len(text), 100)])
}

// logout ends the session here, and at the provider where it has a page for that.
func (s *login) logout(x *Exchange) *Answer {
	if site := x.Request.Header.Get("Sec-Fetch-Site"); site == "cross-site" {
		return &Answer{
			Status: http.StatusForbidden, Title: "Not logged out", Reason: "logout asked for by another site",
			What: "Another site wants you to be logged out here.", Do: "Log out here yourself.",
		}
	}
	cookies := s.spread(x, "", 0)
	var end struct {
		URL string `json:"end_session_endpoint"`
	}
	if p, err := s.provider.get(x.Client.Context(), time.Now()); err == nil && p.Claims(&end) == nil && end.URL != "" {
		if to, err := url.Parse(end.URL); err == nil {
			query := to.Query()
			query.Set("client_id", s.Client)
			to.RawQuery = query.Encode()
			return redirectTo(to.String(), cookies)
		}
	}
	a := &Answer{
		Status: http.StatusOK, Title: "Logged out", Reason: "logout", Do: "Close this window.",
		What: "You are logged out here.", Header: message.Header{{Name: "Cache-Control", Value: "no-store"}},
	}
	for _, c := range cookies {
		a.Header.Add("Set-Cookie", c)
	}
	return a
}
