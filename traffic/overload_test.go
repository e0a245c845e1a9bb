package traffic_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

// working is an instance that has so many workers, each of which takes a time for a request; the others wait.
func working(workers int, takes time.Duration) http.Handler {
	free := make(chan struct{}, workers)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case free <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		defer func() { <-free }()
		time.Sleep(takes)
		fmt.Fprint(rw, "done")
	})
}

// outcome is what became of one request.
type outcome struct {
	came   time.Time
	took   time.Duration
	status int
	after  string
}

// offer sends requests at a rate, whether the earlier ones are answered or not, and waits for all answers.
func (w *world) offer(ctx context.Context, rate float64) []outcome {
	var mu sync.Mutex
	var all []outcome
	var wg sync.WaitGroup
	transport := &http.Transport{MaxIdleConnsPerHost: 4096}
	defer transport.CloseIdleConnections()
	every := time.Duration(float64(time.Second) / rate)
	for at := time.Now(); ctx.Err() == nil; at = at.Add(every) {
		time.Sleep(time.Until(at))
		wg.Go(func() {
			r := w.request("GET", "web.test", "/")
			o := outcome{came: time.Now()}
			res, err := transport.RoundTrip(r)
			if err == nil {
				o.status, o.after = res.StatusCode, res.Header.Get("Retry-After")
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			o.took = time.Since(o.came)
			mu.Lock()
			all = append(all, o)
			mu.Unlock()
		})
	}
	wg.Wait()
	return all
}

func p99(all []outcome, status int) (took time.Duration, n int) {
	var d []time.Duration
	for _, o := range all {
		if o.status == status {
			d = append(d, o.took)
		}
	}
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	return d[(len(d)-1)*99/100], len(d)
}

// TestOverload offers three times what two instances can do: they go on doing it, and what is too much is
// refused. With MARU_TIMINGS it does so for longer, and the bars count, one time of three; the exact figures
// are the simulation's, in traffic/table.
func TestOverload(t *testing.T) {
	if os.Getenv("MARU_TIMINGS") == "" {
		overload(t, 500*time.Millisecond)
		return
	}
	for try := 1; !overload(t, 5*time.Second); try++ {
		if try == 3 {
			t.Fatal("too little, or too late, three times")
		}
	}
}

// overload tells whether the bars are held.
func overload(t *testing.T, unit time.Duration) bool {
	w := newWorld(t, nil)
	defer w.stop()
	s := web(startInstance(t, "a", working(8, 100*time.Millisecond)), startInstance(t, "b", working(8, 100*time.Millisecond)))
	s.Limits.Concurrency = -1
	w.set(s)
	const can = 160.0
	during := func(d time.Duration, rate float64) []outcome {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		return w.offer(ctx, rate)
	}
	normal, _ := p99(during(unit, 0.7*can), 200)
	begin := time.Now()
	all := during(unit, 3*can)
	took := time.Since(begin).Seconds()
	answered, n := p99(all, 200)
	refused, m := p99(all, 503)
	for _, o := range all {
		if o.status == 503 && o.after == "" || o.status != 503 && o.status != 200 {
			t.Fatalf("%+v", o)
		}
	}
	again := during(unit, 0.7*can)
	after, good := p99(again, 200)
	goodput := float64(n) / (can * took)
	t.Logf("normal p99 %s; overload: goodput %.0f %%, p99 %s (%.1f times), %d refused within %s (p99); right after: p99 %s, %d of %d answered",
		normal, goodput*100, answered, float64(answered)/float64(normal), m, refused, after, good, len(again))
	if n == 0 || m == 0 || good == 0 {
		t.Error("nothing was answered, or nothing refused")
	}
	return goodput >= 0.9 && answered <= 3*normal && refused < 5*time.Millisecond && good >= len(again)*99/100
}

// TestHang: a service that hangs holds as many requests as it may have, and all others are refused at once, so
// that who calls it goes on.
func TestHang(t *testing.T) {
	w := newWorld(t, nil)
	release := make(chan struct{})
	var inside atomic.Int32
	s := web(startInstance(t, "a", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside.Add(1)
		<-release
	})))
	s.Limits = maru.Limits{Concurrency: 10, Queue: 2, Wait: time.Minute}
	w.set(s)
	var held sync.WaitGroup
	var refused, answered atomic.Int32
	for range 30 {
		held.Go(func() {
			res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
			switch status, body := text(t, res, err); {
			case status == 200:
				answered.Add(1)
			case status == 503 && res.Header.Get("Retry-After") == "1":
				refused.Add(1)
			default:
				t.Errorf("%d %s", status, body)
			}
		})
	}
	eventually(t, "ten are inside, two wait, and the others are refused", func() bool { return inside.Load() == 10 && refused.Load() == 18 })
	close(release)
	held.Wait()
	if answered.Load() != 12 {
		t.Errorf("%d of 12 were answered", answered.Load())
	}
}

