package policy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru/traffic/message"
)

// FuzzCookies: whatever cookies a client sends, a session is read whole or not at all, and those of the gateway
// reach no service.
func FuzzCookies(f *testing.F) {
	f.Add("a=b; maru-login-session-x=2.abc; maru-login-session-x-1=def", 9000)
	f.Add(" __Host-maru-login-session-x =1;;=;", 0)
	f.Fuzz(func(t *testing.T, field string, size int) {
		h := message.Header{{Name: "Cookie", Value: field}}
		if text := gathered(h, "maru-login-session-x"); len(text) > len(field) {
			t.Fatalf("%q gives %q", field, text)
		}
		rest := WithoutSessions(field)
		for pair := range strings.SplitSeq(rest, ";") {
			if name, _, _ := strings.Cut(pair, "="); strings.Contains(name, CookieMark) {
				t.Fatalf("%q is left of %q", rest, field)
			}
		}
		if WithoutSessions(rest) != rest {
			t.Fatalf("%q is not the end of it", rest)
		}
		// What is spread over cookies is gathered again.
		s := &login{name: "x"}
		x := &Exchange{Request: &message.Request{Scheme: "http"}}
		want := strings.Repeat("0123456789abcdef", min(max(size, 1), 1300))
		var pairs []string
		for _, line := range s.spread(x, want, time.Hour) {
			c, err := http.ParseSetCookie(line)
			if err != nil {
				t.Fatal(err)
			}
			pairs = append(pairs, fmt.Sprintf("%s=%s", c.Name, c.Value))
		}
		if got := gathered(message.Header{{Name: "Cookie", Value: strings.Join(pairs, "; ")}}, s.sessionName(x)); got != want {
			t.Fatalf("%d bytes of %d", len(got), len(want))
		}
	})
}

func TestWhoIsLetIn(t *testing.T) {
	for _, c := range []struct {
		allowed, email string
		want           bool
	}{
		{"ada@example.com", "Ada@Example.com", true},
		{"ada@example.com", "ada@example.com.evil.test", false},
		{"*@example.com", "ada@example.com", true},
		{"*@example.com", "ada@sub.example.com", false},
		{"*@example.com", "ada@evil.test@example.com", false},
		{"*@example.com", "example.com", false},
		{"*@example.com", "", false},
		{"", "", false},
	} {
		if got := emailFits(c.allowed, c.email); got != c.want {
			t.Errorf("%q for %q: %v", c.email, c.allowed, got)
		}
	}
	claims := map[string]any{"a": map[string]any{"b": []any{"x", 5.0, true, nil, "y\n"}}, "a.c": "z"}
	if got := textsOf(claimOf(claims, "a.b")); strings.Join(got, " ") != "x 5 true" {
		t.Error(got)
	}
	if got := textsOf(claimOf(claims, "a.c")); strings.Join(got, " ") != "z" {
		t.Error(got)
	}
	if claimOf(claims, "a.d") != nil || claimOf(claims, "b.a") != nil {
		t.Error("a claim that is not there")
	}
}
