package http1

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru/traffic/message"
)

// echo answers with method, target, host and body, by which a test sees what a request was taken for.
type echo struct{}

func (echo) Serve(c message.Client, r *message.Request) error {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return err
		}
	}
	text := r.Method + " " + r.Target + " " + r.Host + " " + string(body)
	if err := c.Begin(&message.Response{Status: 200, Length: int64(len(text))}); err != nil {
		return err
	}
	if err := c.Write([]byte(text)); err != nil {
		return err
	}
	return c.End(nil)
}

// startServer serves on loopback, with times short enough for a test.
func startServer(t testing.TB, h message.Handler, change func(*Config)) (address string, s *Server) {
	t.Helper()
	cfg := Config{Handler: h, Idle: time.Minute, Header: time.Minute, HeaderBytes: 16 << 10}
	if change != nil {
		change(&cfg)
	}
	s = NewServer(cfg, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		s.Close()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				s.Serve(Accepted{Conn: c})
				c.Close() // what speaks HTTP/2 too
			}()
		}
	}()
	return l.Addr().String(), s
}

// say sends text to the server, as it is, and gives all that comes back until the server ends the
// connection, or the client has ended its half and the server is done.
func say(t *testing.T, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return string(answer)
}

// statuses gives the status of each answer in a stream of them.
func statuses(t *testing.T, stream string) (list []int, bodies []string) {
	t.Helper()
	for r := bufio.NewReader(strings.NewReader(stream)); ; {
		if _, err := r.Peek(1); err != nil {
			return list, bodies
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%q: %v", stream, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("%q: %v", stream, err)
		}
		list, bodies = append(list, res.StatusCode), append(bodies, string(body))
	}
}

