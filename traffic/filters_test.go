package traffic_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// mirrored is a service that answers with the header fields it got, and what it was asked for.
func mirrored(t *testing.T, routes ...maru.Route) maru.ServiceTraffic {
	s := web(startInstance(t, "mirror", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Server", "mirror")
		rw.Header().Set("X-From", "service")
		fmt.Fprint(rw, r.Method, " ", r.Host, r.RequestURI, " ", r.Header["X-A"], r.Header["X-B"], r.Header["Cookie"])
	})))
	s.Routes = routes
	return s
}

func ptr[T any](v T) *T { return &v }

func TestRewrite(t *testing.T) {
	w := newWorld(t, nil)
	w.set(mirrored(t,
		maru.Route{Host: "a.test", Path: "/old", Policy: &maru.RoutePolicy{Rewrite: &maru.Rewrite{Prefix: ptr("/new/v2")}}},
		maru.Route{Host: "a.test", Path: "/root", Policy: &maru.RoutePolicy{Rewrite: &maru.Rewrite{Prefix: ptr("/")}}},
		maru.Route{Host: "a.test", Path: "/one", Policy: &maru.RoutePolicy{Rewrite: &maru.Rewrite{Path: "/page.html", Host: "inner.test"}}},
		maru.Route{Host: "a.test", Policy: &maru.RoutePolicy{Rewrite: &maru.Rewrite{Prefix: ptr("/all")}}},
	))
	for target, want := range map[string]string{
		"/old":             "a.test/new/v2",
		"/old/":            "a.test/new/v2/",
		"/old/x%2Fy?q=1&q": "a.test/new/v2/x%2Fy?q=1&q",
		"/old?q":           "a.test/new/v2?q",
		"/root":            "a.test/",
		"/root/x":          "a.test/x",
		"/one/two?q=%2e":   "inner.test/page.html?q=%2e",
		"/":                "a.test/all/",
		"/x/../old/y":      "a.test/new/v2/y",
	} {
		if _, body := w.spell("GET", "a.test", target); body != "GET "+want+" [] [] []" {
			t.Errorf("%s: %q, want %s", target, body, want)
		}
	}
}

func TestRedirect(t *testing.T) {
	w := newWorld(t, nil)
	route := func(host, path string, r maru.Redirect) maru.Route {
		return maru.Route{Host: host, Path: path, Policy: &maru.RoutePolicy{Redirect: &r, Response: &maru.HeaderEdit{Set: map[string]string{"X-Hop": "1"}}}}
	}
	w.set(mirrored(t,
		route("secure.test", "", maru.Redirect{Scheme: "https", Status: 301}),
		route("old.test", "", maru.Redirect{Host: "new.test", Status: 308}),
		route("old.test", "/docs", maru.Redirect{Host: "docs.test", Prefix: ptr("/manual")}),
		route("old.test", "/port", maru.Redirect{Port: 8443, Scheme: "https", Path: "/x"}),
	))
	for _, c := range []struct {
		host, target string
		status       int
		want         string
	}{
		{"secure.test", "/a?b=c", 301, "https://secure.test/a?b=c"},
		{"secure.test:8080", "/", 301, "https://secure.test/"},
		{"secure.test", "//evil.test/x", 301, "https://secure.test//evil.test/x"},
		{"old.test:8080", "/x/../y", 308, "http://new.test:8080/y"},
		{"old.test:80", "/", 308, "http://new.test/"},
		{"old.test", "/docs/a%20b?q", 302, "http://docs.test/manual/a%20b?q"},
		{"old.test", "/port/1?q", 302, "https://old.test:8443/x?q"},
	} {
		res, body := w.spell("GET", c.host, c.target)
		if res.StatusCode != c.status || res.Header.Get("Location") != c.want || body != "" || res.Header.Get("X-Hop") != "1" || res.Header.Get("Cache-Control") != "" {
			t.Errorf("%s%s: %d %v %q", c.host, c.target, res.StatusCode, res.Header, body)
		}
	}
}

func TestHeaderEdits(t *testing.T) {
	w := newWorld(t, func(cfg *traffic.Config) { cfg.Hold = -1 })
	s := mirrored(t, maru.Route{Host: "a.test", Policy: &maru.RoutePolicy{
		Request:  &maru.HeaderEdit{Set: map[string]string{"x-a": "set"}, Add: map[string]string{"X-B": "added"}, Remove: []string{"cookie"}},
		Response: &maru.HeaderEdit{Set: map[string]string{"X-From": "gateway"}, Add: map[string]string{"X-More": "1"}, Remove: []string{"Server"}},
	}})
	w.set(s)
	for range 2 { // the second time after an update that left the policy as it was
		res, body := w.spell("GET", "a.test", "/", "X-A: 1", "X-A: 2", "X-B: b", "Cookie: c")
		if body != "GET a.test/ [set] [b added] []" || res.Header.Get("X-From") != "gateway" || res.Header.Get("X-More") != "1" || res.Header.Get("Server") != "" {
			t.Errorf("%q %v", body, res.Header)
		}
		w.set(s)
	}
	// An answer of the gateway's own is changed, too.
	s.Endpoints = nil
	w.set(s)
	if res, _ := w.spell("GET", "a.test", "/"); res.StatusCode != 503 || res.Header.Get("X-From") != "gateway" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

// TestBrokenPolicy: what can't be put in force lets nothing through, and is told.
func TestBrokenPolicy(t *testing.T) {
	w := newWorld(t, nil)
	s := mirrored(t, maru.Route{Host: "a.test", Policy: &maru.RoutePolicy{Redirect: &maru.Redirect{Status: 200}}})
	w.set(s)
	if res, _ := w.spell("GET", "a.test", "/"); res.StatusCode != 500 {
		t.Errorf("%d", res.StatusCode)
	}
	if p := w.Report().Problems; len(p) != 1 || p[0].What != "policy of a.test/" {
		t.Errorf("%v", p)
	}
	s.Routes = []maru.Route{{Host: "a.test"}}
	w.set(s)
	if res, _ := w.spell("GET", "a.test", "/"); res.StatusCode != 200 || len(w.Report().Problems) != 0 {
		t.Errorf("%d %v", res.StatusCode, w.Report().Problems)
	}
}
