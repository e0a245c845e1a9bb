package table

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

var shop = maru.Scope{Project: "p", Environment: "e", App: "shop"}

func address(n int) maru.Addresses {
	return maru.Addresses{V4: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})}
}

func service(name string, ready ...int) maru.ServiceTraffic {
	s := maru.ServiceTraffic{Service: shop.Service(name)}
	for _, n := range ready {
		s.Endpoints = append(s.Endpoints, maru.Endpoint{Instance: fmt.Sprintf("%s-%d", name, n), Release: 1, Addresses: address(n), Ready: true})
	}
	return s
}

func apply(t testing.TB, x *Table, services ...maru.ServiceTraffic) {
	t.Helper()
	if err := x.Update(maru.TrafficUpdate{Services: services}); err != nil {
		t.Fatal(err)
	}
}

func (t *Table) must(name string) *Service {
	s, ok := t.Service(shop.Service(name))
	if !ok {
		panic(name)
	}
	return s
}

// TestWheelIsExact: whatever the weights, each block gives every share exactly its part.
func TestWheelIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 1000), 1, 6).Draw(t, "weights")
		total := 0
		for _, w := range weights {
			total += w
		}
		w := newWheel(weights)
		got := make([]int, len(weights))
		turns := rapid.IntRange(1, 20).Draw(t, "blocks") * w.size
		for range turns {
			got[w.turn()]++
		}
		for i, weight := range weights {
			if got[i]*total != turns*weight {
				t.Fatalf("share %d of %v got %d of %d turns", i, weights, got[i], turns)
			}
		}
	})
}

func TestWheelDealsBlocksExactly(t *testing.T) {
	for percent, block := range map[int]int{5: 20, 25: 20, 50: 20, 1: 100, 33: 100, 98: 50} {
		w := newWheel([]int{100 - percent, percent})
		if w.size != block {
			t.Errorf("%d%%: blocks of %d, want %d", percent, w.size, block)
		}
		for k := range 50 {
			got := 0
			for range block {
				got += w.turn()
			}
			if got*100 != percent*block {
				t.Fatalf("%d%%: %d turns of block %d", percent, got, k)
			}
		}
	}
}

func TestPickPrefersTheLessBusy(t *testing.T) {
	x := New()
	apply(t, x, service("web", 1, 2))
	svc := x.must("web")
	held := []*Endpoint{svc.Pick(nil)}
	for range 9 {
		held = append(held, svc.Pick(nil))
	}
	a, b := svc.State().Endpoints()[0].InFlight(), svc.State().Endpoints()[1].InFlight()
	if a != 5 || b != 5 {
		t.Fatalf("%d and %d in flight", a, b)
	}
	for _, e := range held {
		e.Done()
	}
}

func TestPickPassesOverWhatFailed(t *testing.T) {
	x := New()
	apply(t, x, service("web", 1, 2, 3))
	svc := x.must("web")
	all := svc.State().Endpoints()
	now := time.Now()
	all[0].Failed(now)
	all[1].Failed(now)
	for range 50 {
		e := svc.Pick(nil)
		if e != all[2] {
			t.Fatalf("picked %s", e.Instance)
		}
		e.Done()
	}
	// When all failed, one of them is better than none; those that were tried are not tried again.
	all[2].Failed(now)
	var tried []*Endpoint
	for range 3 {
		e := svc.Pick(tried)
		if e == nil || slices.Contains(tried, e) {
			t.Fatalf("picked %v after %d", e, len(tried))
		}
		e.Done()
		tried = append(tried, e)
	}
	if e := svc.Pick(tried); e != nil {
		t.Fatal(e.Instance)
	}
	// Becoming ready again forgives.
	s := service("web", 1, 2, 3)
	s.Endpoints[0].Ready = false
	apply(t, x, s)
	apply(t, x, service("web", 1, 2, 3))
	for range 50 {
		e := svc.Pick(nil)
		if e != all[0] {
			t.Fatalf("picked %s", e.Instance)
		}
		e.Done()
	}
}

