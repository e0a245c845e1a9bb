package traffic_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

// talk opens a connection to the gateway and says text.
func (w *world) talk(text string) (*net.TCPConn, *bufio.Reader) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.http)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		w.t.Fatal(err)
	}
	return c.(*net.TCPConn), bufio.NewReader(c)
}

func answer(t testing.TB, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// rawInstance answers each connection with a function of its own.
func rawInstance(t testing.TB, serve func(c net.Conn, r *bufio.Reader)) maru.ServiceTraffic {
	t.Helper()
	addr := freshAddress()
	l := listen(t, netip.AddrPortFrom(addr, port).String())
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	s := web()
	s.Endpoints = []maru.Endpoint{{Instance: "raw", Release: 1, Ready: true, Addresses: maru.Addresses{V4: addr}}}
	return s
}

// TestExpectIsAsked: RFC 9110, 10.1.1. The client is asked for its body when the instance wants it, and
// not at all by one that has answered without.
func TestExpectIsAsked(t *testing.T) {
	w := newWorld(t, nil)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			rw.Header().Set("Connection", "close")
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(rw, string(body))
	}))))
	const head = " HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	c, r := w.talk("POST /yes" + head)
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != "\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	if res, body := answer(t, r, "POST"); res.StatusCode != 200 || body != "hello" {
		t.Fatal(res.Status, body)
	}
	_, r = w.talk("POST /no" + head)
	if res, _ := answer(t, r, "POST"); res.StatusCode != 403 || !res.Close {
		t.Fatalf("%s, closes: %v", res.Status, res.Close)
	}
}

// TestBodiless: RFC 9112, 6.3. Answers without a body, in a row on one connection.
func TestBodiless(t *testing.T) {
	w := newWorld(t, nil)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			rw.WriteHeader(204)
		case "/304":
			rw.WriteHeader(304)
		default:
			rw.Header().Set("Content-Length", "5")
			fmt.Fprint(rw, "hello")
		}
	}))))
	_, r := w.talk("HEAD / HTTP/1.1\r\nHost: web.test\r\n\r\nGET /204 HTTP/1.1\r\nHost: web.test\r\n\r\nGET /304 HTTP/1.1\r\nHost: web.test\r\n\r\nGET / HTTP/1.1\r\nHost: web.test\r\n\r\n")
	for _, want := range []struct {
		method string
		status int
		length string
		body   string
	}{{"HEAD", 200, "5", ""}, {"GET", 204, "", ""}, {"GET", 304, "", ""}, {"GET", 200, "5", "hello"}} {
		if res, body := answer(t, r, want.method); res.StatusCode != want.status || res.Header.Get("Content-Length") != want.length || body != want.body {
			t.Fatalf("%v: %s %v %q", want, res.Status, res.Header, body)
		}
	}
}

// TestOldClientKeepsOn: by HTTP/1.0 there are no chunks; a connection goes on only if the client asks for that.
func TestOldClientKeepsOn(t *testing.T) {
	w := newWorld(t, nil)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, "hello")
		if r.URL.Path == "/stream" {
			_ = http.NewResponseController(rw).Flush()
			fmt.Fprint(rw, " again")
		}
	}))))
	_, r := w.talk("GET / HTTP/1.0\r\nHost: web.test\r\nConnection: keep-alive\r\n\r\nGET /stream HTTP/1.0\r\nHost: web.test\r\nConnection: keep-alive\r\n\r\n")
	if res, body := answer(t, r, "GET"); body != "hello" || res.Header.Get("Connection") != "keep-alive" {
		t.Fatalf("%q %v", body, res.Header)
	}
	if res, body := answer(t, r, "GET"); body != "hello again" || len(res.TransferEncoding) > 0 || !res.Close {
		t.Fatalf("%q %v", body, res)
	}
}

// TestClosedConnection: an instance that closes connections when it likes costs nobody a request, POSTs
// neither, as nothing is sent on a connection that is known to be closed.
func TestClosedConnection(t *testing.T) {
	w := newWorld(t, nil)
	closed := make(chan struct{})
	w.set(rawInstance(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.Close()
		closed <- struct{}{}
	}))
	for range 20 {
		c, r := w.talk("POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\n\r\nhello")
		if res, body := answer(t, r, "POST"); res.StatusCode != 200 || body != "ok" {
			t.Fatal(res.Status, body)
		}
		<-closed
		c.Close()
	}
}

