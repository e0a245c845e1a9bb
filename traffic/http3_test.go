package traffic_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// quicWorld is a world with a door by QUIC at the given socket.
func quicWorld(t *testing.T, pc *net.UDPConn, change func(*traffic.Config), names ...string) *secureWorld {
	t.Helper()
	return newSecureWorld(t, false, func(cfg *traffic.Config) {
		cfg.Packets["quic"] = pc
		if change != nil {
			change(cfg)
		}
	}, names...)
}

func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return pc
}

// sameSocket gives the socket once more, as the next process has it.
func sameSocket(t *testing.T, pc *net.UDPConn) *net.UDPConn {
	t.Helper()
	f, err := pc.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	again, err := net.FilePacketConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return again.(*net.UDPConn)
}

// http3Client asks the socket for whatever host.
func http3Client(t *testing.T, at net.Addr, cfg *tls.Config) *http.Client {
	t.Helper()
	tr := &http3.Transport{TLSClientConfig: cfg, Dial: func(ctx context.Context, _ string, cfg *tls.Config, conf *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, at.String(), cfg, conf)
	}}
	t.Cleanup(func() { tr.Close() })
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// TestHTTP3 carries requests by HTTP/3 as by any other version, and tells those who come by another one of it.
func TestHTTP3(t *testing.T) {
	pc := listenUDP(t)
	var log lockedBuffer
	w := quicWorld(t, pc, func(cfg *traffic.Config) { cfg.AccessLog = &log }, "web.test")
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		rw.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(rw, "%s %s %s %s %v %d %q %v", r.Method, r.URL, r.Host, r.Header.Get("X-Forwarded-Proto"), r.TransferEncoding, r.ContentLength, body, err)
		rw.Header().Set("X-Sum", fmt.Sprint(len(body)))
	}))))
	c := http3Client(t, pc.LocalAddr(), &tls.Config{RootCAs: w.roots})
	for _, r := range []struct{ method, path, body, want string }{
		{"GET", "/a?b=c", "", `GET /a?b=c web.test https [] 0 "" <nil>`},
		{"GET", "/", "x", `GET / web.test https [] 1 "x" <nil>`},
		{"POST", "/", "hello", `POST / web.test https [] 5 "hello" <nil>`},
		{"DELETE", "/", "", `DELETE / web.test https [] 0 "" <nil>`},
		{"POST", "/", "chunked", `POST / web.test https [chunked] -1 "chunked" <nil>`},
	} {
		var body io.Reader = http.NoBody
		switch r.body {
		case "":
		case "chunked":
			body = io.MultiReader(strings.NewReader(r.body))
		default:
			body = strings.NewReader(r.body)
		}
		req, err := http.NewRequest(r.method, "https://web.test"+r.path, body)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		_, got := text(t, res, err)
		if got != r.want || res.Proto != "HTTP/3.0" || res.Trailer.Get("X-Sum") != fmt.Sprint(len(r.body)) || res.Header.Get("Alt-Svc") != "" {
			t.Errorf("%s: %s, %s, trailer %v", r.method, res.Proto, got, res.Trailer)
		}
	}
	eventually(t, "the access log", func() bool { return strings.Contains(log.String(), "HTTP/3.0") })
	for host, want := range map[string]string{"web.test": `h3=":443"; ma=86400`, "web.test:8443": `h3=":8443"; ma=86400`} {
		for _, http2 := range []bool{false, true} {
			res, _ := ask(t, w.client(func(cfg *tls.Config) { cfg.ServerName = "web.test" }, http2), "https://"+host+"/", nil)
			if got := res.Header.Get("Alt-Svc"); got != want {
				t.Errorf("%s: %q", host, got)
			}
		}
	}
	res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
	if text(t, res, err); res.Header.Get("Alt-Svc") != "" {
		t.Error("in the clear:", res.Header)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestHTTP3ClientCertificates holds clients to the same rules.
func TestHTTP3ClientCertificates(t *testing.T) {
	ours := newPKI(t, "ours")
	pc := listenUDP(t)
	w := quicWorld(t, pc, nil, "mutual.test", "open.test")
	s := web(startInstance(t, "a", echoHeaders("X-Maru-Client-Subject")))
	s.Routes = []maru.Route{{Host: "mutual.test", TLS: &maru.RouteTLS{ClientCA: ours.pem()}}, {Host: "open.test"}}
	w.set(s)
	alice := &tls.Config{RootCAs: w.roots}
	shows(ours.client("alice", nil))(alice)
	if res, body := ask(t, http3Client(t, pc.LocalAddr(), alice), "https://mutual.test/", nil); res.StatusCode != 200 || !strings.Contains(body, "CN=alice") {
		t.Error(res.Status, body)
	}
	if res, _ := ask(t, http3Client(t, pc.LocalAddr(), &tls.Config{RootCAs: w.roots}), "https://mutual.test/", nil); res.StatusCode != 403 {
		t.Error(res.Status)
	}
	mallory := &tls.Config{RootCAs: w.roots, ServerName: "open.test"}
	if res, _ := ask(t, http3Client(t, pc.LocalAddr(), mallory), "https://mutual.test/", nil); res.StatusCode != 421 {
		t.Error(res.Status)
	}
}

// TestHTTP3NoEarlyData resumes sessions, and takes no request that could be sent again by others (RFC 9001, 9.2).
func TestHTTP3NoEarlyData(t *testing.T) {
	pc := listenUDP(t)
	w := quicWorld(t, pc, nil, "web.test")
	w.set(web(startInstance(t, "a", say("a"))))
	cache := tls.NewLRUClientSessionCache(4)
	var resumed []bool
	for range 2 {
		conn, err := quic.DialAddrEarly(t.Context(), pc.LocalAddr().String(), &tls.Config{RootCAs: w.roots, ServerName: "web.test", NextProtos: []string{"h3"}, ClientSessionCache: cache}, nil)
		if err != nil {
			t.Fatal(err)
		}
		tr := &http3.Transport{}
		client := tr.NewClientConn(conn)
		r, _ := http.NewRequest("GET", "https://web.test/", http.NoBody)
		res, err := client.RoundTrip(r)
		if code, body := text(t, res, err); code != 200 || body != "a" {
			t.Error(code, body)
		}
		state := conn.ConnectionState()
		if state.Used0RTT {
			t.Error("0-RTT was taken")
		}
		resumed = append(resumed, state.TLS.DidResume)
		_ = conn.CloseWithError(0, "")
	}
	if fmt.Sprint(resumed) != "[false true]" {
		t.Error("resumed", resumed)
	}
}

// TestHTTP3OutlivesTheProxy goes on with what is under way while another proxy has the socket, and then ends
// with no request lost; new connections come to the new one.
func TestHTTP3OutlivesTheProxy(t *testing.T) {
	pc, files := listenUDP(t), newShelf(t)
	next, third := sameSocket(t, pc), sameSocket(t, pc)
	drain := func(cfg *traffic.Config) {
		files.use(cfg)
		cfg.Drain = 20 * time.Second
		cfg.Linger = 50 * time.Millisecond
	}
	inst := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(rw)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			fmt.Fprintln(rw, lines.Text())
			_ = rc.Flush()
		}
	})))
	begin := func(w *secureWorld) (exchange func(string), done func()) {
		eventually(t, "the new proxy has new connections", func() bool {
			before := requests(w)
			ask(t, http3Client(t, pc.LocalAddr(), &tls.Config{InsecureSkipVerify: true}), "https://web.test/", nil) //nolint:gosec // as below
			return requests(w) > before
		})
		c := http3Client(t, pc.LocalAddr(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // each world has its own certificate
		pr, pw := io.Pipe()
		r, _ := http.NewRequest("POST", "https://web.test/", pr)
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(res.Body)
		exchange = func(line string) {
			t.Helper()
			fmt.Fprintln(pw, line)
			got, err := lines.ReadString('\n')
			if got != line+"\n" {
				t.Errorf("%q, %v", got, err)
			}
		}
		return exchange, func() { pw.Close(); _, _ = io.Copy(io.Discard, res.Body); res.Body.Close() }
	}
	first := quicWorld(t, pc, drain, "web.test")
	first.set(inst)
	one, oneDone := begin(first)
	one("before")
	second := quicWorld(t, next, drain, "web.test")
	second.set(inst)
	firstEnded := make(chan struct{})
	two, twoDone := begin(second)
	two("by the second")
	go func() { defer close(firstEnded); first.stop() }()
	for i := range 50 {
		one(fmt.Sprint("while the first ends ", i))
		two(fmt.Sprint("by the second ", i))
	}
	last := quicWorld(t, third, drain, "web.test")
	last.set(inst)
	three, threeDone := begin(last)
	secondEnded := make(chan struct{})
	go func() { defer close(secondEnded); second.stop() }()
	for i := range 50 {
		one(fmt.Sprint("past two others ", i))
		two(fmt.Sprint("past one other ", i))
		three(fmt.Sprint("by the third ", i))
	}
	select {
	case <-firstEnded:
		t.Error("the first ended with a request under way")
	default:
	}
	oneDone()
	<-firstEnded
	twoDone()
	<-secondEnded
	three("at the end")
	threeDone()
}

func requests(w *secureWorld) (n uint64) {
	for c := range w.Counts() {
		n += c.Latency.Total()
	}
	return n
}

// TestHTTP3ResetsAfterACrash has clients of a proxy that died know it at once, by the one that follows.
func TestHTTP3ResetsAfterACrash(t *testing.T) {
	pc, files := listenUDP(t), newShelf(t)
	next := sameSocket(t, pc)
	first := quicWorld(t, pc, files.use, "web.test")
	first.set(web(startInstance(t, "a", say("a"))))
	conn, err := quic.DialAddr(t.Context(), next.LocalAddr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: "web.test", NextProtos: []string{"h3"}}, //nolint:gosec // it is not what is looked at
		&quic.Config{KeepAlivePeriod: 50 * time.Millisecond, MaxIdleTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	tr := &http3.Transport{}
	r, _ := http.NewRequest("GET", "https://web.test/", http.NoBody)
	res, err := tr.NewClientConn(conn).RoundTrip(r) // the handshake is confirmed by it
	if code, _ := text(t, res, err); code != 200 {
		t.Fatal(code)
	}
	pc.Close() // as if the process were gone: it says nothing any more
	first.stop()
	if conn.Context().Err() != nil {
		t.Fatal("the client was told: ", context.Cause(conn.Context()))
	}
	quicWorld(t, next, files.use, "web.test")
	// What is very small is not answered (RFC 9000, 10.3.3).
	stream, err := conn.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Write(make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-conn.Context().Done():
		if cause := context.Cause(conn.Context()); !errors.As(cause, new(*quic.StatelessResetError)) {
			t.Error(cause)
		}
	case <-time.After(10 * time.Second):
		t.Error("the client was not told")
	}
}

// capture is a client's socket that sends nothing on, and notes what would be sent.
type capture struct {
	net.PacketConn
	sent chan []byte
}

func (c *capture) WriteTo(p []byte, _ net.Addr) (int, error) {
	select {
	case c.sent <- append([]byte(nil), p...):
	default:
	}
	return len(p), nil
}

// firstPacket gives what a client says first.
func firstPacket(t *testing.T, to net.Addr) []byte {
	t.Helper()
	under := listenUDP(t)
	defer under.Close()
	c := &capture{under, make(chan []byte, 16)}
	tr := &quic.Transport{Conn: c}
	defer tr.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, _ = tr.Dial(ctx, to, &tls.Config{ServerName: "web.test", InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil) //nolint:gosec // nobody answers
	}()
	select {
	case p := <-c.sent:
		return p
	case <-time.After(5 * time.Second):
		t.Fatal("the client says nothing")
		return nil
	}
}

// TestQUICAmplification answers who may be at another's address with no more than three times what came
// (RFC 9000, 8.1), and asks them to show where they are when many come.
func TestQUICAmplification(t *testing.T) {
	pc := listenUDP(t)
	at := pc.LocalAddr()
	w := quicWorld(t, pc, nil, "web.test")
	w.set(web(startInstance(t, "a", say("a"))))
	answers := func(packet []byte, patience time.Duration) (bytes int, retry bool) {
		conn, err := net.Dial("udp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		for buf := make([]byte, 2048); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return bytes, retry
			}
			bytes += n
			if retry = buf[0]&0xf0 == 0xf0; retry { // RFC 9000, 17.2.5
				return bytes, true
			}
		}
	}
	packet := firstPacket(t, at)
	if len(packet) < 1200 {
		t.Fatalf("the first packet has %d bytes", len(packet))
	}
	if got, _ := answers(packet, 2*time.Second); got == 0 || got > 3*len(packet) {
		t.Errorf("%d bytes for %d", got, len(packet))
	}
	if got, _ := answers(packet[:600], 200*time.Millisecond); got != 0 {
		t.Errorf("%d bytes for a first packet that is too short (RFC 9000, 14.1)", got)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	retries := 0
	var packets [][]byte // made beforehand, so that they come at once
	for range 200 {
		packets = append(packets, firstPacket(t, at))
	}
	for _, p := range packets {
		wg.Go(func() {
			if n, retry := answers(p, 2*time.Second); retry {
				mu.Lock()
				defer mu.Unlock()
				if retries++; n > len(p) {
					t.Errorf("a retry of %d bytes", n)
				}
			}
		})
	}
	wg.Wait()
	if retries == 0 {
		t.Error("nobody was asked to show where they are")
	}
	if res, body := ask(t, http3Client(t, at, &tls.Config{RootCAs: w.roots}), "https://web.test/", nil); res.StatusCode != 200 || body != "a" {
		t.Error(res.Status, body)
	}
}
