package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru/traffic/message"
)

// instance gives a connection to one that answers each request when answer gets a text.
func instance(t *testing.T) (pool *Pool, c *Conn, answer chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answer = make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, <-answer)
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	pool = new(Pool)
	t.Cleanup(pool.CloseIdle)
	return pool, NewConn(pool, 1, conn), answer
}

func outgoing() *Outgoing {
	return &Outgoing{Now: time.Now(), Method: "POST", Target: "/", Host: "a", Interim: func(int, message.Header) error { return nil }}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// TestSlow: what takes longer than a moment is carried all the same, and the connection kept; the
// moment may be over before anything was sent.
func TestSlow(t *testing.T) {
	pool, c, answer := instance(t)
	for _, late := range []time.Duration{0, time.Hour} {
		for _, body := range []string{"", "hello"} {
			r := outgoing()
			r.Now = r.Now.Add(-late)
			if body != "" {
				r.Body, r.Length = strings.NewReader(body), int64(len(body))
			}
			asked := 0
			r.Slow = func(func()) func() bool {
				asked++
				answer <- ok
				return func() bool { return true }
			}
			res, err := c.RoundTrip(r)
			if err != nil {
				t.Fatalf("late by %s, body %q: %v", late, body, err)
			}
			for err == nil {
				_, err = res.Body.Next()
			}
			res.Body.Close()
			if c = pool.Get(1, time.Now()); asked != 1 || c == nil {
				t.Fatalf("asked %d times, kept %v", asked, c != nil)
			}
		}
	}
}

// TestCut: what ends the exchange ends the wait for the answer, and the connection.
func TestCut(t *testing.T) {
	pool, c, _ := instance(t)
	r := outgoing()
	r.Hurry = true
	r.Slow = func(cut func()) func() bool {
		go cut()
		return func() bool { return false }
	}
	_, err := c.RoundTrip(r)
	var failed *Failed
	if !errors.As(err, &failed) || !errors.Is(err, os.ErrDeadlineExceeded) || pool.Get(1, time.Now()) != nil {
		t.Fatal(err)
	}
}
