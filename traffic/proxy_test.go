package traffic_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/marucloud/maru"
)

func say(what string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, what) })
}

func text(t testing.TB, res *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestRequestReachesService(t *testing.T) {
	w := newWorld(t, nil)
	var got http.Header
	w.set(web(startInstance(t, "web-1-a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r.Header
		fmt.Fprint(rw, r.Host, r.URL.Path, "?", r.URL.RawQuery)
	}))))
	r := w.request("GET", "web.test", "/a/b?c=d;e")
	r.Header.Set("X-Forwarded-For", "6.6.6.6")
	r.Header.Set("X_Forwarded_For", "6.6.6.6")
	r.Header.Set("Forwarded", "for=6.6.6.6")
	r.Header.Set("X-Maru-Caller", "bank/admin")
	r.Header.Set("Connection", "X-Secret")
	r.Header.Set("X-Secret", "hop")
	res, err := http.DefaultClient.Do(r)
	if status, body := text(t, res, err); status != 200 || body != "web.test/a/b?c=d;e" {
		t.Fatalf("%d %q", status, body)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "web.test", "X-Forwarded-Proto": "http", "X-Real-Ip": "127.0.0.1",
		"Forwarded": "for=127.0.0.1;host=web.test;proto=http", "X-Maru-Caller": "", "X-Secret": "", "X_forwarded_for": "",
	} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
	if len(got.Get("Traceparent")) != 55 || got.Get("X-Request-Id") == "" {
		t.Errorf("trace %q, request %q", got.Get("Traceparent"), got.Get("X-Request-Id"))
	}
}

func TestWebSocket(t *testing.T) {
	w := newWorld(t, nil)
	up := websocket.Upgrader{}
	inst := startInstance(t, "web-1-a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(rw, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, p, err := c.ReadMessage()
			if err != nil {
				return
			}
			if err := c.WriteMessage(kind, append([]byte("you said "), p...)); err != nil {
				return
			}
		}
	}))
	w.set(web(inst))
	c, _, err := websocket.DefaultDialer.Dial("ws://"+w.http+"/ws", http.Header{"Host": {"web.test"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 3 {
		if err := c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
		if _, p, err := c.ReadMessage(); err != nil || string(p) != fmt.Sprintf("you said %d", i) {
			t.Fatal(string(p), err)
		}
	}
	// While it is open, the instance has it in flight, and a draining one is reported until it ends.
	s := web(inst)
	s.Endpoints[0].Draining = true
	w.set(s)
	if r := w.Report(); r.InFlight["web-1-a"] != 1 {
		t.Fatalf("in flight: %v", r.InFlight)
	}
	c.Close()
	eventually(t, "nothing in flight", func() bool {
		n, listed := w.Report().InFlight["web-1-a"]
		return listed && n == 0
	})
}

func TestStreams(t *testing.T) {
	w := newWorld(t, nil)
	next := make(chan struct{})
	w.set(web(startInstance(t, "web-1-a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(rw)
		for i := range 3 {
			fmt.Fprintf(rw, "data: %d\n\n", i)
			_ = rc.Flush()
			<-next
		}
	}))))
	res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) || !lines.Scan() {
			t.Fatalf("%q %v", lines.Text(), lines.Err())
		}
		next <- struct{}{} // each event arrived before the next was sent
	}
}

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
	var done atomic.Int64
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
			}
		})
	}
	for range 3 {
		eventually(t, "requests go on", func() bool { return done.Load() > 50 || t.Failed() })
		a.stop()
		down := web(a)
		down.Endpoints[0].Ready = false
		eventually(t, "requests wait", func() bool {
			before := done.Load()
			time.Sleep(5 * time.Millisecond) // long enough for many requests
			return done.Load() == before
		})
		w.set(down)
		a = startAt(t, "a", a.addr, say("a"))
		w.set(web(a))
		done.Store(0)
	}
	eventually(t, "requests go on", func() bool { return done.Load() > 50 || t.Failed() })
	cancel()
	load.Wait()
}