func TestServingDecides(t *testing.T) {
	x := New()
	s := service("web", 1, 2)
	s.Endpoints[1].Release = 2
	s.Serving = []maru.Weight{{Release: 1, Weight: 100}, {Release: 2, Weight: 0}}
	apply(t, x, s)
	svc := x.must("web")
	for range 50 {
		e := svc.Pick(nil)
		if e.Release != 1 {
			t.Fatal("a release without weight got a request")
		}
		e.Done()
	}
	// The other share takes over while a release has nobody.
	s.Serving[1].Weight = 50
	s.Endpoints = slices.Clone(s.Endpoints)
	s.Endpoints[0].Ready = false
	apply(t, x, s)
	if e := svc.Pick(nil); e == nil || e.Release != 2 {
		t.Fatal(e)
	}
}

// TestDrainingGetsNothing races picks with an endpoint's drain: once the update returned and nothing
// is in flight, nothing begins there any more.
func TestDrainingGetsNothing(t *testing.T) {
	for range 200 {
		x := New()
		apply(t, x, service("web", 1, 2))
		svc := x.must("web")
		target := svc.State().Endpoints()[0]
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					e := svc.Pick(nil)
					if e == target && e.Draining() && x.Report().Version == 2 && e.InFlight() == 0 {
						t.Error("picked what drains")
					}
					e.Done()
				}
			})
		}
		s := service("web", 1, 2)
		s.Endpoints[0].Draining = true
		if err := x.Update(maru.TrafficUpdate{Version: 2, Services: []maru.ServiceTraffic{s}}); err != nil {
			t.Fatal(err)
		}
		for x.Report().InFlight[target.Instance] != 0 {
			<-x.News()
		}
		for range 100 {
			if e := svc.Pick(nil); e == target {
				t.Error("picked what drains")
			} else {
				e.Done()
			}
		}
		close(stop)
		wg.Wait()
	}
}

func TestAwaitCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := New()
		found := make(chan *Endpoint)
		for range 3 {
			go func() {
				e, _ := x.AwaitCaller(context.Background(), address(7).V4, time.Second)
				found <- e
			}()
		}
		synctest.Wait()
		apply(t, x, service("web", 7))
		for range 3 {
			if e := <-found; e == nil || e.Instance != "web-7" {
				t.Fatal(e)
			}
		}
		began := time.Now()
		if e, ok := x.AwaitCaller(context.Background(), address(8).V4, time.Second); ok || time.Since(began) != time.Second {
			t.Fatal(e, time.Since(began))
		}
		if len(x.awaiting.waiters) != 0 || x.awaiting.count != 0 {
			t.Fatal(x.awaiting.waiters, x.awaiting.count)
		}
	})
}

func TestFullTakesAwayWhatItDoesNotName(t *testing.T) {
	x := New()
	a, b := service("a", 1), service("b", 2)
	a.Routes, b.Routes = []maru.Route{{Host: "a"}}, []maru.Route{{Host: "b"}}
	a.VirtualAddress, b.VirtualAddress = address(100), address(101)
	a.Networks, b.Networks = map[string][]string{"n": {"a"}}, map[string][]string{"n": {"b"}}
	apply(t, x, a, b)
	gone := x.must("b")
	changed := gone.Changed()
	b2 := service("c", 3)
	if err := x.Update(maru.TrafficUpdate{Full: true, Services: []maru.ServiceTraffic{a, b2}}); err != nil {
		t.Fatal(err)
	}
	<-changed
	if _, ok := x.Service(b.Service); ok {
		t.Error("service is there")
	}
	if m, _ := x.Route("b", &message.Request{Target: "/", Path: "/"}); m != nil {
		t.Error("route is there")
	}
	if _, ok := x.Virtual(address(101).V4); ok {
		t.Error("virtual address is there")
	}
	if _, ok := x.Caller(address(2).V4); ok {
		t.Error("caller is there")
	}
	if _, ok := x.Instance("b-2"); ok {
		t.Error("instance is there")
	}
	if found := x.Lookup(x.must("a"), "b", ""); len(found) != 0 {
		t.Error("name is there")
	}
	if m, _ := x.Route("a", &message.Request{Target: "/", Path: "/"}); m == nil {
		t.Error("the other one's route is gone")
	}
}
