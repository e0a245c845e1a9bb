package forward

import (
	"bufio"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru/traffic/message"
)

func TestForwardedOfTrustedProxy(t *testing.T) {
	e := New(Config{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, nil)
	for client, want := range map[string]http.Header{
		"10.1.1.1": {
			"X-Forwarded-For": {"1.2.3.4, 10.1.1.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"a.test:81"},
			"Forwarded": {`for=1.2.3.4, for=10.1.1.1;host="a.test:81";proto=http`}, "X-Real-Ip": {"10.1.1.1"},
		},
		"fd00::1": {
			"X-Forwarded-For": {"fd00::1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"a.test:81"},
			"Forwarded": {`for="[fd00::1]";host="a.test:81";proto=http`}, "X-Real-Ip": {"fd00::1"},
		},
	} {
		r := &message.Request{Method: "GET", Host: "a.test:81", Scheme: "http", Client: netip.MustParseAddr(client), Name: client, Header: message.Header{
			{Name: "X-Forwarded-For", Value: "1.2.3.4"}, {Name: "X-Forwarded-Proto", Value: "https"}, {Name: "Forwarded", Value: "for=1.2.3.4"},
			{Name: "Traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		}}
		x := e.exchange(nil, r, Call{Door: Gateway})
		x.outHeader()
		got := http.Header{}
		for _, f := range x.header {
			got.Add(f.Name, f.Value)
		}
		for _, other := range []string{"Traceparent", "X-Request-Id"} {
			got.Del(other)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", client, diff)
		}
	}
}

func TestStripPrefix(t *testing.T) {
	for _, c := range []struct{ in, prefix, want string }{
		{"/api", "/api", "/"},
		{"/api/", "/api", "/"},
		{"/api/x", "/api/", "/x"},
		{"/apix", "/api", "/apix"},
		{"/a%2Fb/x%2Fy", "/a/b", "/x/y"}, // the prefix is spelled in two ways: the rest is spelled anew
		{"/api/x%2Fy", "/api", "/x%2Fy"},
		{"/caf%C3%A9/x%2Fy", "/café", "/x%2Fy"},
		{"/x", "", "/x"},
		{"//x", "", "//x"},
	} {
		path, err := url.PathUnescape(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := message.CutPrefix(c.in+"?/api", path, c.prefix); got != c.want+"?/api" {
			t.Errorf("%s without %s: %s, want %s", c.in, c.prefix, got, c.want)
		}
	}
}

func TestPreferred(t *testing.T) {
	for _, c := range []struct{ accept, kind, want string }{
		{"", "", ""},
		{"*/*", "", ""},
		{"*/*", "application/json", "application/json"},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "", "text/html"},
		{"application/json, text/html;q=0.5", "", "application/json"},
		{"application/problem+json", "", "application/json"},
		{"text/plain, text/html;q=0.1", "", "text/plain"},
		{"text/html;q=0", "", ""},
		{";;;,,text/html;q=x", "", "text/html"},
	} {
		h := message.Header{{Name: "Content-Type", Value: c.kind}}
		if c.accept != "" {
			h.Set("Accept", c.accept)
		}
		if got := preferred(h); got != c.want {
			t.Errorf("%q, %q: %q, want %q", c.accept, c.kind, got, c.want)
		}
	}
}

// FuzzOutHeader: whatever header a client sends, no instance sees who it is from but from Maru, and
// no header of one connection gets to another.
func FuzzOutHeader(f *testing.F) {
	f.Add("X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6\r\nx-maru-caller: bank/admin\r\nConnection: upgrade, x-a\r\nUpgrade: websocket\r\nTe: trailers\r\nAccept: x;q=1")
	f.Add("Forwarded: for=6\r\nConnection: close, X-Forwarded-For\r\nTraceparent: 00-\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked")
	e := New(Config{}, nil)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\n" + text + "\r\n\r\n")))
		if err != nil {
			return
		}
		m := &message.Request{Method: "GET", Host: "a", Scheme: "http", Major: 1, Minor: 1, Client: netip.MustParseAddr("192.0.2.9"), Name: "192.0.2.9"}
		for k, values := range r.Header {
			for _, v := range values {
				m.Header.Add(k, v)
			}
		}
		x := e.exchange(nil, m, Call{Door: Gateway})
		_ = preferred(m.Header)
		x.outHeader()
		seen := 0
		for _, f := range x.header {
			name := http.CanonicalHeaderKey(strings.ReplaceAll(f.Name, "_", "-"))
			switch {
			case name == "X-Forwarded-For" || name == "X-Real-Ip":
				seen++
				if f.Value != "192.0.2.9" {
					t.Fatalf("%s: %q", f.Name, f.Value)
				}
			case name == Caller:
				t.Fatalf("%s: %q", f.Name, f.Value)
			case name == "Te" && f.Value == "trailers", name == "Connection" && f.Value == "TE" && x.upgrade == "":
			case message.HopByHop(name) && (x.upgrade == "" || name != "Connection" && name != "Upgrade"):
				t.Fatalf("%s: %q", f.Name, f.Value)
			}
		}
		if seen != 2 {
			t.Fatalf("%d headers say who asks", seen)
		}
	})
}
