package control_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/control"
	enginememory "github.com/marucloud/maru/engine/memory"
	storememory "github.com/marucloud/maru/store/memory"
)

const (
	servicesPerApp      = 10
	instancesPerService = 10
)

// probe is an engine and a publisher that tell when something reaches them.
type probe struct {
	*enginememory.Engine
	mu      sync.Mutex
	applied map[maru.WorkloadID]chan time.Time
	set     map[maru.ServiceID]chan time.Time
	drains  chan string
	told    int
}

func (p *probe) Apply(ctx context.Context, w maru.Workload) error {
	err := p.Engine.Apply(ctx, w)
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.applied[w.ID]; c != nil {
		c <- time.Now()
		delete(p.applied, w.ID)
	}
	return err
}

// planes are the probe as a publisher.
type planes struct{ *probe }

func (p planes) Sync() {}

func (p planes) InForce(context.Context) error { return nil }

func (p planes) Set(services ...maru.ServiceTraffic) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range services {
		p.told++
		if c := p.set[s.Service]; c != nil {
			c <- time.Now()
			delete(p.set, s.Service)
		}
		for _, e := range s.Endpoints {
			if e.Draining {
				p.drains <- e.Instance
			}
		}
	}
	return 0
}

func (p planes) Remove(...maru.ServiceID) uint64 { return 0 }

// drain lets go of draining instances, as data planes would.
func (p *probe) drain(ctx context.Context) {
	for {
		select {
		case id := <-p.drains:
			_ = p.Drained(ctx, id)
		case <-ctx.Done():
			return
		}
	}
}

// nextApply and nextTraffic tell when the workload is applied and the service's traffic set next.
func (p *probe) nextApply(id maru.WorkloadID) <-chan time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied[id] = make(chan time.Time, 1)
	return p.applied[id]
}

func (p *probe) nextTraffic(id maru.ServiceID) <-chan time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set[id] = make(chan time.Time, 1)
	return p.set[id]
}

// large is a platform with many apps that all run.
type large struct {
	*control.Controller
	*probe
	apps int
	stop func()
}

func (l *large) scope(n int) maru.Scope {
	return maru.Scope{Project: "default", Environment: "production", App: fmt.Sprintf("app%d", n%l.apps)}
}

