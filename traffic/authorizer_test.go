package traffic_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// gate lets in who has a ticket, and says what it was asked.
func gate(t *testing.T, asked *atomic.Pointer[http.Request]) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); len(body) > 0 {
			t.Errorf("the authorizer gets a body: %q", body)
		}
		asked.Store(r)
		switch r.Header.Get("X-Ticket") {
		case "valid":
			rw.Header().Set("X-Auth-User", "ada")
			rw.Header()["X-Role"] = []string{"admin", "ops"}
			rw.Header().Set("X-Other", "not taken")
			http.SetCookie(rw, &http.Cookie{Name: "gate", Value: "1"})
		case "login":
			http.Redirect(rw, r, "https://login.test/?rd="+r.Header.Get("X-Original-Url"), http.StatusFound)
		case "forbidden":
			rw.Header().Set("Content-Type", "text/x-own")
			rw.WriteHeader(http.StatusForbidden)
			fmt.Fprint(rw, "not you")
		case "broken":
			rw.WriteHeader(http.StatusInternalServerError)
		case "slow":
			<-r.Context().Done()
		case "endless":
			for {
				if _, err := rw.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		default:
			rw.Header().Set("WWW-Authenticate", "Ticket")
			rw.WriteHeader(http.StatusUnauthorized)
		}
	})
}

// TestForwardAuth asks a service of the app, and one at an address, who is let in.
func TestForwardAuth(t *testing.T) {
	w := newWorld(t, nil)
	var asked atomic.Pointer[http.Request]
	there := httptest.NewServer(gate(t, &asked))
	defer there.Close()
	of := maru.ForwardAuth{Take: []string{"X-Role"}, User: "X-Auth-User", Timeout: 300 * time.Millisecond}
	by := func(change func(*maru.ForwardAuth)) *maru.RoutePolicy {
		f := of
		change(&f)
		return &maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.ForwardedAuth, Forward: &f}}
	}
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%q %q %q %q %q %s", r.Header["X-Maru-User"], r.Header["X-Auth-User"], r.Header["X-Role"], r.Header["X_role"], r.Header["X-Other"], body)
	})))
	s.Routes = []maru.Route{
		{Host: "service.test", Policy: by(func(f *maru.ForwardAuth) { f.Service, f.Path = "gate", "/verify?x=y" })},
		{Host: "url.test", Policy: by(func(f *maru.ForwardAuth) { f.URL = there.URL + "/verify?x=y" })},
		{Host: "open.test", Policy: by(func(f *maru.ForwardAuth) { f.Service, f.Open = "gate", true })},
		{Host: "nobody.test", Policy: by(func(f *maru.ForwardAuth) { f.Service = "nobody" })},
		{Host: "dead.test", Policy: by(func(f *maru.ForwardAuth) { f.URL = "http://127.0.0.1:1/" })},
		{Host: "few.test", Policy: by(func(f *maru.ForwardAuth) { f.Service, f.Send = "gate", []string{"X-Ticket"} })},
	}
	g := web(startInstance(t, "g", gate(t, &asked)))
	g.Service, g.Routes, g.VirtualAddress = shop.Service("gate"), nil, maru.Addresses{V4: netip.MustParseAddr("127.78.0.11")}
	w.set(s, g)
	const in = `["ada"] ["ada"] ["admin" "ops"] [] [] body`
	const out = `[] [] [] [] [] body`
	for _, c := range []struct {
		host, ticket string
		status       int
		body         string
	}{
		{"service.test", "valid", 200, in},
		{"service.test", "none", 401, ""},
		{"service.test", "forbidden", 403, "not you"},
		{"service.test", "login", 302, ""},
		{"service.test", "broken", 503, ""},
		{"service.test", "slow", 503, ""},
		{"service.test", "endless", 503, ""},
		{"url.test", "valid", 200, in},
		{"url.test", "none", 401, ""},
		{"url.test", "forbidden", 403, "not you"},
		{"url.test", "login", 302, ""},
		{"url.test", "broken", 503, ""},
		{"url.test", "slow", 503, ""},
		{"open.test", "valid", 200, in},
		{"open.test", "none", 401, ""},
		{"open.test", "broken", 200, out},
		{"open.test", "slow", 200, out},
		{"nobody.test", "valid", 503, ""},
		{"dead.test", "valid", 503, ""},
		{"few.test", "valid", 200, in},
	} {
		r := w.request("POST", c.host, "/order?n=1")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), 4
		for name, value := range map[string]string{
			"X-Ticket": c.ticket, "X-Auth-User": "root", "X-Role": "root", "x_role": "root", "X-Maru-User": "root",
			"X-Forwarded-Uri": "/elsewhere", "X-Forwarded-For": "9.9.9.9", "X-Original-Url": "http://evil.test/", "Cookie": "own=1",
		} {
			r.Header[name] = []string{value}
		}
		res, err := http.DefaultTransport.RoundTrip(r)
		status, body := text(t, res, err)
		if status != c.status || c.body != "" && body != c.body {
			t.Errorf("%s at %s: %d %s, want %d %s", c.ticket, c.host, status, body, c.status, c.body)
		}
		switch h := res.Header; {
		case c.ticket == "valid" && status == 200 && h.Get("Set-Cookie") != "gate=1",
			c.status == 401 && h.Get("WWW-Authenticate") != "Ticket",
			c.status == 403 && h.Get("Content-Type") != "text/x-own",
			c.status == 302 && h.Get("Location") != "https://login.test/?rd=http://"+c.host+"/order?n=1":
			t.Errorf("%s at %s: %v", c.ticket, c.host, h)
		}
		if c.host == "nobody.test" || c.host == "dead.test" {
			continue
		}
		q := asked.Load()
		if got := fmt.Sprint(q.Method, " ", q.Header["X-Forwarded-Method"], q.Header["X-Forwarded-Uri"], q.Header["X-Forwarded-Host"], q.Header["X-Forwarded-Proto"], q.Header["X-Forwarded-For"], q.Header["X-Maru-User"]); got !=
			"GET [POST] [/order?n=1] ["+c.host+"] [http] [127.0.0.1] []" {
			t.Errorf("%s asks %s", c.host, got)
		}
		if cookie := q.Header.Get("Cookie"); (cookie == "own=1") == (c.host == "few.test") {
			t.Errorf("%s passes on cookie %q", c.host, cookie)
		}
		if path := q.URL.String(); path != "/verify?x=y" && strings.HasPrefix(c.host, "service") {
			t.Errorf("%s asks for %s", c.host, path)
		}
	}
}

// TestForwardAuthBehindProxy tells the authorizer what a trusted proxy says of the client.
func TestForwardAuthBehindProxy(t *testing.T) {
	w := newWorld(t, func(cfg *traffic.Config) { cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	var asked atomic.Pointer[http.Request]
	there := httptest.NewServer(gate(t, &asked))
	defer there.Close()
	s := web(startInstance(t, "a", say("a")))
	s.Routes = []maru.Route{guarded(maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.ForwardedAuth, Forward: &maru.ForwardAuth{URL: there.URL}}})}
	w.set(s)
	if res, _ := w.spell("GET", "a.test", "/", "X-Ticket: valid", "X-Forwarded-For: 6.6.6.6, 192.0.2.7", "X-Forwarded-Proto: https"); res.StatusCode != 200 {
		t.Error(res.Status)
	}
	if h := asked.Load().Header; h.Get("X-Forwarded-For") != "192.0.2.7" || h.Get("X-Forwarded-Proto") != "https" || h.Get("X-Original-Url") != "https://a.test/" {
		t.Error(h)
	}
}
