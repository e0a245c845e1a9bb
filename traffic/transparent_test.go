package traffic_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
	"github.com/marucloud/maru/traffic/discovery"
)

// shapes are answers of all kinds. What a client gets through the proxy is what it gets directly.
var shapes = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Got", fmt.Sprintf("%s %s %d %x %d %v", r.Method, r.RequestURI, n, sum.Sum(nil), r.ContentLength, r.Trailer))
	w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
	switch r.URL.Path {
	case "/empty":
	case "/204":
		w.WriteHeader(204)
	case "/304":
		w.Header().Set("Etag", `"x"`)
		w.WriteHeader(304)
	case "/redirect":
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	case "/length":
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "12345")
	case "/large":
		_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdef"), 1<<15))
	case "/flushed":
		for i := range 10 {
			fmt.Fprint(w, i)
			_ = http.NewResponseController(w).Flush()
		}
	case "/trailers":
		w.Header().Set("Trailer", "X-One")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-One", "1")
		w.Header().Set(http.TrailerPrefix+"X-Two", "2")
	case "/teapot":
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	}
})

func TestTransparent(t *testing.T) {
	w := newWorld(t, nil)
	inst := startInstance(t, "a", shapes)
	s := web(inst)
	h2 := web(inst)
	h2.Service, h2.Routes, h2.VirtualAddress = shop.Service("h2"), []maru.Route{{Host: "h2.test"}}, maru.Addresses{}
	h2.Ports = []maru.Port{{Port: port, Protocol: maru.TCP, App: "h2c"}}
	w.set(s, h2)
	direct := netip.AddrPortFrom(inst.addr, port).String()
	type seen struct {
		Status  int
		Header  http.Header
		Body    string
		Trailer http.Header
		Length  int64
	}
	ask := func(client *http.Client, method, address, host, path string, body func() (io.Reader, int64)) seen {
		r, err := http.NewRequest(method, "http://"+address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		if content, length := body(); content != nil {
			r.Body, r.ContentLength = io.NopCloser(content), length
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		defer res.Body.Close()
		all, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		sum := sha256.Sum256(all)
		res.Header.Del("Date")
		res.Header.Del("Trailer") // their announcement may be lost, they are not
		return seen{res.StatusCode, res.Header, fmt.Sprintf("%d %x", len(all), sum), res.Trailer, res.ContentLength}
	}
	once := func(c *http.Client) *http.Client {
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		return c
	}
	h1Client, h2Client := once(&http.Client{Transport: &http.Transport{DisableCompression: true}}), once(h2cClient())
	bodies := map[string]func() (io.Reader, int64){
		"none":    func() (io.Reader, int64) { return nil, 0 },
		"small":   func() (io.Reader, int64) { return strings.NewReader("small"), 5 },
		"chunked": func() (io.Reader, int64) { return strings.NewReader("chunked"), -1 },
		"large":   func() (io.Reader, int64) { return bytes.NewReader(make([]byte, 1<<20)), 1 << 20 },
	}
	for _, path := range []string{"/empty", "/204", "/304", "/redirect", "/length", "/large", "/flushed", "/trailers", "/teapot", "/a%2fb?x=%zz&y=1;2", "/a//b/c?"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "WEIRD"} {
			for name, body := range bodies {
				if name != "none" && (method == "GET" || method == "HEAD") || name == "large" && method != "POST" {
					continue
				}
				for _, c := range []struct {
					client *http.Client
					host   string
				}{{h1Client, "web.test"}, {h1Client, "h2.test"}, {h2Client, "web.test"}, {h2Client, "h2.test"}} {
					want := ask(h1Client, method, direct, "direct", path, body)
					got := ask(c.client, method, w.http, c.host, path, body)
					if c.client == h2Client || c.host == "h2.test" {
						// HTTP/2 has no need for a length where there is none, and no chunks.
						want.Length, got.Length = 0, 0
						want.Header.Del("Content-Length")
						got.Header.Del("Content-Length")
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s %s, body %s, %s to %s: %s", method, path, name, got.Header.Get("Via"), c.host, diff)
					}
				}
			}
		}
	}
}

// TestOldClient speaks HTTP/1.0, which knows neither chunks nor hosts.
func TestOldClient(t *testing.T) {
	w := newWorld(t, nil)
	s := web(startInstance(t, "a", shapes))
	s.Routes = append(s.Routes, maru.Route{Path: "/flushed"})
	w.set(s)
	c, err := net.Dial("tcp", w.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /flushed HTTP/1.0\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if _, body := text(t, res, err); body != "0123456789" || len(res.TransferEncoding) != 0 {
		t.Fatal(body, res.TransferEncoding)
	}
}

func TestExpectContinue(t *testing.T) {
	w := newWorld(t, nil)
	w.set(web(startInstance(t, "a", shapes)))
	c, err := net.Dial("tcp", w.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /length HTTP/1.1\r\nHost: web.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatal(line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "abc")
	res, err := http.ReadResponse(r, nil)
	if _, body := text(t, res, err); body != "12345" {
		t.Fatal(body)
	}
}

// syncBuffer is a buffer for one writer and one reader.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestAccessLog(t *testing.T) {
	out := &syncBuffer{}
	w := newWorld(t, func(cfg *traffic.Config) { cfg.AccessLog = out })
	w.set(web(startInstance(t, "web-1-a", shapes)))
	r := w.request("POST", "web.test", "/length?secret=1")
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader("abc")), 3
	res, err := http.DefaultClient.Do(r)
	text(t, res, err)
	if w.status("nowhere.test") != 404 {
		t.Fatal("found")
	}
	w.stop() // and what is queued is written
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || strings.Contains(out.String(), "secret") {
		t.Fatal(out.String())
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatal(err)
	}
	for _, measured := range []string{"time", "duration", "upstream", "agent"} {
		if got[measured] == nil {
			t.Errorf("no %s in %s", measured, lines[0])
		}
		delete(got, measured)
	}
	if diff := cmp.Diff(map[string]any{
		"door": "gateway", "route": "web.test", "id": "0af7651916cd43dd8448eb211c80319c", "client": "127.0.0.1", "protocol": "HTTP/1.1", "method": "POST",
		"scheme": "http", "host": "web.test", "path": "/length", "status": 200.0, "in": 3.0, "out": 5.0,
		"service": "default/production/shop/web", "release": 1.0, "instance": "web-1-a", "attempts": 1.0,
	}, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(lines[1], `"status":404`) || !strings.Contains(lines[1], `"error":"no route"`) {
		t.Error(lines[1])
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, cfg := range map[string]traffic.Config{
		"":                           {Resolvers: []netip.AddrPort{}},
		"range virtualV6 is not set": {Ranges: maru.Ranges{InstancesV4: netip.MustParsePrefix("10.0.0.0/8"), InstancesV6: netip.MustParsePrefix("fd00::/64"), VirtualV4: netip.MustParsePrefix("11.0.0.0/8")}},
	} {
		_, err := traffic.New(cfg, slog.New(slog.DiscardHandler))
		if want == "" && err != nil || want != "" && (maru.KindOf(err) != maru.Invalid || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", want, err)
		}
	}
	if _, err := discovery.HostResolvers("/nowhere"); maru.KindOf(err) != maru.Unavailable {
		t.Error(err)
	}
}
