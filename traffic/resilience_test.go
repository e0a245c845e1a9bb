package traffic_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestNoFailedRequest changes endpoints under load: none of the requests may fail.
func TestNoFailedRequest(t *testing.T) {
	w := newWorld(t, nil)
	instances := map[string]*instance{}
	start := func(id string) { instances[id] = startInstance(t, id, say(id)) }
	publish := func(draining ...string) {
		s := web()
		for id, i := range instances {
			s.Endpoints = append(s.Endpoints, i.endpoint(1))
			for _, d := range draining {
				if d == id {
					s.Endpoints[len(s.Endpoints)-1].Draining = true
				}
			}
		}
		w.set(s)
	}
	start("a")
	publish()
	ctx, cancel := context.WithCancel(t.Context())
	var failed, done atomic.Int64
	var load sync.WaitGroup
	for i := range 8 {
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			if i%2 == 0 {
				client = h2cClient()
			}
			for ctx.Err() == nil {
				method := []string{"GET", "POST"}[rand.IntN(2)]
				r := w.request(method, "web.test", "/")
				if method == "POST" {
					r.Body = io.NopCloser(strings.NewReader("body"))
				}
				res, err := client.Do(r)
				if err != nil || res.StatusCode != 200 {
					failed.Add(1)
					t.Errorf("%v %v", res, err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				done.Add(1)
			}
		})
	}
	old := "a"
	for n := range 10 {
		before := done.Load()
		fresh := fmt.Sprintf("r%d", n)
		start(fresh)
		publish()
		eventually(t, "requests go on", func() bool { return done.Load() > before+50 || failed.Load() > 0 })
		publish(old)
		eventually(t, "old one is drained", func() bool { return w.Report().InFlight[old] == 0 })
		instances[old].stop()
		delete(instances, old)
		publish()
		old = fresh
	}
	cancel()
	load.Wait()
	if failed.Load() > 0 {
		t.Fatalf("%d of %d requests failed", failed.Load(), done.Load()+failed.Load())
	}
	t.Logf("%d requests", done.Load())
}

// TestKilledInstance kills instances without a word to the proxy: idempotent requests don't fail.
func TestKilledInstance(t *testing.T) {
	w := newWorld(t, nil)
	slow := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(5 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
		fmt.Fprint(rw, "ok")
	})
	a, b, c := startInstance(t, "a", slow), startInstance(t, "b", slow), startInstance(t, "c", slow)
	w.set(web(a, b, c))
	ctx, cancel := context.WithCancel(t.Context())
	var done atomic.Int64
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			for ctx.Err() == nil {
				r := w.request("PUT", "web.test", "/")
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), 4
				res, err := client.Do(r)
				if err != nil || res.StatusCode != 200 {
					t.Errorf("%v %v", res, err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				done.Add(1)
			}
		})
	}
	for _, i := range []*instance{a, b} {
		eventually(t, "requests go on", func() bool { return done.Load() > 100 || t.Failed() })
		i.stop()
		done.Store(0)
	}
	eventually(t, "requests go on", func() bool { return done.Load() > 100 || t.Failed() })
	cancel()
	load.Wait()
}

// TestGapIsHeld replaces the only instance with nothing in between.
func TestGapIsHeld(t *testing.T) {
	w := newWorld(t, nil)
	a := startInstance(t, "a", say("a"))
	w.set(web(a))
	res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
	text(t, res, err)
	a.stop()
	empty := web()
	w.set(empty)
	type answer struct {
		status int
		body   string
	}
	answers := make(chan answer)
	for range 3 {
		go func() {
			res, err := http.DefaultClient.Do(w.request("POST", "web.test", "/"))
			status, body := text(t, res, err)
			answers <- answer{status, body}
		}()
	}
	b := startInstance(t, "b", say("b"))
	w.set(web(b))
	for range 3 {
		if got := <-answers; got != (answer{200, "b"}) {
			t.Errorf("%v", got)
		}
	}
}

// TestCrashIsNotSeen kills the only instance under load, and starts it again in its place: first
// nobody knows, then the control plane does.
func TestCrashIsNotSeen(t *testing.T) {
	w := newWorld(t, nil)
	a := startInstance(t, "a", say("a"))
	w.set(web(a))
	ctx, cancel := context.WithCancel(t.Context())
	var done, last atomic.Int64
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			for ctx.Err() == nil {
				res, err := client.Do(w.request("GET", "web.test", "/"))
				if status, body := text(t, res, err); status != 200 {
					t.Errorf("%d %s", status, body)
					return
				}
				done.Add(1)
				last.Store(time.Now().UnixNano())
			}
		})
	}
	for range 3 {
		eventually(t, "requests go on", func() bool { return done.Load() > 50 || t.Failed() })
		a.stop()
		down := web(a)
		down.Endpoints[0].Ready = false
		eventually(t, "requests wait", func() bool { return time.Since(time.Unix(0, last.Load())) > 5*time.Millisecond })
		w.set(down)
		a = startAt(t, "a", a.addr, say("a"))
		w.set(web(a))
		done.Store(0)
	}
	eventually(t, "requests go on", func() bool { return done.Load() > 50 || t.Failed() })
	cancel()
	load.Wait()
}

func TestBodyIsSentAgain(t *testing.T) {
	w := newWorld(t, nil)
	var calls atomic.Int32
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(rw, len(body))
	})
	w.set(web(startInstance(t, "a", handler), startInstance(t, "b", handler)))
	for _, c := range []struct {
		method string
		size   int
		want   int
	}{{"PUT", 1000, 200}, {"PUT", 64 << 10, 200}, {"PUT", 100 << 10, 502}, {"POST", 10, 502}} {
		calls.Store(0)
		r := w.request(c.method, "web.test", "/")
		r.Body = io.NopCloser(bytes.NewReader(make([]byte, c.size)))
		res, err := http.DefaultClient.Do(r)
		status, body := text(t, res, err)
		if status != c.want || status == 200 && body != fmt.Sprint(c.size) {
			t.Errorf("%s of %d bytes: %d %s", c.method, c.size, status, body)
		}
	}
}

func TestEarlyAnswer(t *testing.T) {
	w := newWorld(t, nil)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Connection", "close") // or the server waits for the body itself
		rw.WriteHeader(http.StatusRequestEntityTooLarge)
	}))))
	r := w.request("POST", "web.test", "/")
	pr, pw := io.Pipe()
	defer pw.CloseWithError(errors.New("enough"))
	r.Body = pr
	go func() { _, _ = pw.Write(make([]byte, 10)) }()
	res, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
	if status, _ := text(t, res, err); status != 413 {
		t.Fatal(status)
	}
}