// TestBrokenAnswer: an answer that an instance did not finish does not look finished to the client.
func TestBrokenAnswer(t *testing.T) {
	w := newWorld(t, nil)
	for _, head := range []string{"Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"} {
		w.set(rawInstance(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head+"\r\n5\r\nhe")
			}
		}))
		for _, version := range []string{"1.1", "1.0"} {
			_, r := w.talk("GET / HTTP/" + version + "\r\nHost: web.test\r\n\r\n")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				continue // cut before anything of it was sent
			}
			if body, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("%s by HTTP/%s: %q looks whole", head, version, body)
			}
		}
	}
}

// TestLargeBodies carries much both ways, with a length and without one.
func TestLargeBodies(t *testing.T) {
	w := newWorld(t, nil)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 0 {
			rw.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		_ = http.NewResponseController(rw).EnableFullDuplex()
		_, _ = io.Copy(rw, r.Body)
	}))))
	data := make([]byte, 9<<20+17)
	for i := range data {
		data[i] = byte(i * 31 >> 8)
	}
	for _, client := range []*http.Client{{Transport: &http.Transport{}}, h2cClient()} {
		for _, length := range []int64{int64(len(data)), -1} {
			r := w.request("POST", "web.test", "/")
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), length
			res, err := client.Do(r)
			if _, body := text(t, res, err); body != string(data) {
				t.Errorf("%d bytes of %d came back", len(body), len(data))
			}
		}
		client.CloseIdleConnections()
	}
}

// TestClientLeaves: when the client goes, the instance is told.
func TestClientLeaves(t *testing.T) {
	w := newWorld(t, nil)
	entered, left := make(chan struct{}), make(chan struct{})
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	}))))
	c, _ := w.talk("GET / HTTP/1.1\r\nHost: web.test\r\n\r\n")
	<-entered
	c.Close()
	<-left
	eventually(t, "it is counted", func() bool {
		for n := range w.Counts() {
			if n.Class == 0 && n.Latency.Total() == 1 {
				return true
			}
		}
		return false
	})
}

// TestSwitchedHalves: after a switch to another protocol each side can end its half.
func TestSwitchedHalves(t *testing.T) {
	w := newWorld(t, nil)
	w.set(rawInstance(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: upper\r\n\r\nhi,")
		all, _ := io.ReadAll(r)
		_, _ = c.Write(bytes.ToUpper(all))
	}))
	c, r := w.talk("GET / HTTP/1.1\r\nHost: web.test\r\nConnection: upgrade\r\nUpgrade: upper\r\n\r\nearly ")
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	if _, err := io.WriteString(c, "late"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(r); string(all) != "hi,EARLY LATE" || err != nil {
		t.Fatalf("%q %v", all, err)
	}
}

// TestMalformedBody: a body that can't be read is the client's fault, and the instance does not take what
// came of it for a whole one.
func TestMalformedBody(t *testing.T) {
	w := newWorld(t, nil)
	var whole atomic.Bool
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err == nil {
			whole.Store(true)
		}
		panic(http.ErrAbortHandler)
	}))))
	_, r := w.talk("POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n")
	if res, _ := answer(t, r, "POST"); res.StatusCode != 400 || !res.Close || whole.Load() {
		t.Fatalf("%s, closes: %v, whole: %v", res.Status, res.Close, whole.Load())
	}
}

// TestConnectIsRefused: RFC 9110, 9.3.6. The gateway is nobody's tunnel.
func TestConnectIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.set(web())
	_, r := w.talk("CONNECT web.test:80 HTTP/1.1\r\nHost: web.test:80\r\n\r\n")
	if res, body := answer(t, r, "GET"); res.StatusCode != 400 || !strings.Contains(body, "CONNECT") {
		t.Fatal(res.Status, body)
	}
}

// TestTraceContext: a valid traceparent is passed on as it is, any other one is replaced, its state left out.
func TestTraceContext(t *testing.T) {
	w := newWorld(t, nil)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, strings.Join(r.Header["Traceparent"], ","), " ", r.Header.Get("Tracestate"))
	}))))
	const valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ask := func(parents ...string) string {
		r := w.request("GET", "web.test", "/")
		r.Header["Traceparent"] = parents
		r.Header.Set("Tracestate", "v=1")
		res, err := http.DefaultClient.Do(r)
		_, body := text(t, res, err)
		return body
	}
	if got := ask(valid); got != valid+" v=1" {
		t.Errorf("%q", got)
	}
	for _, invalid := range [][]string{{"00-x"}, {valid, valid}} {
		if got := ask(invalid...); len(got) != len(valid)+1 || strings.Contains(got, "0af76519") {
			t.Errorf("%q becomes %q", invalid, got)
		}
	}
}