// TestTimeIsPassedOn: an instance is told how long its caller waits, the shorter of what the service has and
// what the caller has left.
func TestTimeIsPassedOn(t *testing.T) {
	w := newWorld(t, nil)
	told := make(chan string, 1)
	s := web(startInstance(t, "a", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		told <- r.Header.Get("X-Maru-Timeout-Ms")
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	})))
	ask := func(path, left string) (int, string) {
		r := w.request("GET", "web.test", path)
		if left != "" {
			r.Header.Set("X-Maru-Timeout-Ms", left)
		}
		res, err := http.DefaultClient.Do(r)
		status, _ := text(t, res, err)
		return status, <-told
	}
	w.set(s)
	if _, ms := ask("/", ""); ms != "" {
		t.Error(ms)
	}
	s.Timeout = 5 * time.Second
	w.set(s)
	for left, want := range map[string]string{"": "5000", "100": "100", "60000": "5000", "soon": "5000"} {
		if _, ms := ask("/", left); ms != want {
			t.Errorf("%q left: told %q", left, ms)
		}
	}
	began := time.Now()
	status, _ := ask("/hang", "50")
	if status != 504 || time.Since(began) > 3*time.Second {
		t.Error(status, time.Since(began))
	}
}

// TestLeastImportantFirst: calls of low priority are refused before others.
func TestLeastImportantFirst(t *testing.T) {
	w := newWorld(t, nil)
	release := make(chan struct{})
	var inside atomic.Int32
	callee := web(startInstance(t, "a", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside.Add(1)
		<-release
	})))
	callee.Limits.Concurrency = 16
	from := freshAddress()
	batch := maru.ServiceTraffic{
		Service: shop.Service("batch"), Networks: callee.Networks, Priority: maru.LowPriority,
		Endpoints: []maru.Endpoint{{Instance: "batch-1", Addresses: maru.Addresses{V4: from}}},
	}
	w.set(callee, batch)
	to := netip.AddrPortFrom(callee.VirtualAddress.V4, port)
	var held sync.WaitGroup
	for i := range 14 {
		held.Go(func() {
			res, err := (&http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, w.http)
			}}).RoundTrip(w.request("GET", "web.test", "/"))
			if status, _ := text(t, res, err); status != 200 {
				t.Errorf("request %d: %d", i, status)
			}
		})
	}
	eventually(t, "fourteen are inside", func() bool { return inside.Load() == 14 })
	client := w.callFrom(from, to)
	res, err := client.Get("http://web:" + strconv.Itoa(port) + "/")
	if status, _ := text(t, res, err); status != 503 {
		t.Errorf("a call of low priority: %d", status)
	}
	held.Go(func() {
		res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
		if status, _ := text(t, res, err); status != 200 {
			t.Errorf("a request of normal priority: %d", status)
		}
	})
	eventually(t, "there is room for others", func() bool { return inside.Load() == 15 })
	close(release)
	held.Wait()
}