func TestPages(t *testing.T) {
	w := newWorld(t, nil)
	dead := freshAddress()
	down := web()
	down.Empty = "The last one exited with code 1."
	refusing := web()
	refusing.Service, refusing.Routes = shop.Service("refusing"), []maru.Route{{Host: "refusing.test"}}
	refusing.Endpoints = []maru.Endpoint{{Instance: "x", Release: 1, Ready: true, Addresses: maru.Addresses{V4: dead}}}
	hanging := web(startInstance(t, "h", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })))
	hanging.Service, hanging.Routes, hanging.Timeout = shop.Service("hanging"), []maru.Route{{Host: "hanging.test"}}, 20*time.Millisecond
	dying := web(startInstance(t, "d", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })))
	dying.Service, dying.Routes = shop.Service("dying"), []maru.Route{{Host: "dying.test"}}
	private := web()
	private.Service, private.Routes, private.Allow = shop.Service("private"), []maru.Route{{Host: "private.test"}}, []string{"web"}
	w.set(down, refusing, hanging, dying, private)
	for _, c := range []struct {
		host string
		want int
		say  string
	}{
		{"nowhere.test", 404, "No service has a route for nowhere.test"},
		{"web.test", 503, "maru status web"},
		{"refusing.test", 502, "does not accept connections on port 8080: connection refused"},
		{"dying.test", 502, "ended the connection before it answered"},
		{"hanging.test", 504, "did not answer within 20ms"},
		{"private.test", 403, "does not accept calls from gateway"},
	} {
		for accept, kind := range map[string]string{
			"text/html,*/*;q=0.8": "text/html; charset=utf-8", "application/json": "application/json", "": "text/plain; charset=utf-8",
		} {
			r := w.request("POST", c.host, "/")
			r.Header.Set("Accept", accept)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			status, body := text(t, res, err)
			if status != c.want || res.Header.Get("Content-Type") != kind || !strings.Contains(body, c.say) {
				t.Errorf("%s %s: %d %s %s", c.host, accept, status, res.Header.Get("Content-Type"), body)
			}
			if id := res.Header.Get("X-Request-Id"); id == "" || !strings.Contains(body, id) {
				t.Errorf("%s: page without its id", c.host)
			}
			if kind == "application/json" && !json.Valid([]byte(body)) {
				t.Errorf("not JSON: %s", body)
			}
		}
	}
}

func TestMeshPolicy(t *testing.T) {
	w := newWorld(t, nil)
	var caller string
	callee := web(startInstance(t, "web-1-a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		caller = r.Header.Get("X-Maru-Caller")
		fmt.Fprint(rw, "hello")
	})))
	service := func(name, network string) (maru.ServiceTraffic, netip.Addr) {
		addr := freshAddress()
		return maru.ServiceTraffic{
			Service: shop.Service(name), Networks: map[string][]string{network: {name}},
			Endpoints: []maru.Endpoint{{Instance: name + "-1", Addresses: maru.Addresses{V4: addr}}},
		}, addr
	}
	friend, friendAddr := service("friend", "default/production/shop/default")
	stranger, strangerAddr := service("stranger", "default/production/shop/other")
	w.set(callee, friend, stranger)
	to := netip.AddrPortFrom(callee.VirtualAddress.V4, port)
	ask := func(from netip.Addr) (int, string) {
		r, _ := http.NewRequest("GET", "http://web:8080/", http.NoBody)
		r.Header.Set("X-Maru-Caller", "bank/admin")
		res, err := w.callFrom(from, to).Do(r)
		return text(t, res, err)
	}
	if status, body := ask(friendAddr); status != 200 || body != "hello" || caller != "shop/friend" {
		t.Errorf("friend: %d %s, caller %s", status, body, caller)
	}
	if status, body := ask(strangerAddr); status != 403 || !strings.Contains(body, "does not accept calls from stranger") {
		t.Errorf("stranger: %d %s", status, body)
	}
	callee.Allow = []string{"gateway"}
	w.set(callee)
	if status, _ := ask(friendAddr); status != 403 {
		t.Errorf("friend that is not named: %d", status)
	}
	// An address that nobody has gets no answer at all.
	if _, err := w.callFrom(freshAddress(), to).Get("http://web:8080/"); err == nil {
		t.Error("somebody unknown was answered")
	}
}

// TestMeshTunnel speaks something else on a port that is said to speak HTTP.
func TestMeshTunnel(t *testing.T) {
	w := newWorld(t, nil)
	addr := freshAddress()
	l := listen(t, netip.AddrPortFrom(addr, port).String())
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				all, _ := io.ReadAll(c) // until the client has sent all it has
				_, _ = c.Write(bytes.ToUpper(all))
			}()
		}
	}()
	callee := web()
	callee.Endpoints = []maru.Endpoint{{Instance: "web-1", Release: 1, Ready: true, Addresses: maru.Addresses{V4: addr}}}
	from := freshAddress()
	friend := maru.ServiceTraffic{
		Service: shop.Service("friend"), Networks: callee.Networks,
		Endpoints: []maru.Endpoint{{Instance: "friend-1", Addresses: maru.Addresses{V4: from}}},
	}
	w.set(callee, friend)
	c, err := w.dialFrom(t.Context(), from, netip.AddrPortFrom(callee.VirtualAddress.V4, port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x16\x03\x01 not http")); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "\x16\x03\x01 NOT HTTP" {
		t.Fatalf("%q %v", got, err)
	}
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
