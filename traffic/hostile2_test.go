package traffic_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawHTTP2 is a client that says whatever a test wants.
type rawHTTP2 struct {
	conn *tls.Conn
	*http2.Framer
	enc  *hpack.Encoder
	head bytes.Buffer
}

func dialHTTP2(t *testing.T, w *secureWorld) *rawHTTP2 {
	t.Helper()
	c, err := openHTTP2(w.https, &tls.Config{RootCAs: w.roots, ServerName: "web.test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	return c
}

func openHTTP2(address string, cfg *tls.Config) (*rawHTTP2, error) {
	cfg.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", address, cfg)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &rawHTTP2{conn: conn, Framer: http2.NewFramer(conn, conn)}
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.head)
	if _, err = io.WriteString(conn, http2.ClientPreface); err == nil {
		err = c.WriteSettings()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// block gives the fields, names and values in turn, compressed.
func (c *rawHTTP2) block(fields ...string) []byte {
	c.head.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.head.Bytes())
}

func (c *rawHTTP2) get(more ...string) []byte {
	return c.block(append([]string{":method", "GET", ":scheme", "https", ":authority", "web.test", ":path", "/"}, more...)...)
}

// end reads until the server says how a stream, or with 0 the connection, ends: a status, a reset of the
// stream, or the end of the connection.
func (c *rawHTTP2) end(stream uint32) string {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream {
				return f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return "GOAWAY " + f.ErrCode.String()
			}
		}
	}
}

// hostileWorld counts what comes to the service, and tells that others are served still.
func hostileWorld(t *testing.T) (w *secureWorld, came *atomic.Int64, others func()) {
	w = newSecureWorld(t, false, nil, "web.test")
	came = new(atomic.Int64)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		came.Add(1)
		for name, values := range r.Header {
			if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") || name == "Injected" {
				t.Errorf("%q: %q", name, values)
			}
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
	}))))
	return w, came, func() {
		t.Helper()
		if res, _ := ask(t, w.client(nil, true), "https://web.test/", nil); res.StatusCode != 200 {
			t.Error("others are not served:", res.Status)
		}
	}
}

// TestHTTP2MalformedRequests refuses what could be read in two ways behind the proxy (RFC 9113, 8.2 and 8.3).
func TestHTTP2MalformedRequests(t *testing.T) {
	w, came, others := hostileWorld(t)
	get := []string{":method", "GET", ":scheme", "https", ":authority", "web.test", ":path", "/"}
	with := func(more ...string) []string { return append(append([]string(nil), get...), more...) }
	for name, fields := range map[string][]string{
		"line end in a value":       with("x-a", "b\r\nInjected: yes"),
		"line feed in a value":      with("x-a", "b\ninjected: yes"),
		"zero in a value":           with("x-a", "b\x00"),
		"line end in a name":        with("x-a\r\ninjected", "yes"),
		"colon in a name":           with("x-a: b", "yes"),
		"capital in a name":         with("X-Upper", "yes"),
		"line end in the path":      {":method", "GET", ":scheme", "https", ":authority", "web.test", ":path", "/ HTTP/1.1\r\nInjected: yes"},
		"line end in the method":    {":method", "GET / HTTP/1.1\r\nInjected: yes\r\n", ":scheme", "https", ":authority", "web.test", ":path", "/"},
		"line end in the authority": {":method", "GET", ":scheme", "https", ":authority", "web.test\r\nInjected: yes", ":path", "/"},
		"no method":                 get[2:],
		"no path":                   get[:6],
		"no scheme":                 {":method", "GET", ":authority", "web.test", ":path", "/"},
		"two paths":                 with(":path", "/b"),
		"two methods":               with(":method", "POST"),
		"pseudo-header behind":      with("x-a", "b", ":authority", "web.test"),
		"unknown pseudo-header":     with(":version", "2"),
		"status":                    with(":status", "200"),
		"connection field":          with("connection", "keep-alive"),
		"transfer coding":           with("transfer-encoding", "chunked"),
		"upgrade":                   with("upgrade", "websocket"),
		"te":                        with("te", "gzip"),
		"user in the authority":     {":method", "GET", ":scheme", "https", ":authority", "u@web.test", ":path", "/"},
		"other host":                with("host", "other.test"),
	} {
		c := dialHTTP2(t, w)
		if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(fields...), EndStream: true, EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		if got := c.end(1); got == "200" && name != "other host" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if n := came.Load(); n > 1 {
		t.Errorf("%d came to the service", n)
	}
	others()
}

// TestHTTP2Lengths refuses a body that is not as long as it said (RFC 9113, 8.1.1): behind the proxy the rest
// would be another request.
func TestHTTP2Lengths(t *testing.T) {
	w, _, others := hostileWorld(t)
	for body, length := range map[string]string{"abcdef": "3", "abc": "6", "": "5", "abcd": "x"} {
		c := dialHTTP2(t, w)
		head := c.block(":method", "POST", ":scheme", "https", ":authority", "web.test", ":path", "/", "content-length", length)
		if err := errors.Join(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndHeaders: true}), c.WriteData(1, true, []byte(body))); err != nil {
			t.Fatal(err)
		}
		if got := c.end(1); got == "200" && body != "" {
			t.Errorf("%q as %s: %s", body, length, got)
		}
	}
	others()
}

