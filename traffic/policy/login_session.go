package policy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru/traffic/message"
)

// session is who logged in, as the client keeps it, encrypted.
type session struct {
	Subject string              `json:"s"`
	User    string              `json:"u"`
	Email   string              `json:"e,omitempty"` // verified
	Groups  []string            `json:"g,omitempty"`
	Claims  map[string][]string `json:"c,omitempty"` // those that somebody asks for
	End     int64               `json:"x"`           // Unix seconds
	Fresh   int64               `json:"f"`           // until when the provider's word counts
	Refresh string              `json:"r,omitempty"` // token
}

// words say who it is, for a page.
func (s session) words() string {
	if s.Email != "" {
		return s.Email
	}
	return s.User
}

const (
	// CookieMark is in the names of all cookies by which people who log in are known again.
	CookieMark    = "maru-login-"
	sessionCookie = CookieMark + "session-"
	begunCookie   = CookieMark + "begun-"

	cookieBytes = 3800 // of a cookie's value: browsers keep 4096 with name and attributes
	cookieParts = 6
)

// sessionName gives the name of the session's cookie. One that came by HTTPS is not to be had, nor set, by
// those who are in between where it is HTTP.
func (s *login) sessionName(x *Exchange) string {
	if x.scheme() == "https" {
		return "__Host-" + sessionCookie + s.name
	}
	return sessionCookie + s.name
}

// session gives who the client says it is, and proves.
func (s *login) session(x *Exchange, now time.Time) (session, bool) {
	text := gathered(x.Request.Header, s.sessionName(x))
	if text == "" {
		return session{}, false
	}
	data, ok := x.env.Sealer.Open("session "+s.name, message.HostName(x.Request.Host), text)
	var held session
	if !ok || json.Unmarshal(data, &held) != nil || now.Unix() >= held.End {
		return session{}, false
	}
	return held, true
}

// store gives the cookies that keep a session; those of one that is too large to be kept are none.
func (s *login) store(x *Exchange, held session, now time.Time) []string {
	data, err := json.Marshal(held)
	if err != nil {
		return nil // of strings alone
	}
	text := x.env.Sealer.Seal("session "+s.name, message.HostName(x.Request.Host), data)
	return s.spread(x, text, time.Unix(held.End, 0).Sub(now))
}

// spread puts a text into as many cookies as it needs: of several the first begins with their number.
func (s *login) spread(x *Exchange, text string, life time.Duration) []string {
	name := s.sessionName(x)
	count := (len(text) + cookieBytes - 1) / cookieBytes
	if count > cookieParts {
		return nil
	}
	var all []string
	for i := range count {
		part := text[i*cookieBytes : min(len(text), (i+1)*cookieBytes)]
		if i == 0 && count > 1 {
			part = strconv.Itoa(count) + "." + part
		}
		all = append(all, s.cookie(x, partName(name, i), part, "/", life))
	}
	for i := count; i < cookieParts; i++ { // of an earlier, longer one
		if _, had := cookieOf(x.Request.Header, partName(name, i)); had {
			all = append(all, s.cookie(x, partName(name, i), "", "/", 0))
		}
	}
	return all
}

// gathered gives the text that is in the cookies of that name.
func gathered(h message.Header, name string) string {
	first, _ := cookieOf(h, name)
	number, text, several := strings.Cut(first, ".")
	if !several {
		return first
	}
	count, err := strconv.Atoi(number)
	if err != nil || count > cookieParts {
		return ""
	}
	for i := 1; i < count; i++ {
		part, _ := cookieOf(h, partName(name, i))
		text += part
	}
	return text
}

func partName(name string, i int) string {
	if i == 0 {
		return name
	}
	return name + "-" + strconv.Itoa(i)
}

// cookie writes one (RFC 6265bis). Without a life it takes it away.
func (s *login) cookie(x *Exchange, name, value, path string, life time.Duration) string {
	c := http.Cookie{Name: name, Value: value, Path: path, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: x.scheme() == "https", MaxAge: int(life / time.Second)}
	if c.MaxAge <= 0 {
		c.MaxAge = -1
	}
	return c.String()
}

// cookieOf gives the first cookie of that name.
func cookieOf(h message.Header, name string) (value string, has bool) {
	for line := range h.Values("Cookie") {
		for pair := range strings.SplitSeq(line, ";") {
			if k, v, ok := strings.Cut(message.Trim(pair), "="); ok && k == name {
				return v, true
			}
		}
	}
	return "", false
}

// WithoutSessions takes the cookies by which people are known again out of a Cookie field: a service that has
// one could come in as whoever it is of.
func WithoutSessions(field string) string {
	var kept []string
	for pair := range strings.SplitSeq(field, ";") {
		if name, _, _ := strings.Cut(pair, "="); !strings.Contains(name, CookieMark) {
			kept = append(kept, message.Trim(pair))
		}
	}
	return strings.Join(kept, "; ")
}