// TestHostile sends what two readers could understand in two ways, with a second request behind it: the
// first is refused and nothing behind it is looked at, or both are taken for what they are.
func TestHostile(t *testing.T) {
	address, _ := startServer(t, echo{}, nil)
	const second = "GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
	post := func(fields, body string) string { return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body }
	const fine = 200
	for _, c := range []struct {
		rfc, what, text string
		want            int
	}{
		{"9112 6.1, 6.3", "CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nX"), 400},
		{"9112 6.1, 6.3", "TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "5c\r\nGPOST / HTTP/1.1\r\n\r\n"), 400},
		{"9112 6.1", "TE.TE, one of them unknown", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "0\r\n\r\n"), 501},
		{"9112 6.1", "chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 501},
		{"9112 6.1", "chunked twice in a list", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 501},
		{"9112 6.1", "an unknown coding", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501},
		{"9112 6.3", "chunked is not last", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 501},
		{"9112 6.1", "a coding behind a vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), 400},
		{"9112 6.1", "a coding with a Kelvin sign", post("Transfer-Encoding: chun\u212aed\r\n", "0\r\n\r\n"), 501},
		{"9112 6.1", "a coding by HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"9112 6.1", "an empty coding", post("Transfer-Encoding:\r\n", ""), 501},
		{"9110 8.6", "two lengths", post("Content-Length: 1\r\nContent-Length: 2\r\n", "xy"), 400},
		{"9110 8.6", "the same length twice", post("Content-Length: 1\r\nContent-Length: 1\r\n", "x"), 400},
		{"9110 8.6", "a list of lengths", post("Content-Length: 1, 1\r\n", "x"), 400},
		{"9112 6.3", "a length with a sign", post("Content-Length: +1\r\n", "x"), 400},
		{"9112 6.3", "a negative length", post("Content-Length: -1\r\n", "x"), 400},
		{"9112 6.3", "a hexadecimal length", post("Content-Length: 0x1\r\n", "x"), 400},
		{"9112 6.3", "an empty length", post("Content-Length: \r\n", ""), 400},
		{"9110 8.6", "a length beyond 63 bits", post("Content-Length: 9223372036854775808\r\n", ""), 400},
		{"9112 5.2", "a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400},
		{"9112 2.2", "space before the first field", "GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n", 400},
		{"9112 2.2", "a bare LF behind a field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400},
		{"9112 2.2", "bare LFs all over", "GET / HTTP/1.1\nHost: a\n\n", 400},
		{"9112 2.2", "a bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: 1\r\n\r\n", 400},
		{"9112 2.2", "a bare CR in the request line", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"9112 2.2", "an empty line before the request", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", fine},
		{"9110 5.5", "NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: y\x00z\r\n\r\n", 400},
		{"9110 5.5", "DEL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n", 400},
		{"9110 5.5", "opaque bytes in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n", fine},
		{"9112 5.1", "space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400},
		{"9112 5.1", "space before the colon of a length", post("Content-Length : 1\r\n", "x"), 400},
		{"9110 5.1", "no name", "GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", 400},
		{"9110 5.1", "no colon", "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400},
		{"9110 5.6.2", "a name that is no token", "GET / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n", 400},
		{"9110 5.6.2", "a name beyond ASCII", "GET / HTTP/1.1\r\nHost: a\r\n\u00fc: z\r\n\r\n", 400},
		{"9112 3.2", "no Host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"9112 3.2", "no Host by HTTP/1.0", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", fine},
		{"9112 3.2", "two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"9112 3.2", "a malformed Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		{"9112 3.2", "a Host with user information", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
		{"9112 3.2", "a Host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400},
		{"9112 3.2.2", "an absolute target", "GET http://b/x HTTP/1.1\r\nHost: b\r\n\r\n", fine},
		{"9112 3.2.2", "another Host than the target's", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", fine},
		{"9110 4.2.4", "user information in the target", "GET http://u@b/x HTTP/1.1\r\nHost: b\r\n\r\n", 400},
		{"9110 4.2.1", "a target without host", "GET http:///x HTTP/1.1\r\nHost: b\r\n\r\n", 400},
		{"9112 3.2", "another scheme", "GET ftp://b/x HTTP/1.1\r\nHost: b\r\n\r\n", 400},
		{"9112 3.2.4", "an asterisk for another method", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"9112 3.2.4", "an asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", fine},
		{"9112 3.2", "space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"9112 3.2", "a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"9112 3.2", "bytes that must be encoded", "GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"3986 2.1", "a malformed percent-encoding", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"9112 3", "two spaces in the request line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"9112 3", "a tab in the request line", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"9112 3", "no version", "GET /\r\n\r\n", 400},
		{"9112 2.3", "a version in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
		{"9110 6.2", "a higher minor version", "GET / HTTP/1.9\r\nHost: a\r\n\r\n", fine},
		{"9110 15.6.6", "a higher major version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505},
		{"9110 9.1", "a method that is no token", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"9110 10.1.1", "an unknown expectation", post("Content-Length: 1\r\nExpect: 200-ok\r\n", "x"), 417},
		{"9112 3", "a target of 12 KB", "GET /" + strings.Repeat("a", 12<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", fine},
		{"6585 5", "a field of 20 KB", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", 431},
		{"6585 5", "more fields than are taken", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", mostFields+1) + "\r\n", 431},
		{"6585 5", "many fields of a name", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", mostFields) + "\r\n", fine},
		{"9112 9.3.2", "a body, and the next request behind it", post("Content-Length: 5\r\n", "hello"), fine},
		{"9112 7.1", "chunks with extensions", post("Transfer-Encoding: chunked\r\n", "5;a=\"b;c\"\r\nhello\r\n0;x\r\nT: v\r\n\r\n"), fine},
	} {
		got, bodies := statuses(t, say(t, address, c.text+second))
		switch {
		case c.want != fine:
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("RFC %s, %s: answers %v, want %d and no other", c.rfc, c.what, got, c.want)
			}
		case len(got) != 2 || got[0] != fine || got[1] != fine || !strings.HasPrefix(bodies[1], "GET /second a"):
			t.Errorf("RFC %s, %s: answers %v %.100q", c.rfc, c.what, got, bodies)
		}
	}
	_, bodies := statuses(t, say(t, address, "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"))
	if bodies[0] != "GET /x b " {
		t.Errorf("RFC 9112 3.2.2: the target's host must count: %q", bodies[0])
	}
}

// TestMalformedChunks: RFC 9112, 7.1. A body that can't be read ends the connection: nothing behind it is a
// request.
func TestMalformedChunks(t *testing.T) {
	address, _ := startServer(t, echo{}, nil)
	for what, body := range map[string]string{
		"no digits":                 ";x\r\nhello\r\n0\r\n\r\n",
		"a sign":                    "+5\r\nhello\r\n0\r\n\r\n",
		"a prefix":                  "0x5\r\nhello\r\n0\r\n\r\n",
		"space before":              " 5\r\nhello\r\n0\r\n\r\n",
		"space behind":              "5 \r\nhello\r\n0\r\n\r\n",
		"a size beyond 63 bits":     "10000000000000005\r\nhello\r\n0\r\n\r\n",
		"a bare LF behind the size": "5\nhello\r\n0\r\n\r\n",
		"a bare CR in the size":     "5\rx\r\nhello\r\n0\r\n\r\n",
		"a bare LF in an extension": "5;x\n\r\nhello\r\n0\r\n\r\n",
		"NUL in an extension":       "5;\x00\r\nhello\r\n0\r\n\r\n",
		"more data than said":       "5\r\nhello!\r\n0\r\n\r\n",
		"no line end behind data":   "5\r\nhello0\r\n\r\n",
		"a bare LF behind data":     "5\r\nhello\n0\r\n\r\n",
		"a bare LF at the end":      "5\r\nhello\r\n0\r\n\n",
		"a folded trailer":          "0\r\nX: y\r\n z\r\n\r\n",
		"a trailer without colon":   "0\r\nX\r\n\r\n",
		"a long extension":          "5;" + strings.Repeat("x", 2*longestChunkLine) + "\r\nhello\r\n0\r\n\r\n",
		"many extensions":           strings.Repeat("1;"+strings.Repeat("x", 1000)+"\r\nx\r\n", 20) + "0\r\n\r\n",
		"a long trailer":            "0\r\nX: " + strings.Repeat("x", trailerBytes) + "\r\n\r\n",
	} {
		got := say(t, address, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+body+"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
		if got != "" {
			t.Errorf("%s: answered %q", what, got)
		}
	}
}

// TestBadAnswers: what an instance may not send is no answer. RFC 9112, 5.1, 5.2 and 6.3.
func TestBadAnswers(t *testing.T) {
	for what, text := range map[string]string{
		"space before a colon":  "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
		"a folded line":         "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
		"bare LF":               "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"two lengths":           "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
		"an unknown coding":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"a coding by HTTP/1.0":  "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a status of two":       "HTTP/1.1 20 OK\r\n\r\n",
		"a status of four":      "HTTP/1.1 2000 OK\r\n\r\n",
		"another protocol":      "ICY 200 OK\r\n\r\n",
		"a switch unasked":      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		"nothing":               "",
		"a control character":   "HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n",
		"a reason with control": "HTTP/1.1 200 \x01\r\n\r\n",
	} {
		if _, _, err := ask(t, text); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	for what, text := range map[string]string{
		"length and coding: the coding counts, the connection is not used again": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"up to the end":      "HTTP/1.1 200 OK\r\n\r\nok",
		"by HTTP/1.0":        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"more than was said": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!",
		"closes":             "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\nok",
	} {
		body, kept, err := ask(t, text)
		if body != "ok" || kept || err != nil {
			t.Errorf("%s: %q %v, kept %v", what, body, err, kept)
		}
	}
	if body, kept, err := ask(t, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"); body != "ok" || !kept || err != nil {
		t.Errorf("%q %v, kept %v", body, err, kept)
	}
	if _, _, err := ask(t, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"); err == nil {
		t.Error("a short answer is taken for whole")
	}
}

// ask sends a request to an instance that answers with text and ends.
func ask(t *testing.T, text string) (body string, kept bool, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hold := make(chan struct{})
	defer close(hold)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1000)); err != nil {
			return
		}
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
		<-hold
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var pool Pool
	defer pool.CloseIdle()
	res, err := NewConn(&pool, 1, conn).RoundTrip(&Outgoing{
		Now: time.Now(), Method: "GET", Target: "/", Host: "a", Interim: func(int, message.Header) error { return nil },
	})
	if err != nil {
		return "", false, err
	}
	got := []byte{}
	for err == nil {
		var p []byte
		p, err = res.Body.Next()
		got = append(got, p...)
	}
	res.Body.Close()
	if err == io.EOF { //nolint:errorlint // as Next gives it
		err = nil
	}
	return string(got), pool.Get(1, time.Now()) != nil, err
}

// TestSlowHeader: RFC 9110, 15.5.9. A header that drips is given up in the time for all of it, however
// often something of it comes.
func TestSlowHeader(t *testing.T) {
	address, _ := startServer(t, echo{}, func(cfg *Config) { cfg.Header = 50 * time.Millisecond })
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
			if _, err := io.WriteString(c, "G"); err != nil {
				return
			}
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 408 || !res.Close {
		t.Fatal(res.Status)
	}
	c.Close()
	<-done
}

// TestSlowBodyAndReader: a body that does not come, an answer that is not read and a connection without
// a request end after the idle time.
func TestSlowBodyAndReader(t *testing.T) {
	big := handlerFunc(func(c message.Client, r *message.Request) error {
		if r.Body != nil {
			_, err := io.ReadAll(r.Body)
			return err
		}
		if err := c.Begin(&message.Response{Status: 200, Length: 1 << 40}); err != nil {
			return err
		}
		for piece := make([]byte, 64<<10); ; {
			if err := c.Write(piece); err != nil {
				return err
			}
		}
	})
	over := make(chan struct{}, 3)
	s := NewServer(Config{Handler: big, Idle: 100 * time.Millisecond, Header: time.Minute, HeaderBytes: 16 << 10}, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, text := range []string{"", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			s.Serve(Accepted{Conn: server})
			over <- struct{}{}
		}()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		select {
		case <-over:
		case <-time.After(10 * time.Second):
			t.Fatal("a connection that does not move is open still")
		}
	}
}

type handlerFunc func(c message.Client, r *message.Request) error

func (f handlerFunc) Serve(c message.Client, r *message.Request) error { return f(c, r) }
