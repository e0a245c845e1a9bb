package traffic_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

func guarded(policy maru.RoutePolicy) maru.Route { return maru.Route{Host: "a.test", Policy: &policy} }

// TestCORS: the CORS protocol of the Fetch standard, as a browser sees it.
func TestCORS(t *testing.T) {
	w := newWorld(t, nil)
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Access-Control-Allow-Origin", "https://the.service.itself")
		fmt.Fprint(rw, r.Method)
	})))
	s.Routes = []maru.Route{
		guarded(maru.RoutePolicy{CORS: &maru.CORS{
			Origins: []string{"https://one.test", "https://*.two.test"}, Methods: []string{"GET", "PUT"}, Headers: []string{"X-A"},
			Expose: []string{"X-B"}, Credentials: true, MaxAge: time.Hour,
		}, Addresses: &maru.AddressList{Deny: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}}),
		{Host: "any.test", Policy: &maru.RoutePolicy{CORS: &maru.CORS{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*"}}}},
	}
	w.set(s)
	for _, c := range []struct{ host, origin, want string }{
		{"a.test", "https://one.test", "https://one.test true Origin X-B"},
		{"a.test", "https://x.two.test", "https://x.two.test true Origin X-B"},
		{"a.test", "https://evil.test/.two.test", "  Origin "},
		{"a.test", "https://two.test", "  Origin "},
		{"a.test", "https://eviltwo.test", "  Origin "},
		{"a.test", "http://one.test", "  Origin "},
		{"a.test", "null", "  Origin "},
		{"any.test", "https://x.test", "*   "},
	} {
		res, body := w.spell("PUT", c.host, "/", "Origin: "+c.origin)
		h := res.Header
		got := strings.Join([]string{h.Get("Access-Control-Allow-Origin"), h.Get("Access-Control-Allow-Credentials"), h.Get("Vary"), h.Get("Access-Control-Expose-Headers")}, " ")
		if got != c.want || body != "PUT" || len(h["Access-Control-Allow-Origin"]) > 1 {
			t.Errorf("%s from %s: %q, want %q", c.host, c.origin, got, c.want)
		}
	}
	res, body := w.spell("OPTIONS", "a.test", "/", "Origin: https://one.test", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-a")
	h := res.Header
	if res.StatusCode != 204 || body != "" || h.Get("Access-Control-Allow-Methods") != "GET, PUT" || h.Get("Access-Control-Allow-Headers") != "X-A" ||
		h.Get("Access-Control-Max-Age") != "3600" || h.Get("Access-Control-Allow-Credentials") != "true" || len(h["Vary"]) != 3 {
		t.Error(res.Status, h)
	}
	res, _ = w.spell("OPTIONS", "a.test", "/", "Origin: https://evil.test", "Access-Control-Request-Method: PUT")
	if res.StatusCode != 204 || res.Header.Get("Access-Control-Allow-Origin") != "" || res.Header.Get("Access-Control-Allow-Methods") != "" {
		t.Error(res.Header)
	}
	res, _ = w.spell("OPTIONS", "any.test", "/", "Origin: https://x.test", "Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: a,b")
	if res.Header.Get("Access-Control-Allow-Methods") != "PATCH" || res.Header.Get("Access-Control-Allow-Headers") != "a,b" {
		t.Error(res.Header)
	}
	if _, body := w.spell("OPTIONS", "a.test", "/"); body != "OPTIONS" {
		t.Errorf("an OPTIONS that is no preflight is answered %q", body)
	}
}

func decoded(t *testing.T, encoding, body string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	switch encoding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case "br":
		r = brotli.NewReader(r)
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestCompress(t *testing.T) {
	w := newWorld(t, nil)
	long := strings.Repeat("all work and no play makes a dull proxy ", 1000)
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("ETag", `"x"`)
		h.Set("Accept-Ranges", "bytes")
		body := long
		switch r.URL.Path {
		case "/short":
			body = "short"
		case "/image":
			h.Set("Content-Type", "image/png")
		case "/thing":
			h.Set("Content-Type", "application/x-thing")
		case "/encoded":
			h.Set("Content-Encoding", "x-own")
		case "/asis":
			h.Set("Cache-Control", "private, no-transform")
		case "/part":
			h.Set("Content-Range", "bytes 0-9/10")
			rw.WriteHeader(http.StatusPartialContent)
		case "/weak":
			h.Set("ETag", `W/"x"`)
			h.Set("Vary", "Cookie")
		case "/none":
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(rw, body)
	})))
	s.Routes = []maru.Route{guarded(maru.RoutePolicy{Compress: &maru.Compress{Types: []string{"application/x-thing"}}})}
	w.set(s)
	for _, c := range []struct{ path, accept, encoding string }{
		{"/", "gzip, deflate, br, zstd", "zstd"},
		{"/", "gzip, deflate, br", "br"},
		{"/", "gzip", "gzip"},
		{"/", "gzip;q=1.0, br;q=0.5, zstd;q=0", "gzip"},
		{"/", "*", "zstd"},
		{"/", "*;q=0.1, identity;q=0.5", ""},
		{"/", "zstd;q=2, GZIP", "gzip"},
		{"/", "deflate", ""},
		{"/", "", ""},
		{"/weak", "br", "br"},
		{"/thing", "br", "br"},
		{"/short", "gzip", ""},
		{"/image", "gzip", ""},
		{"/encoded", "gzip", "x-own"},
		{"/asis", "gzip", ""},
		{"/part", "gzip", ""},
	} {
		res, body := w.spell("GET", "a.test", c.path, "Accept-Encoding: "+c.accept)
		h := res.Header
		if got := h.Get("Content-Encoding"); got != c.encoding {
			t.Errorf("%s for %q is encoded %q, want %q", c.path, c.accept, got, c.encoding)
			continue
		}
		compressed := c.encoding != "" && c.path != "/encoded"
		if want := map[bool]string{true: `W/"x"`, false: `"x"`}[compressed]; h.Get("ETag") != want {
			t.Errorf("%s for %q: ETag %s", c.path, c.accept, h.Get("ETag"))
		}
		if (h.Get("Accept-Ranges") == "") != compressed || compressed && (len(body) > len(long)/10 || decoded(t, c.encoding, body) != long) {
			t.Errorf("%s for %q: %d bytes, %v", c.path, c.accept, len(body), h)
		}
		fits := c.path != "/image" && c.path != "/encoded" && c.path != "/asis" && c.path != "/part"
		if vary := strings.Join(h["Vary"], ","); strings.Contains(vary, "Accept-Encoding") != fits || c.path == "/weak" && vary != "Cookie,Accept-Encoding" {
			t.Errorf("%s for %q varies by %q", c.path, c.accept, vary)
		}
	}
	if res, body := w.spell("HEAD", "a.test", "/", "Accept-Encoding: gzip"); res.Header.Get("Content-Encoding") != "gzip" || res.ContentLength > 0 || body != "" {
		t.Error(res.Header, res.ContentLength)
	}
	if res, _ := w.spell("GET", "a.test", "/none", "Accept-Encoding: gzip"); res.StatusCode != 304 || res.Header.Get("Content-Encoding") != "" {
		t.Error(res.Header)
	}
}

// TestCompressedStream: what was said is not held back by the compression.
func TestCompressedStream(t *testing.T) {
	w := newWorld(t, nil)
	next := make(chan struct{})
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(rw, "data: %d\n\n", i)
			_ = http.NewResponseController(rw).Flush()
			<-next
		}
	})))
	s.Routes = []maru.Route{guarded(maru.RoutePolicy{Compress: &maru.Compress{}})}
	for _, app := range []string{"http", "h2c"} {
		s.Ports[0].App = app
		w.set(s)
		for _, encoding := range []string{"gzip", "br", "zstd"} {
			r := w.request("GET", "a.test", "/")
			r.Header.Set("Accept-Encoding", encoding)
			res, err := http.DefaultClient.Do(r)
			if err != nil || res.Header.Get("Content-Encoding") != encoding {
				t.Fatal(res, err)
			}
			var got bytes.Buffer
			piece := make([]byte, 4096)
			for i := range 3 {
				for !strings.Contains(partly(encoding, got.Bytes()), fmt.Sprintf("data: %d\n\n", i)) {
					n, err := res.Body.Read(piece)
					if got.Write(piece[:n]); err != nil {
						t.Fatal(encoding, err)
					}
				}
				next <- struct{}{}
			}
			res.Body.Close()
		}
	}
}