// resetFlood opens a stream and resets it.
func resetFlood(c *rawHTTP2, id uint32) error {
	head := c.block(":method", "GET", ":scheme", "https", ":authority", "web.test", ":path", "/slow")
	err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true})
	return errors.Join(err, c.WriteRSTStream(id, http2.ErrCodeCancel))
}

func settingsFlood(c *rawHTTP2, _ uint32) error {
	return c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
}

func pingFlood(c *rawHTTP2, _ uint32) error { return c.WritePing(false, [8]byte{}) }

// continuationFlood begins with a head that does not end.
func continuationFlood(c *rawHTTP2, id uint32) error {
	if id == 1 {
		return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.get()})
	}
	return c.WriteContinuation(1, false, c.block("x-filler", strings.Repeat("a", 8<<10)))
}

// TestHTTP2RapidReset opens streams and resets them at once, ever on (CVE-2023-44487): the connection is ended,
// no more of them are with the service at once than a client may have open, and others are served.
func TestHTTP2RapidReset(t *testing.T) {
	w, came, others := hostileWorld(t)
	c := dialHTTP2(t, w)
	const streams = 10000
	go func() {
		for id := uint32(1); id < 2*streams && resetFlood(c, id) == nil; id += 2 {
		}
	}()
	if got := c.end(0); got != "GOAWAY ENHANCE_YOUR_CALM" {
		t.Error(got)
	}
	others()
	if n := came.Load(); n > streams/10 {
		t.Errorf("%d came to the service", n)
	}
	eventually(t, "nothing in flight", func() bool { return w.Report().InFlight["a"] == 0 })
}

// TestHTTP2MadeYouReset does the same by having the server reset the streams (CVE-2025-8671).
func TestHTTP2MadeYouReset(t *testing.T) {
	w, came, others := hostileWorld(t)
	c := dialHTTP2(t, w)
	go func() {
		for id := uint32(1); id < 20000; id += 2 {
			head := c.block(":method", "GET", ":scheme", "https", ":authority", "web.test", ":path", "/slow")
			err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true})
			if err = errors.Join(err, c.WriteWindowUpdate(id, 1<<31-1)); err != nil {
				return
			}
		}
	}()
	if got := c.end(0); got != "GOAWAY ENHANCE_YOUR_CALM" {
		t.Error(got)
	}
	others()
	if n := came.Load(); n > 1000 {
		t.Errorf("%d came to the service", n)
	}
	eventually(t, "nothing in flight", func() bool { return w.Report().InFlight["a"] == 0 })
}

// TestHTTP2Floods ends connections that make work and ask for nothing (RFC 9113, 10.5): headers without an end
// (CVE-2023-45288), settings, pings; headers that are small only while compressed are answered.
func TestHTTP2Floods(t *testing.T) {
	w, came, others := hostileWorld(t)
	for name, flood := range map[string]func(*rawHTTP2, uint32) error{
		"continuation": continuationFlood, "settings": settingsFlood, "pings": pingFlood,
	} {
		c := dialHTTP2(t, w)
		go func() {
			for id := uint32(1); id < 4000000 && flood(c, id) == nil; id += 2 {
			}
		}()
		if got := c.end(0); got != "GOAWAY ENHANCE_YOUR_CALM" {
			t.Errorf("%s: %s", name, got)
		}
		c.conn.Close()
		others()
	}
	c := dialHTTP2(t, w)
	// One field of 4 KB in the table, named ever again by one byte.
	block := append(c.get("x-bomb", strings.Repeat("a", 3900)), bytes.Repeat([]byte{0x80 | 62}, 12000)...)
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	if got := c.end(1); got != "431" {
		t.Errorf("compressed: %s", got)
	}
	others()
	if n := came.Load(); n > 4 {
		t.Errorf("%d came to the service", n)
	}
}
