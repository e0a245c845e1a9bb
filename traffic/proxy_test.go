package traffic_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
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
	c, _, err := websocket.DefaultDialer.Dial("ws://"+w.http+"/ws", http.Header{"Host": {"web.test"}}) //nolint:bodyclose // the response of a websocket has no body of its own
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
