package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

// mirror is a data plane that keeps what it is told. It waits at each update until it may go on.
type mirror struct {
	mu      sync.Mutex
	have    map[maru.ServiceID]maru.ServiceTraffic
	updates []maru.TrafficUpdate
	gate    chan struct{}
}

func (m *mirror) Update(u maru.TrafficUpdate) error {
	if m.gate != nil {
		<-m.gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if u.Full {
		m.have = map[maru.ServiceID]maru.ServiceTraffic{}
	}
	for _, s := range u.Services {
		m.have[s.Service] = s
	}
	for _, id := range u.Removed {
		delete(m.have, id)
	}
	m.updates = append(m.updates, u)
	return nil
}

func follow(p *Publisher, m *mirror) (stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Follow(ctx, m) }()
	enough := errors.New("enough")
	return func() {
		cancel(enough)
		if m.gate != nil {
			close(m.gate)
		}
		if err := <-done; !errors.Is(err, enough) {
			panic(err)
		}
	}
}

// TestInForce waits for a slow data plane, and not for one that has left.
func TestInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPublisher(PublisherConfig{})
		p.Sync()
		if err := p.InForce(t.Context()); err != nil {
			t.Errorf("without a data plane: %v", err)
		}
		m := &mirror{gate: make(chan struct{})}
		stop := follow(p, m)
		m.gate <- struct{}{}
		synctest.Wait()
		waitsUntil(t, p, "one", func() { m.gate <- struct{}{} })
		waitsUntil(t, p, "two", func() { m.gate <- struct{}{} })
		waitsUntil(t, p, "three", stop)
	})
}

// waitsUntil changes a service and checks that it is not in force before then was called.
func waitsUntil(t *testing.T, p *Publisher, name string, then func()) {
	p.Set(state("web", name))
	done := make(chan error, 1)
	go func() { done <- p.InForce(t.Context()) }()
	synctest.Wait()
	select {
	case <-done:
		t.Fatalf("%s is in force before the data plane has it", name)
	default:
	}
	then()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFollowersConverge: whatever changes, and whenever followers come and go, each ends up with the
// state, in versions that only grow.
func TestFollowersConverge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			p := NewPublisher(PublisherConfig{})
			want := map[maru.ServiceID]maru.ServiceTraffic{}
			type following struct {
				*mirror
				stop func()
			}
			var followers []following
			for i := range rapid.IntRange(1, 30).Draw(rt, "steps") {
				s := state(fmt.Sprint("s", rapid.IntRange(0, 5).Draw(rt, "service")), fmt.Sprint(i))
				switch rapid.IntRange(0, 6).Draw(rt, "what") {
				case 0:
					m := &mirror{}
					followers = append(followers, following{m, follow(p, m)})
				case 1:
					if len(followers) > 0 {
						followers[0].stop()
						followers = followers[1:]
					}
				case 2:
					p.Remove(s.Service, shop.Service("never-there"))
					delete(want, s.Service)
				case 3:
					synctest.Wait()
				case 4:
					p.Sync()
				default:
					p.Set(s)
					want[s.Service] = s
				}
			}
			p.Sync()
			synctest.Wait()
			for _, f := range followers {
				if diff := cmp.Diff(want, f.have, alike...); diff != "" {
					rt.Error(diff)
				}
				for i, u := range f.updates {
					if u.Full != (i == 0) || i > 0 && u.Version <= f.updates[i-1].Version {
						rt.Errorf("update %d: version %d, full %v", i, u.Version, u.Full)
					}
				}
				f.stop()
			}
			p.Remove(slices.Collect(maps.Keys(want))...)
			if len(p.entries) != 0 || p.changed.Len() != 0 || len(p.removed) != 0 {
				rt.Errorf("%d entries, %d changes and %d graves are left", len(p.entries), p.changed.Len(), len(p.removed))
			}
		})
	})
}

func TestSlowFollowerGetsTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPublisher(PublisherConfig{})
		p.Sync()
		m := &mirror{gate: make(chan struct{})}
		stop := follow(p, m)
		defer stop()
		synctest.Wait() // it has the first update, and does not go on
		for i := range 1000 {
			p.Set(state("a", fmt.Sprint(i)))
		}
		m.gate <- struct{}{}
		m.gate <- struct{}{}
		synctest.Wait()
		if len(m.updates) != 2 || m.have[shop.Service("a")].Empty != "999" {
			t.Fatalf("%d updates, the last is %q", len(m.updates), m.have[shop.Service("a")].Empty)
		}
	})
}

func TestNothingBeforeSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPublisher(PublisherConfig{})
		m := &mirror{}
		defer follow(p, m)()
		p.Set(state("a", ""))
		synctest.Wait()
		if len(m.updates) != 0 {
			t.Fatal("told too early")
		}
		p.Sync()
		synctest.Wait()
		if len(m.updates) != 1 || len(m.have) != 1 {
			t.Fatal(m.updates)
		}
	})
}

func TestDrainedWaitsForEveryProxy(t *testing.T) {
	var told []string
	p := NewPublisher(PublisherConfig{Drained: func(i string) { told = append(told, i) }})
	p.Sync()
	s := state("a", "")
	p.Set(s)
	one, two, kernel := p.join(true), p.join(true), p.join(false)
	s.Endpoints = []maru.Endpoint{{Instance: "a-1", Draining: true}}
	v := p.Set(s)
	steps := []struct {
		f    *follower
		r    maru.TrafficReport
		want int
	}{
		{one, maru.TrafficReport{Version: v, InFlight: map[string]int{"a-1": 0}}, 0},
		{kernel, maru.TrafficReport{Version: v}, 0},
		{two, maru.TrafficReport{Version: v - 1}, 0}, // has not heard of it
		{two, maru.TrafficReport{Version: v, InFlight: map[string]int{"a-1": 2}}, 0},
		{two, maru.TrafficReport{Version: v, InFlight: map[string]int{"a-1": 0}}, 1},
		{two, maru.TrafficReport{Version: v, InFlight: map[string]int{"a-1": 0}}, 1}, // once
	}
	for i, step := range steps {
		p.acked(step.f, step.r)
		if len(told) != step.want {
			t.Fatalf("step %d: %v", i, told)
		}
	}
	// Ready again and draining again is another drain.
	s.Endpoints = []maru.Endpoint{{Instance: "a-1", Ready: true}}
	p.Set(s)
	s.Endpoints = []maru.Endpoint{{Instance: "a-1", Draining: true}}
	v = p.Set(s)
	for _, f := range []*follower{one, kernel} {
		p.acked(f, maru.TrafficReport{Version: v})
	}
	p.leave(two) // a proxy that ended has nothing in flight
	if len(told) != 2 {
		t.Fatal(told)
	}
	p.leave(one)
	s.Endpoints = append(s.Endpoints, maru.Endpoint{Instance: "a-2", Draining: true})
	v = p.Set(s)
	p.acked(kernel, maru.TrafficReport{Version: v})
	if len(told) != 2 {
		t.Fatal("without a proxy nothing is known", told)
	}
}

// BenchmarkPublish changes one service of many and takes the update: the cost must not depend on how
// many there are.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := NewPublisher(PublisherConfig{})
			for i := range n {
				p.Set(state(fmt.Sprint("s", i), ""))
			}
			p.Sync()
			f := p.join(true)
			if _, err := p.next(b.Context(), f); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Set(state(fmt.Sprint("s", i%n), fmt.Sprint(i)))
				if u, err := p.next(b.Context(), f); err != nil || len(u.Services) != 1 {
					b.Fatal(err)
				}
			}
		})
	}
}
