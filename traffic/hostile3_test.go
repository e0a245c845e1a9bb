package traffic_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// firstFlight is what a client says first.
func firstFlight(name string) ([]byte, error) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name, MinVersion: tls.VersionTLS13}).Handshake()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		return nil, err
	}
	flight := make([]byte, len(head)+(int(head[3])<<8|int(head[4])))
	_, err := io.ReadFull(server, flight[copy(flight, head):])
	return flight, err
}

// TestHandshakeFloods: clients that begin handshakes and don't end them, of which there are more than are
// taken at once, keep nobody out, whether names are looked at first or not.
func TestHandshakeFloods(t *testing.T) {
	for _, passing := range []bool{false, true} {
		w := newSecureWorld(t, false, nil, "web.test")
		w.set(web(startInstance(t, "a", say("a"))))
		if passing {
			own, _ := startTLS(t, "own", false, "own.test")
			w.set(passingTo(own))
		}
		hello, err := firstFlight("web.test")
		if err != nil {
			t.Fatal(err)
		}
		before := runtime.NumGoroutine()
		var conns []net.Conn
		const flood = 3000
		for i := range flood {
			c, err := net.Dial("tcp", w.https)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			switch i % 4 {
			case 0: // says nothing
			case 1:
				_, err = c.Write(hello[:3])
			case 2:
				_, err = c.Write(hello[:len(hello)-1])
			case 3: // reads nothing of the answer
				_, err = c.Write(hello)
			}
			if err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
				t.Fatal(err)
			}
			if i%500 == 499 {
				if res, body := ask(t, w.client(nil, i%1000 == 499), "https://web.test/", nil); body != "a" {
					t.Error("others are not served:", res.Status)
				}
			}
		}
		// The ones that came first had to go.
		_ = conns[0].SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, conns[0]); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Error("the oldest one is still there")
		}
		for _, c := range conns {
			c.Close()
		}
		eventually(t, "nothing is left of them", func() bool { return runtime.NumGoroutine() < before+100 })
	}
}

func passingTo(i *instance) maru.ServiceTraffic { return passing([]string{"own.test"}, i) }

// TestWebSocketHandshakeAbuse: only what the service agreed to is another protocol; all else on the connection
// is requests, each of which its own route judges.
func TestWebSocketHandshakeAbuse(t *testing.T) {
	w := newWorld(t, nil)
	var admin atomic.Int64
	i := startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/admin":
			admin.Add(1)
		case "/version": // a service that does not know the version
			rw.Header().Set("Sec-WebSocket-Version", "13")
			rw.WriteHeader(http.StatusUpgradeRequired)
		case "/other": // agrees to what nobody asked for
			c, _, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
			return
		}
		fmt.Fprintf(rw, "%q", r.Header["Upgrade"])
	}))
	s := web(i)
	s.Routes = append(s.Routes, maru.Route{Host: "web.test", Path: "/admin", Policy: &maru.RoutePolicy{
		Addresses: &maru.AddressList{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
	}})
	w.set(s)
	const hidden = "GET /admin HTTP/1.1\r\nHost: web.test\r\n\r\n"
	begin := func(path, more string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + more + "\r\n" + hidden
	}
	for name, c := range map[string]struct {
		text   string
		first  int
		second int // of the request behind it; 0: the connection is ended
	}{
		"version not known":     {begin("/version", "Upgrade: websocket\r\nSec-WebSocket-Version: 777\r\n"), 426, 403},
		"no agreement":          {begin("/", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"), 200, 403},
		"another agreement":     {begin("/other", "Upgrade: websocket\r\n"), 502, 403},
		"agreement unasked for": {"GET /other HTTP/1.1\r\nHost: web.test\r\n\r\n" + hidden, 502, 403},
		"HTTP/2":                {begin("/", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), 200, 403},
		"HTTP/2, too":           {begin("/", "Upgrade: websocket, h2c\r\n"), 200, 403},
		"not of the connection": {"GET / HTTP/1.1\r\nHost: web.test\r\nUpgrade: websocket\r\n\r\n" + hidden, 200, 403},
		"with a body":           {"POST / HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: " + fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden + hidden, 200, 403},
	} {
		conn, r := w.talk(c.text)
		if res, body := answer(t, r, "GET"); res.StatusCode != c.first || strings.Contains(body, "h2c\"]") && !strings.Contains(body, "websocket") {
			t.Errorf("%s: %s %s", name, res.Status, body)
		}
		if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != c.second {
			if c.second != 0 || err == nil {
				t.Errorf("%s: behind it: %v %v", name, res, err)
			}
		}
		conn.Close()
	}
	if n := admin.Load(); n > 0 {
		t.Errorf("%d requests got past their route", n)
	}
	eventually(t, "nothing in flight", func() bool { return w.Report().InFlight["a"] == 0 })
}

// TestWebSocketHandshakesAreBounded: handshakes that a service leaves unanswered hold no more places than its
// limits say, and are over when their clients go.
func TestWebSocketHandshakesAreBounded(t *testing.T) {
	w := newWorld(t, func(cfg *traffic.Config) { cfg.Drain = time.Second })
	var inside atomic.Int64
	s := web(startInstance(t, "a", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		inside.Add(1)
		defer inside.Add(-1)
		<-r.Context().Done()
	})))
	s.Limits = maru.Limits{Concurrency: 10}
	w.set(s)
	var conns []net.Conn
	refused := 0
	const head = "GET / HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	for range 10 {
		c, _ := w.talk(head)
		conns = append(conns, c)
	}
	eventually(t, "full", func() bool { return inside.Load() == 10 })
	for range 40 {
		c, r := w.talk(head)
		conns = append(conns, c)
		if res, err := http.ReadResponse(bufio.NewReader(r), nil); err == nil && res.StatusCode == 503 {
			refused++
		}
	}
	if refused != 40 || inside.Load() != 10 {
		t.Errorf("%d are refused, %d with the service", refused, inside.Load())
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "over", func() bool { return inside.Load() == 0 })
}
