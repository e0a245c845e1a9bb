package table

import (
	"net/url"
	"testing"

	"github.com/marucloud/maru"
)

func TestPermits(t *testing.T) {
	x := New()
	callee := service("api", 1)
	callee.Allow = []string{"gateway", "batch", "web"}
	callee.AllowCalls = map[string][]maru.CallRule{
		"web":     {{Methods: []string{"GET", "HEAD"}, Paths: []string{"/api", "/static/"}}, {Methods: []string{"POST"}, Paths: []string{"/api/orders"}}},
		"gateway": {{Methods: []string{"GET"}}},
	}
	apply(t, x, callee, service("web", 2), service("batch", 3))
	state := x.must("api").State()
	for _, c := range []struct {
		caller, method, target string
		want                   bool
	}{
		{"web", "GET", "/api", true},
		{"web", "GET", "/api/", true},
		{"web", "GET", "/api/users?x=/../y", true},
		{"web", "GET", "/static/a.css", true},
		{"web", "GET", "/apis", false},
		{"web", "GET", "/", false},
		{"web", "DELETE", "/api", false},
		{"web", "POST", "/api/orders/1", true},
		{"web", "POST", "/api/users", false},
		{"web", "GET", "/api/../admin", false},
		{"web", "GET", "/api/%2e%2e/admin", false},
		{"web", "GET", "/api/..;x=1/admin", false},
		{"web", "GET", "/api/%2e%2e%2fadmin", false},
		{"web", "GET", "/api%2fusers", false},
		{"web", "GET", "/api//admin", false},
		{"web", "GET", "//api/x", false},
		{"web", "GET", "/api/./x", false},
		{"web", "GET", `/api/..%5cadmin`, false},
		{"web", "GET", "/api/a%20b", true},
		{"batch", "DELETE", "/anything/../at/all", true},
		{"", "GET", "/x/../y", true},
		{"", "POST", "/x", false},
		{"api", "DELETE", "/", true},
	} {
		var caller *Service
		if c.caller != "" {
			caller = x.must(c.caller)
		}
		u, err := url.ParseRequestURI(c.target)
		if err != nil {
			t.Fatal(err)
		}
		if got := state.Permits(caller, c.method, u.Path, c.target); got != c.want {
			t.Errorf("%q %s %s: %v", c.caller, c.method, c.target, got)
		}
	}
}
