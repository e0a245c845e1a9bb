package traffic_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
	"github.com/marucloud/maru/traffic/stream"
)

// setting gives a number from the environment.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// clients ask a proxy all the time, each one request after the other.
type clients struct {
	address string
	quota   atomic.Int64 // requests to go
	done    atomic.Int64
	failed  chan error
	running sync.WaitGroup

	keep      bool // the latencies
	mu        sync.Mutex
	latencies []time.Duration
}

func startClients(address string, many int, quota int64, keep bool) *clients {
	l := &clients{address: address, failed: make(chan error, many), keep: keep}
	l.quota.Store(quota)
	for i := range many {
		client := &http.Client{Transport: &http.Transport{}}
		if i%4 == 3 {
			client = h2cClient()
		}
		l.running.Go(func() {
			defer client.CloseIdleConnections()
			if err := l.client(client); err != nil {
				l.failed <- err
			}
		})
	}
	return l
}

func (l *clients) client(client *http.Client) error {
	var took []time.Duration
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.latencies = append(l.latencies, took...)
	}()
	for l.quota.Add(-1) >= 0 {
		began := time.Now()
		if err := l.ask(client); err != nil {
			return err
		}
		l.done.Add(1)
		if l.keep {
			took = append(took, time.Since(began))
		}
	}
	return nil
}

func (l *clients) ask(client *http.Client) error {
	r, err := http.NewRequest(http.MethodPost, "http://"+l.address+"/", strings.NewReader("body"))
	if err != nil {
		return err
	}
	r.GetBody = nil // so that the client does not try again by itself
	r.Host = "web.test"
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// end waits until all clients have ended.
func (l *clients) end(t *testing.T) {
	t.Helper()
	l.running.Wait()
	close(l.failed)
	for err := range l.failed {
		t.Error(err)
	}
}

func (l *clients) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.latencies)
	return l.latencies[int(q*float64(len(l.latencies)-1))]
}

// TestEndurance sends MARU_REQUESTS (4,000) requests while everything changes: weights and endpoints a hundred
// times a second, and the proxy itself ten times, by one that takes over its socket. No request fails, and
// memory and goroutines stay what they were.
func TestEndurance(t *testing.T) {
	const takeovers = 10
	total := int64(setting(t, "MARU_REQUESTS", 4_000))
	socket := listen(t, "127.0.0.1:0").(*net.TCPListener)
	defer socket.Close()
	next := func() *world {
		file, err := socket.File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		l, err := net.FileListener(file)
		if err != nil {
			t.Fatal(err)
		}
		return newWorld(t, func(cfg *traffic.Config) {
			cfg.Listeners["http"], cfg.Linger, cfg.Drain = l, 5*time.Second, time.Minute
		})
	}
	instances := []*instance{startInstance(t, "a", say("a")), startInstance(t, "b", say("b")), startInstance(t, "c", say("c"))}
	w := next()
	w.set(web(instances...))
	began := time.Now()
	l := startClients(socket.Addr().String(), 16, total, false)
	var memory, goroutines []uint64
	for i := range takeovers {
		change := newChanges(w, instances)
		changed := time.Time{}
		eventuallyWithin(t, 2*time.Hour, "a tenth of the requests", func() bool {
			if time.Since(changed) >= 10*time.Millisecond {
				change.one()
				changed = time.Now()
			}
			return l.done.Load() >= total*int64(i+1)/takeovers || len(l.failed) > 0
		})
		old := w
		w = next()
		w.set(web(instances...))
		old.stop()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		memory, goroutines = append(memory, stats.HeapInuse>>10), append(goroutines, uint64(runtime.NumGoroutine()))
	}
	l.end(t)
	t.Logf("%d requests at %.0f/s over %d takeovers; heap KiB %v, goroutines %v",
		total, float64(total)/time.Since(began).Seconds(), takeovers, memory, goroutines)
	if time.Since(began) > time.Minute { // what a proxy that ended leaves goes with its last timers
		flat(t, "heap", memory, 4<<10)
		flat(t, "goroutines", goroutines, 50)
	}
}

