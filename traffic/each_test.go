package traffic_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru/traffic"
)

// byEach gives a client for each way in which requests come to the gateway, with the beginning of the address to ask.
func byEach(t *testing.T) (*secureWorld, map[string]func(r *http.Request) (*http.Response, error)) {
	t.Helper()
	pc := listenUDP(t)
	w := quicWorld(t, pc, func(cfg *traffic.Config) { cfg.Drain = 5 * time.Second }, "web.test")
	clear := &http.Transport{ExpectContinueTimeout: 20 * time.Second, DialContext: w.dial(w.http)}
	clear2 := &http.Transport{DialContext: w.dial(w.http), Protocols: new(http.Protocols)}
	clear2.Protocols.SetUnencryptedHTTP2(true)
	secure := &http.Transport{ExpectContinueTimeout: 20 * time.Second, TLSClientConfig: &tls.Config{RootCAs: w.roots}, DialContext: w.dial(w.https)}
	secure2 := &http.Transport{ExpectContinueTimeout: 20 * time.Second, TLSClientConfig: &tls.Config{RootCAs: w.roots}, DialContext: w.dial(w.https), ForceAttemptHTTP2: true}
	t.Cleanup(func() {
		for _, tr := range []interface{ CloseIdleConnections() }{clear, clear2, secure, secure2} {
			tr.CloseIdleConnections()
		}
	})
	by := func(scheme string, tr http.RoundTripper) func(r *http.Request) (*http.Response, error) {
		return func(r *http.Request) (*http.Response, error) {
			r.URL.Scheme, r.URL.Host, r.Host = scheme, "web.test", "web.test"
			return tr.RoundTrip(r)
		}
	}
	return w, map[string]func(r *http.Request) (*http.Response, error){
		"HTTP/1.1": by("http", clear), "HTTP/2 in the clear": by("http", clear2), "HTTP/1.1 by TLS": by("https", secure),
		"HTTP/2": by("https", secure2), "HTTP/3": by("https", http3Client(t, pc.LocalAddr(), &tls.Config{RootCAs: w.roots}).Transport),
	}
}

func newRequest(t *testing.T, ctx context.Context, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://web.test"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEventsByEach: events arrive as they are sent, and a service learns when nobody listens any more.
func TestEventsByEach(t *testing.T) {
	w, each := byEach(t)
	next, left := make(chan struct{}), make(chan struct{}, 1)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(rw)
		_ = rc.Flush()
		for i := range 3 {
			select {
			case <-next:
			case <-r.Context().Done():
				t.Error("left too early")
			}
			fmt.Fprintf(rw, "data: %d\n\n", i)
			_ = rc.Flush()
		}
		<-r.Context().Done()
		left <- struct{}{}
	}))))
	for name, do := range each {
		ctx, leave := context.WithCancel(t.Context())
		res, err := do(newRequest(t, ctx, "GET", "/", http.NoBody)) // it begins before there is any event
		if err != nil {
			t.Fatal(name, err)
		}
		lines := bufio.NewScanner(res.Body)
		for i := range 3 {
			next <- struct{}{}
			if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) || !lines.Scan() {
				t.Fatalf("%s: %q %v", name, lines.Text(), lines.Err())
			}
		}
		leave()
		res.Body.Close()
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the service does not learn that nobody listens", name)
		}
	}
}

// TestEarlyAnswerByEach: an answer that comes before the request's end reaches the client, and other requests
// of it are served.
func TestEarlyAnswerByEach(t *testing.T) {
	w, each := byEach(t)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			rw.Header().Set("Connection", "close") // or the server waits for the body itself
			rw.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}))))
	for name, do := range each {
		pr, pw := io.Pipe()
		go func() { _, _ = pw.Write(make([]byte, 10)) }()
		res, err := do(newRequest(t, t.Context(), "POST", "/", pr))
		if status, _ := text(t, res, err); status != 413 {
			t.Errorf("%s: %d", name, status)
		}
		_ = pw.CloseWithError(errors.New("enough"))
		res, err = do(newRequest(t, t.Context(), "GET", "/", http.NoBody))
		if status, _ := text(t, res, err); status != 200 {
			t.Errorf("%s, afterwards: %d", name, status)
		}
	}
	eventually(t, "nothing in flight", func() bool { return w.Report().InFlight["a"] == 0 })
}

// awaited is a body that tells when it is read.
type awaited struct {
	read atomic.Bool
	left int
}

func (b *awaited) Read(p []byte) (int, error) {
	b.read.Store(true)
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

// TestExpectByEach: a client that waits to be asked for its body is asked by the service that wants it, and not by one
// that does not (RFC 9110, 10.1.1). quic-go's client does not wait.
func TestExpectByEach(t *testing.T) {
	w, each := byEach(t)
	var asked atomic.Pointer[awaited]
	var early atomic.Bool
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			rw.Header().Set("Connection", "close")
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		early.Store(asked.Load().read.Load())
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, n, err)
	}))))
	for _, name := range []string{"HTTP/1.1", "HTTP/1.1 by TLS", "HTTP/2"} {
		for path, want := range map[string]string{"/yes": "5 <nil>", "/no": ""} {
			body := &awaited{left: 5}
			asked.Store(body)
			r := newRequest(t, t.Context(), "POST", path, body)
			r.ContentLength = 5
			r.Header.Set("Expect", "100-continue")
			early.Store(false)
			began := time.Now()
			res, err := each[name](r)
			if _, got := text(t, res, err); got != want {
				t.Errorf("%s: %q", name, got)
			}
			if time.Since(began) > 500*time.Millisecond {
				continue // after a second the proxy asks for the body itself, in case that the service does not know how
			}
			if early.Load() {
				t.Errorf("%s: the body is sent before it is asked for", name)
			}
			// net/http's client by HTTP/2 may read it all the same once it has the answer.
			if body.read.Load() != (path == "/yes") && !(name == "HTTP/2" && path == "/no") {
				t.Errorf("%s %s: the body is read: %v", name, path, body.read.Load())
			}
		}
	}
}