// partly decodes what there is so far.
func partly(encoding string, data []byte) string {
	var r io.Reader = bytes.NewReader(data)
	var err error
	switch encoding {
	case "gzip":
		if r, err = gzip.NewReader(r); err != nil {
			return ""
		}
	case "br":
		r = brotli.NewReader(r)
	case "zstd":
		z, _ := zstd.NewReader(r)
		defer z.Close()
		r = z
	}
	all, _ := io.ReadAll(r)
	return string(all)
}

func TestMaintenanceAndAddresses(t *testing.T) {
	w := newWorld(t, func(cfg *traffic.Config) {
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	office := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	s := mirrored(t,
		guarded(maru.RoutePolicy{Maintenance: &maru.Maintenance{Text: "Back at noon.", Except: office}}),
		maru.Route{Host: "office.test", Policy: &maru.RoutePolicy{Addresses: &maru.AddressList{Allow: office, Deny: []netip.Prefix{netip.MustParsePrefix("192.0.2.66/32")}}}},
	)
	w.set(s)
	for _, c := range []struct {
		host, forwarded string
		status          int
	}{
		{"a.test", "203.0.113.1", 503},
		{"a.test", "192.0.2.1", 200},
		{"a.test", "192.0.2.1, 203.0.113.1", 503}, // the client wrote the first itself
		{"a.test", "203.0.113.1, 192.0.2.1, 10.1.2.3", 200},
		{"a.test", "192.0.2.1:4711", 200},
		{"a.test", "[2001:db8::7]:80", 200},
		{"a.test", "192.0.2.1, nonsense", 503},
		{"office.test", "192.0.2.7", 200},
		{"office.test", "192.0.2.66", 403},
		{"office.test", "::ffff:192.0.2.7", 200},
		{"office.test", "", 403},
	} {
		header := []string{"Accept: text/plain"}
		if c.forwarded != "" {
			header = append(header, "X-Forwarded-For: "+c.forwarded)
		}
		res, body := w.spell("GET", c.host, "/", header...)
		if res.StatusCode != c.status || c.status == 503 && (!strings.Contains(body, "Back at noon.") || res.Header.Get("Retry-After") != "60") {
			t.Errorf("%s from %q: %d %v %q", c.host, c.forwarded, res.StatusCode, res.Header, body)
		}
	}
}

func TestBodyAndTimeLimit(t *testing.T) {
	w := newWorld(t, nil)
	var whole, read atomic.Int64
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		data, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		whole.Add(1)
		read.Store(int64(len(data)))
	})))
	s.Timeout = time.Minute
	s.Routes = []maru.Route{
		guarded(maru.RoutePolicy{MaxBody: 100_000}),
		{Host: "a.test", Path: "/slow", Policy: &maru.RoutePolicy{Timeout: 50 * time.Millisecond}},
	}
	for _, app := range []string{"http", "h2c"} {
		s.Ports[0].App = app
		w.set(s)
		for _, c := range []struct {
			size    int
			chunked bool
			status  int
		}{{100_000, false, 200}, {100_001, false, 413}, {100_000, true, 200}, {100_001, true, 413}, {5_000_000, true, 413}} {
			r := w.request("POST", "a.test", "/")
			r.Body = io.NopCloser(bytes.NewReader(make([]byte, c.size)))
			r.ContentLength = int64(c.size)
			if c.chunked {
				r.ContentLength = -1
			}
			before := whole.Load()
			res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
			if err != nil && c.size > 1_000_000 {
				continue // it still sent when the connection was closed
			}
			if status, _ := text(t, res, err); status != c.status || (whole.Load() > before) != (status == 200) || status == 200 && read.Load() != int64(c.size) {
				t.Errorf("%s, %d bytes, chunked %v: %d", app, c.size, c.chunked, status)
			}
		}
		began := time.Now()
		if res, _ := w.spell("GET", "a.test", "/slow"); res.StatusCode != 504 || time.Since(began) > 10*time.Second {
			t.Error(app, res.Status)
		}
	}
}