// flat checks that the last readings are no higher than the first ones, but for some slack.
func flat(t *testing.T, what string, readings []uint64, slack uint64) {
	t.Helper()
	third := len(readings) / 3
	if first, last := slices.Max(readings[:third]), slices.Max(readings[len(readings)-third:]); last > first+first/5+slack {
		t.Errorf("%s grows: %v", what, readings)
	}
}

// changes changes a service all the time: which endpoints serve, and by which weights.
type changes struct {
	w         *world
	instances []*instance
	n         int
}

func newChanges(w *world, instances []*instance) *changes {
	return &changes{w: w, instances: instances}
}

func (c *changes) state() maru.ServiceTraffic {
	s := web(c.instances...)
	s.Endpoints[0].Release = 2
	s.Serving = []maru.Weight{{Release: 1, Weight: 100 - c.n%50}, {Release: 2, Weight: c.n % 50}}
	if c.n%3 > 0 {
		s.Endpoints[c.n%3].Draining = true
	}
	c.n++
	return s
}

func (c *changes) one() { c.w.set(c.state()) }

func eventuallyWithin(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %s: %s", limit, what)
		}
	}
}

// TestChangesUnderLoad makes a thousand changes a second of endpoints and weights for MARU_SECONDS (1) while
// requests go on, and measures when each is in force. With MARU_TIMINGS the bars count: in force within
// 10 ms (p99) of the server's decision, and requests' p99 at most a fifth worse than without.
func TestChangesUnderLoad(t *testing.T) {
	seconds := setting(t, "MARU_SECONDS", 1)
	server := filepath.Join(t.TempDir(), "traffic.sock")
	l, err := net.Listen("unix", server)
	if err != nil {
		t.Fatal(err)
	}
	publisher := stream.NewPublisher(stream.PublisherConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- stream.NewServer(publisher, testLog(t)).Run(ctx, l) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	w := newWorld(t, func(cfg *traffic.Config) { cfg.Server = server })
	defer w.stop()
	change := newChanges(w, []*instance{startInstance(t, "a", say("a")), startInstance(t, "b", say("b")), startInstance(t, "c", say("c"))})
	publisher.Set(change.state())
	publisher.Sync()
	eventually(t, "the first state is in force", func() bool { return w.Report().Version == publisher.Version() })

	still := startClients(w.http, 8, 1<<40, true)
	time.AfterFunc(time.Duration(seconds)*time.Second, func() { still.quota.Store(0) })
	still.end(t)

	busy := startClients(w.http, 8, 1<<40, true)
	var late []time.Duration
	waiting := map[uint64]time.Time{} // when each version that is not in force yet was decided
	began := time.Now()
	made := 0
	for time.Since(began) < time.Duration(seconds)*time.Second || len(waiting) > 0 {
		// As many as are due by now, since nobody is waked exactly each millisecond.
		for due := min(int(time.Since(began)/time.Millisecond), 1000*seconds); made < due; made++ {
			decided := time.Now()
			waiting[publisher.Set(change.state())] = decided
		}
		inForce := w.Report().Version
		for version, decided := range waiting {
			if version <= inForce {
				late = append(late, time.Since(decided))
				delete(waiting, version)
			}
		}
		if time.Since(began) > time.Duration(seconds)*time.Second+10*time.Second {
			t.Fatalf("%d changes are not in force", len(waiting))
		}
		time.Sleep(200 * time.Microsecond)
	}
	busy.quota.Store(0)
	busy.end(t)
	slices.Sort(late)
	inForce := late[len(late)*99/100]
	before, after := still.quantile(0.99), busy.quantile(0.99)
	figures := fmt.Sprintf("%d changes in %d s, in force after %s (p50), %s (p99); requests' p99 %s with, %s without",
		made, seconds, late[len(late)/2], inForce, after, before)
	t.Log(figures)
	if os.Getenv("MARU_TIMINGS") != "" && (inForce > 10*time.Millisecond || after > before+before/5 || made < 900*seconds) {
		t.Error("not within the bars: " + figures)
	}
}
