package forward

import (
	"bufio"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru/traffic/accesslog"
)

func TestTraceID(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	for value, want := range map[string]string{
		"00-" + id + "-b7ad6b7169203331-01":                                 id,
		"cc-" + id + "-b7ad6b7169203331-01-later":                           id,
		"00-" + id + "-b7ad6b7169203331-01-":                                "",
		"ff-" + id + "-b7ad6b7169203331-01":                                 "",
		"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01":            "",
		"00-" + id + "-0000000000000000-01":                                 "",
		"00-" + strings.ToUpper(id) + "-b7ad6b7169203331-01":                "",
		"00-" + id + "-b7ad6b7169203331":                                    "",
		"":                                                                  "",
		"cc-" + id + "-b7ad6b7169203331-01later":                            "",
		"00-" + id[:31] + "g-b7ad6b7169203331-01":                           "",
		"0--" + id + "-b7ad6b7169203331-01":                                 "",
		"00-" + id + "-b7ad6b7169203331-0x":                                 "",
		"00 " + id + " b7ad6b7169203331 01":                                 "",
		"00-" + id + "-b7ad6b7169203331-01" + strings.Repeat("-long", 1000): "",
	} {
		if got := traceID(http.Header{"Traceparent": {value}}); got != want {
			t.Errorf("%.60q: %q", value, got)
		}
	}
	for range 100 {
		id, parent := newTrace()
		if traceID(http.Header{"Traceparent": {parent}}) != id {
			t.Fatal(parent)
		}
	}
}

func FuzzTraceID(f *testing.F) {
	_, parent := newTrace()
	f.Add(parent)
	f.Add("00-")
	f.Fuzz(func(t *testing.T, value string) {
		if id := traceID(http.Header{"Traceparent": {value}}); id != "" && (len(id) != 32 || !lowerHex(id)) {
			t.Fatal(id)
		}
	})
}

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
		r, err := http.NewRequest("GET", "http://a.test:81/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=1.2.3.4"}}
		x := &exchange{e: e, r: r, call: Call{Door: Gateway}, client: netip.MustParseAddr(client), entry: accesslog.Entry{Scheme: "http"}}
		got := x.outHeader()
		for _, other := range []string{"User-Agent", "X-Request-Id"} {
			delete(got, other)
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
		u, err := url.Parse("http://host" + c.in)
		if err != nil {
			t.Fatal(err)
		}
		stripPrefix(u, c.prefix)
		if got := u.EscapedPath(); got != c.want {
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
		h := http.Header{}
		if c.accept != "" {
			h.Set("Accept", c.accept)
		}
		h.Set("Content-Type", c.kind)
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
		r.RemoteAddr = "192.0.2.9:1234"
		x := e.exchange(nil, r, Call{Door: Gateway})
		_ = preferred(r.Header)
		out := x.outHeader()
		seen := 0
		for k, v := range out {
			name := http.CanonicalHeaderKey(strings.ReplaceAll(k, "_", "-"))
			switch {
			case name == "X-Forwarded-For" || name == "X-Real-Ip":
				seen++
				if len(v) != 1 || v[0] != "192.0.2.9" {
					t.Fatalf("%s: %q", k, v)
				}
			case name == Caller:
				t.Fatalf("%s: %q", k, v)
			case hopByHop[name] && name != "Te" && (x.upgrade == "" || name != "Connection" && name != "Upgrade"):
				t.Fatalf("%s: %q", k, v)
			}
		}
		if seen != 2 {
			t.Fatalf("%d headers say who asks", seen)
		}
	})
}