func newLarge(t testing.TB, instances int) *large {
	t.Helper()
	l := &large{apps: instances / servicesPerApp / instancesPerService, probe: &probe{
		Engine:  enginememory.New(enginememory.Config{}),
		applied: map[maru.WorkloadID]chan time.Time{}, set: map[maru.ServiceID]chan time.Time{}, drains: make(chan string, 1<<16),
	}}
	cfg := control.Config{Ranges: maru.DefaultRanges()}
	c, err := control.New(cfg, storememory.New(), l.probe, planes{l.probe}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l.Controller = c
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Engine.Run(ctx) })
	running.Go(func() { _ = c.Run(ctx) })
	running.Go(func() { l.drain(ctx) })
	l.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(l.stop)
	for n := range l.apps {
		services := map[string]maru.Service{}
		for k := range servicesPerApp {
			services[fmt.Sprintf("s%d", k)] = web("web:1", func(s *maru.Service) { s.Replicas = instancesPerService })
		}
		d := deployment(app(services))
		d.Scope = l.scope(n)
		if _, _, err := c.Deploy(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	for n := range l.apps {
		for s, err := range c.Watch(ctx, l.scope(n)) {
			if err != nil {
				t.Fatal(err)
			}
			if s.Rollout.Phase.Final() && s.State == maru.StateRunning {
				break
			}
		}
	}
	return l
}

// scale changes one service, and gives how long it took until the engine had it, and until its new
// traffic was out.
func (l *large) scale(t testing.TB, n int) (applied, published time.Duration) {
	id := l.scope(n).Service(fmt.Sprintf("s%d", n%servicesPerApp))
	replicas := instancesPerService + 1 - n/l.apps%2
	toEngine, toPlanes := l.nextApply(id.Workload("1")), l.nextTraffic(id)
	begin := time.Now()
	if err := l.Scale(context.Background(), id.Scope, map[string]int{id.Service: replicas}, "ann"); err != nil {
		t.Fatal(err)
	}
	a, p := <-toEngine, <-toPlanes
	return a.Sub(begin), max(p.Sub(a), 0)
}

// deploy brings an app to another image, and gives how long it took until all of it runs.
func (l *large) deploy(t testing.TB, n int) time.Duration {
	services := map[string]maru.Service{}
	for k := range servicesPerApp {
		services[fmt.Sprintf("s%d", k)] = web(fmt.Sprintf("web:%d", n), func(s *maru.Service) { s.Replicas = instancesPerService })
	}
	d := deployment(app(services))
	d.Scope = l.scope(n)
	begin := time.Now()
	if _, _, err := l.Deploy(context.Background(), d); err != nil {
		t.Fatal(err)
	}
	for s := range l.Watch(context.Background(), d.Scope) {
		if s.Rollout.Phase.Final() {
			break
		}
	}
	return time.Since(begin)
}

// fail makes an instance of a service that is not scaled not ready, and gives how long it took until
// traffic knew.
func (l *large) fail(t testing.TB, n int) time.Duration {
	k := (n + 1) % servicesPerApp
	id := l.scope(n).Service(fmt.Sprintf("s%d", k))
	s, err := l.Status(context.Background(), id.Scope)
	if err != nil {
		t.Fatal(err)
	}
	victim := s.Services[k].Instances[0].ID
	toPlanes := l.nextTraffic(id)
	begin := time.Now()
	l.SetReady(victim, false, "told to")
	took := (<-toPlanes).Sub(begin)
	l.SetReady(victim, true, "")
	return took
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// TestLarge holds the bars for a simulated installation of 10,000 services and 100,000 instances.
func TestLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	instances := 100_000
	if race {
		instances = 2_000
	}
	before := heap()
	begin := time.Now()
	l := newLarge(t, instances)
	t.Logf("%d instances run after %s, %.0f MB", instances, time.Since(begin).Round(time.Millisecond), heap()-before)
	if used := heap() - before; used > 1024 {
		t.Errorf("%.0f MB of heap, want at most 1024", used)
	}
	const rounds = 3 // the bars are the platform's, not its neighbours' on this machine
	for round := range rounds {
		if slow := l.round(t, round); slow == "" {
			break
		} else if round == rounds-1 {
			t.Error(slow)
		}
	}
}

// round makes a thousand changes of each kind, and says what was too slow.
func (l *large) round(t *testing.T, round int) (slow string) {
	var applied, published, failed []time.Duration
	for n := range 1000 {
		a, p := l.scale(t, round*1000+n)
		applied, published = append(applied, a), append(published, p)
		failed = append(failed, l.fail(t, n))
	}
	for _, c := range []struct {
		what string
		took []time.Duration
		most time.Duration
	}{
		{"a change is planned and applied", applied, 50 * time.Millisecond},
		{"its traffic is out", published, 10 * time.Millisecond},
		{"an instance that is not ready is out of the traffic", failed, 10 * time.Millisecond},
	} {
		most := c.most
		if race {
			most *= 20
		}
		took := p99(c.took)
		t.Logf("%s after %s (p50 %s)", c.what, took, c.took[len(c.took)/2])
		if took > most {
			slow += fmt.Sprintf("%s after %s (p99), want at most %s\n", c.what, took, most)
		}
	}
	return slow
}

// BenchmarkChange shows that the cost of a change does not grow with what did not change.
func BenchmarkChange(b *testing.B) {
	for _, instances := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("instances=%d", instances), func(b *testing.B) {
			before := heap()
			l := newLarge(b, instances)
			b.ReportMetric(heap()-before, "MB")
			var applied, published []time.Duration
			n := 0
			for b.Loop() {
				a, p := l.scale(b, n)
				applied, published = append(applied, a), append(published, p)
				n++
			}
			b.ReportMetric(float64(p99(applied).Microseconds())/1000, "applied-p99-ms")
			b.ReportMetric(float64(p99(published).Microseconds())/1000, "published-p99-ms")
			l.stop()
		})
	}
}

// BenchmarkDeploy is a rolling update of an app of 100 instances beside others.
func BenchmarkDeploy(b *testing.B) {
	for _, instances := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("instances=%d", instances), func(b *testing.B) {
			l := newLarge(b, instances)
			var took []time.Duration
			n := 0
			for b.Loop() {
				n++
				took = append(took, l.deploy(b, n))
			}
			b.ReportMetric(float64(p99(took).Microseconds())/1000, "p99-ms")
			l.stop()
		})
	}
}
