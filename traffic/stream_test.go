package traffic_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
	"github.com/marucloud/maru/traffic/stream"
)

// control is the server's side of the stream.
type control struct {
	*stream.Publisher
	stop    func()
	mu      sync.Mutex
	drained []string
}

func startControl(t testing.TB, socket string) *control {
	t.Helper()
	c := &control{}
	c.Publisher = stream.NewPublisher(stream.PublisherConfig{Drained: func(i string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.drained = append(c.drained, i)
	}})
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- stream.NewServer(c.Publisher, testLog(t)).Run(ctx, l) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(c.stop)
	return c
}

func (c *control) isDrained(instance string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.drained {
		if d == instance {
			return true
		}
	}
	return false
}

func (w *world) status(host string) int {
	res, err := http.DefaultClient.Do(w.request("GET", host, "/"))
	if err != nil {
		w.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

func TestStreamFeedsProxy(t *testing.T) {
	folder := t.TempDir()
	server := filepath.Join(folder, "traffic.sock")
	kept := map[string]*os.File{}
	var https net.Listener
	change := func(cfg *traffic.Config) {
		cfg.Server, cfg.State = server, filepath.Join(folder, "state")
		https = listen(t, "127.0.0.1:0")
		cfg.Listeners["https"] = https
		cfg.Keep = func(name string, f *os.File) error {
			fd, err := os.Open("/proc/self/fd/" + itoa(int(f.Fd()))) // as a supervisor, which gets its own
			kept[name] = fd
			return err
		}
		cfg.Kept = func(name string) (*os.File, error) {
			if f := kept[name]; f != nil {
				return os.Open("/proc/self/fd/" + itoa(int(f.Fd())))
			}
			return nil, nil
		}
	}
	w := newWorld(t, change)
	c := startControl(t, server)
	a := startInstance(t, "a", say("a"))
	c.Set(web(a))
	cert, _ := certificateFor(t, "secret-name.test")
	c.SetCertificates([]maru.Certificate{cert})
	if w.status("web.test") != 404 {
		t.Fatal("told before everything is set")
	}
	c.Sync()
	eventually(t, "route is there", func() bool { return w.status("web.test") == 200 })
	eventually(t, "version is acknowledged", func() bool { v, n := c.Acked(); return n == 1 && v == c.Version() })

	// The state is on disk, the key is not.
	journal := filepath.Join(folder, "state", "traffic.journal")
	eventually(t, "state is kept", func() bool {
		data, err := os.ReadFile(journal)
		return err == nil && strings.Contains(string(data), "web.test")
	})
	data, err := os.ReadFile(journal)
	if err != nil || strings.Contains(string(data), "chain") || strings.Contains(string(data), "PRIVATE") {
		t.Fatalf("%v: %s", err, data)
	}

	// Without a server, traffic goes on; a new proxy starts from disk, and gets its certificates back.
	c.stop()
	if w.status("web.test") != 200 {
		t.Fatal("traffic ended with the server")
	}
	w.stop()
	w = newWorld(t, change)
	if w.status("web.test") != 200 {
		t.Fatal("a new proxy knows nothing")
	}
	conn, err := tls.Dial("tcp", https.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // what is shown is looked at
	if err != nil {
		t.Fatal(err)
	}
	if name := conn.ConnectionState().PeerCertificates[0].DNSNames[0]; name != "secret-name.test" {
		t.Fatal(name)
	}
	conn.Close()

	// A new server that knows less takes nothing away before it has said so.
	c = startControl(t, server)
	other := web(a)
	other.Service, other.Routes = shop.Service("other"), []maru.Route{{Host: "other.test"}}
	c.Set(other)
	if w.status("web.test") != 200 {
		t.Fatal("taken away by a server that is not in the picture yet")
	}
	c.Sync()
	eventually(t, "new state", func() bool { return w.status("other.test") == 200 && w.status("web.test") == 404 })
	c.Remove(shop.Service("other"))
	eventually(t, "removed", func() bool { return w.status("other.test") == 404 })
}

func TestDrainedIsTold(t *testing.T) {
	server := filepath.Join(t.TempDir(), "traffic.sock")
	w := newWorld(t, func(cfg *traffic.Config) { cfg.Server = server })
	c := startControl(t, server)
	up := websocket.Upgrader{}
	ended := make(chan struct{})
	inst := startInstance(t, "web-1-a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if conn, err := up.Upgrade(rw, r, nil); err == nil {
			_, _, _ = conn.ReadMessage()
			conn.Close()
			close(ended)
		}
	}))
	idle := startInstance(t, "web-1-b", say(""))
	s := web(inst)
	c.Set(s)
	c.Sync()
	eventually(t, "connected", func() bool { v, n := c.Acked(); return n == 1 && v == c.Version() })
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+w.http+"/", http.Header{"Host": {"web.test"}}) //nolint:bodyclose // the response of a websocket has no body of its own
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s = web(inst, idle)
	for i := range s.Endpoints {
		s.Endpoints[i].Draining = true
	}
	v := c.Set(s)
	eventually(t, "the idle one is free", func() bool { return c.isDrained("web-1-b") })
	if got, _ := c.Acked(); got < v || c.isDrained("web-1-a") {
		t.Fatal("told too early")
	}
	conn.Close()
	<-ended
	eventually(t, "the busy one is free", func() bool { return c.isDrained("web-1-a") })
}

// TestDeltaIsFast measures the time from a change to its being in force.
func TestDeltaIsFast(t *testing.T) {
	server := filepath.Join(t.TempDir(), "traffic.sock")
	w := newWorld(t, func(cfg *traffic.Config) { cfg.Server = server })
	c := startControl(t, server)
	for i := range 2000 {
		s := web()
		s.Service, s.Routes = shop.Service("s"+itoa(i)), []maru.Route{{Host: "s" + itoa(i) + ".test"}}
		c.Set(s)
	}
	c.Sync()
	eventually(t, "everything is there", func() bool { v, n := c.Acked(); return n == 1 && v == c.Version() })
	began := time.Now()
	const changes = 100
	for i := range changes {
		s := web()
		s.Empty = itoa(i)
		v := c.Set(s)
		eventually(t, "in force", func() bool { return w.Report().Version >= v })
	}
	t.Logf("%s from change to force", time.Since(began)/changes)
}
