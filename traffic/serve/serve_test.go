package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru/traffic/message"
)

// handler answers with what it gives.
type handler func(c message.Client, r *message.Request) string

func (h handler) Serve(c message.Client, r *message.Request) error {
	body := h(c, r)
	if err := c.Begin(&message.Response{Status: 200, Length: int64(len(body))}); err != nil {
		return err
	}
	return errors.Join(c.Write([]byte(body)), c.End(nil))
}

func start(t *testing.T, h handler) (s *Server, l net.Listener) {
	t.Helper()
	s = New(Config{Handler: h}, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, l
}

func get(t *testing.T, client *http.Client, l net.Listener) (body string, closes bool) {
	t.Helper()
	res, err := client.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all), res.Close
}

// isDraining tells whether Drain was called.
func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func TestDrainOfIdleServerIsAtOnce(t *testing.T) {
	s, l := start(t, func(message.Client, *message.Request) string { return "" })
	l.Close()
	began := time.Now()
	s.Drain(t.Context(), time.Minute)
	if time.Since(began) > 10*time.Second {
		t.Fatal(time.Since(began))
	}
}

// TestDrainFinishes: what is in flight is finished, who comes again on an idle connection is served
// and asked to go.
func TestDrainFinishes(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s, l := start(t, func(_ message.Client, r *message.Request) string {
		if r.Path == "/slow" {
			close(entered)
			<-release
		}
		return "done"
	})
	idle := &http.Client{Transport: &http.Transport{}}
	if body, closes := get(t, idle, l); body != "done" || closes {
		t.Fatal(body, closes)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // it came before the drain, and would not be asked to go
		res, err := client.Get("http://" + l.Addr().String() + "/slow")
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); string(body) != "done" || err != nil {
			t.Error(string(body), err)
		}
	})
	<-entered
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.Drain(t.Context(), time.Minute)
	}()
	for !s.isDraining() {
		continue
	}
	if body, closes := get(t, idle, l); body != "done" || !closes {
		t.Fatal(body, closes)
	}
	close(release)
	wg.Wait()
	<-drained // long before a minute: nobody is left
}

func TestDrainCutsInTheEnd(t *testing.T) {
	entered := make(chan struct{})
	s, l := start(t, func(c message.Client, _ *message.Request) string {
		close(entered)
		<-c.Context().Done()
		return ""
	})
	failed := make(chan error)
	go func() {
		res, err := http.Get("http://" + l.Addr().String())
		if err == nil {
			res.Body.Close()
		}
		failed <- err
	}()
	<-entered
	limit, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	s.Drain(limit, time.Minute)
	if <-failed == nil {
		t.Fatal("answered")
	}
}

// TestHoldKeepsServerUp: a connection that is still looked at is served by a server that drains.
func TestHoldKeepsServerUp(t *testing.T) {
	s := New(Config{Handler: handler(func(message.Client, *message.Request) string { return "done" })}, slog.New(slog.DiscardHandler))
	release := s.Hold()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.Drain(t.Context(), time.Minute)
	}()
	for !s.isDraining() {
		continue
	}
	client, server := net.Pipe()
	go s.Take(Conn{Conn: server, End: release})
	go func() { _, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") }()
	if all, err := io.ReadAll(client); err != nil || len(all) == 0 {
		t.Fatal(string(all), err)
	}
	<-drained
}

func TestLimiter(t *testing.T) {
	l := NewLimiter(2)
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	first, second := l.Enter(a), l.Enter(a)
	if first == nil || second == nil || l.Enter(a) != nil || l.Enter(b) == nil {
		t.Fatal(l.open)
	}
	first()
	first() // twice counts once
	if l.Enter(a) == nil || l.Enter(a) != nil {
		t.Fatal(l.open)
	}
	under, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer under.Close()
	limited := NewLimiter(1).Listener(under)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", under.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one := dial()
	defer one.Close()
	accepted, err := limited.Accept()
	if err != nil {
		t.Fatal(err)
	}
	two := dial()
	defer two.Close()
	next := make(chan net.Conn)
	go func() {
		c, err := limited.Accept()
		if err != nil {
			t.Error(err)
		}
		next <- c
	}()
	if _, err := two.Read(make([]byte, 1)); err == nil {
		t.Fatal("one too many")
	}
	accepted.Close()
	three := dial()
	defer three.Close()
	(<-next).Close()
}

// flaky is a listener that is short of something for a while.
type flaky struct {
	net.Listener
	errs []error
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func (f *flaky) Accept() (net.Conn, error) {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return nil, err
	}
	return nil, net.ErrClosed
}

func TestAcceptGoesOn(t *testing.T) {
	under, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer under.Close()
	var running sync.WaitGroup
	short := temporary{errors.New("too many open files")}
	if err := Accept(t.Context(), &flaky{under, []error{short, short}}, &running, nil); err != nil {
		t.Fatal(err)
	}
	if err := Accept(t.Context(), &flaky{under, []error{errors.New("broken")}}, &running, nil); err == nil {
		t.Fatal("no error")
	}
}
