package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// Headers that tell a service more of who logged in. Nobody but the gateway sets them.
const (
	EmailHeader  = "X-Maru-Email"
	GroupsHeader = "X-Maru-Groups"
)

// login has people log in at a provider (OpenID Connect Core 1.0, 3.1), and knows them again by a cookie.
type login struct {
	maru.Login
	issuer, secret, claim string
	base                  string // path that the gateway's own pages are below
	name                  string // of cookies
	claims                []string
	provider              provider
	refreshes             refreshes
}

const (
	defaultSession = 12 * time.Hour
	defaultPages   = "/.auth"
	loginTime      = 10 * time.Minute // that somebody has to log in
)

func newLogin(a *maru.Auth, path string) (step, error) {
	switch {
	case a.Login == nil || a.Issuer == "" || a.Login.Client == "":
		return nil, maru.Errorf(maru.Invalid, "it is not said where people log in, or as whose clients")
	case a.Login.Session < 0 || a.Login.Session > maru.LongestSession:
		return nil, maru.Errorf(maru.Invalid, "a session can't last %s", a.Login.Session)
	case a.Login.Path != "" && a.Login.Path[0] != '/':
		return nil, maru.Errorf(maru.Invalid, "a path begins with a slash")
	}
	s := &login{Login: *a.Login, issuer: a.Issuer, secret: a.Secret, claim: a.Claim}
	if s.Session == 0 {
		s.Session = defaultSession
	}
	if s.Path == "" {
		s.Path = defaultPages
	}
	if s.claim == "" {
		s.claim = "sub"
	}
	s.base = path + s.Path
	s.claims = slices.Sorted(maps.Keys(s.Claims))
	// Routes of a host that ask for the same have their sessions in common.
	sum := sha256.Sum256([]byte(strings.Join(append([]string{s.issuer, s.Client, s.claim, strings.Join(s.Scopes, " ")}, s.claims...), "\x00")))
	s.name = hex.EncodeToString(sum[:4])
	s.provider.issuer = s.issuer
	return s, nil
}

func (s *login) take(x *Exchange) *Answer {
	if x.env.Sealer == nil {
		return unavailable(errors.New("nothing can be sealed here"))
	}
	switch x.Request.Path {
	case s.base + "/callback":
		return s.callback(x)
	case s.base + "/logout":
		return s.logout(x)
	}
	now := time.Now()
	held, ok := s.session(x, now)
	if ok && now.Unix() >= held.Fresh && held.Refresh != "" {
		if held, ok = s.refreshed(x, held, now); ok {
			x.setCookies(s.store(x, held, now))
		}
	}
	switch {
	case ok && !s.permits(held):
		return &Answer{
			Status: http.StatusForbidden, Title: "Not allowed", Reason: held.User + " is not let in",
			What: "You are logged in as " + held.words() + ", who is not let in here.",
			Do:   "Log out at " + s.base + "/logout to log in as somebody else, or ask who runs this site.",
		}
	case ok:
		s.admit(x, held)
		return nil
	case navigates(x.Request):
		return s.send(x, now)
	}
	return &Answer{
		Status: http.StatusUnauthorized, Title: "Not logged in", Reason: "not logged in",
		What: "You are not logged in, or not any more.", Do: "Open this site in a browser to log in.",
		Header: message.Header{{Name: "WWW-Authenticate", Value: `Bearer realm="login"`}, {Name: "Cache-Control", Value: "no-store"}},
	}
}

// navigates tells whether a request is for a page that a person sees, so that one to log in at makes sense
// in its place.
func navigates(r *message.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// admit tells the service who it is.
func (s *login) admit(x *Exchange, held session) {
	x.User, x.Token = held.User, held.User
	set := func(name, value string) {
		if value != "" {
			x.Out.Edits = append(x.Out.Edits, message.Edit{Op: message.Set, Name: name, Value: value})
		}
	}
	set(UserHeader, held.User)
	set(EmailHeader, held.Email)
	set(GroupsHeader, strings.Join(held.Groups, ","))
}

// permits tells whether who logged in is one of those that the route lets in.
func (s *login) permits(held session) bool {
	if len(s.Emails) > 0 && !slices.ContainsFunc(s.Emails, func(allowed string) bool { return emailFits(allowed, held.Email) }) {
		return false
	}
	if len(s.Groups) > 0 && !overlap(s.Groups, held.Groups) {
		return false
	}
	for name, values := range s.Claims {
		if !overlap(values, held.Claims[name]) {
			return false
		}
	}
	return true
}

func emailFits(allowed, email string) bool {
	if domain, ok := strings.CutPrefix(allowed, "*@"); ok {
		_, of, found := strings.Cut(email, "@")
		return found && strings.EqualFold(of, domain)
	}
	return email != "" && strings.EqualFold(allowed, email)
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(v string) bool { return slices.Contains(b, v) })
}

func unavailable(err error) *Answer {
	return &Answer{
		Status: http.StatusServiceUnavailable, Title: "Login not possible", Reason: "login: " + err.Error(), After: keysAgain,
		What: "Nobody can log in here at the moment: the login provider can't be asked.", Do: "Try again in a moment.",
		Header: message.Header{{Name: "Cache-Control", Value: "no-store"}},
	}
}

// go to another place, without a page of one's own.
func redirectTo(place string, cookies []string) *Answer {
	a := &Answer{Status: http.StatusSeeOther, Reason: "login", Bare: true, Header: message.Header{
		{Name: "Location", Value: place}, {Name: "Cache-Control", Value: "no-store"},
	}}
	for _, c := range cookies {
		a.Header.Add("Set-Cookie", c)
	}
	return a
}

// setCookies gives the client cookies along with the answer, whoever gives it.
func (x *Exchange) setCookies(cookies []string) {
	x.onBegin(func(r *message.Response) {
		for _, c := range cookies {
			r.Header.Add("Set-Cookie", c)
		}
	})
}

// origin gives scheme and host by which the client came.
func (x *Exchange) origin() string { return x.scheme() + "://" + x.Request.Host }
