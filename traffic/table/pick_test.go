package table

import (
	"fmt"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/balance"
)

func many(policy maru.BalancePolicy, n int) maru.ServiceTraffic {
	var list []int
	for i := range n {
		list = append(list, i+1)
	}
	s := service("web", list...)
	s.Balance.Policy = policy
	return s
}

// TestOthersShareEvenly: what one endpoint does not get is spread over all others, not its neighbours.
func TestOthersShareEvenly(t *testing.T) {
	for _, policy := range []maru.BalancePolicy{maru.Prequal, maru.RoundRobin, maru.LeastRequests} {
		x := New()
		apply(t, x, many(policy, 10))
		svc := x.must("web")
		all := svc.State().Endpoints()
		all[3].Failed(time.Now().Add(time.Hour))
		got := map[*Endpoint]int{}
		for range 9000 {
			e := svc.Pick(nil)
			got[e]++
			e.Done()
		}
		for i, e := range all {
			if n := got[e]; i == 3 && n != 0 || i != 3 && (n < 800 || n > 1200) {
				t.Errorf("%s: endpoint %d got %d of 9000", policy, i, n)
			}
		}
	}
}

func TestRoundRobinIsExact(t *testing.T) {
	x := New()
	apply(t, x, many(maru.RoundRobin, 7))
	svc := x.must("web")
	got := map[*Endpoint]int{}
	for range 700 {
		e := svc.Pick(nil)
		got[e]++
		e.Done()
	}
	for e, n := range got {
		if n != 100 {
			t.Errorf("%s got %d", e.Instance, n)
		}
	}
}

// TestHashKeepsItsEndpoint: a key moves only when its endpoint goes, and then to all others alike.
func TestHashKeepsItsEndpoint(t *testing.T) {
	x := New()
	apply(t, x, many(maru.Hash, 10))
	svc := x.must("web")
	where := func() map[int]*Endpoint {
		out := map[int]*Endpoint{}
		for key := range 1000 {
			e := svc.PickFor(Ask{Now: time.Now().UnixNano(), Key: balance.Key(fmt.Sprint(key)), Keyed: true}, nil)
			e.Done()
			out[key] = e
		}
		return out
	}
	before := where()
	count := map[*Endpoint]int{}
	for _, e := range before {
		count[e]++
	}
	for e, n := range count {
		if n < 60 || n > 140 {
			t.Errorf("%s has %d of 1000 keys", e.Instance, n)
		}
	}
	apply(t, x, many(maru.Hash, 9)) // the last one goes
	heirs := map[*Endpoint]int{}
	for key, e := range where() {
		switch was := before[key]; {
		case was.Instance != "web-10" && e != was:
			t.Fatalf("key %d moved from %s to %s", key, was.Instance, e.Instance)
		case was.Instance == "web-10":
			heirs[e]++
		}
	}
	if len(heirs) < 8 {
		t.Errorf("the keys of one that went are at %d others", len(heirs))
	}
}

// TestHashIsBounded: one key alone does not overload its endpoint.
func TestHashIsBounded(t *testing.T) {
	x := New()
	apply(t, x, many(maru.Hash, 10))
	svc := x.must("web")
	for range 400 {
		svc.PickFor(Ask{Now: time.Now().UnixNano(), Key: 1, Keyed: true}, nil)
	}
	for _, e := range svc.State().Endpoints() {
		if e.InFlight() > 50 {
			t.Errorf("%s has %d of 400 requests", e.Instance, e.InFlight())
		}
	}
}

// TestSlowStart: an instance that joins others gets its part little by little; those that begin
// together share from the start.
func TestSlowStart(t *testing.T) {
	x := New()
	apply(t, x, many(maru.Prequal, 9))
	svc := x.must("web")
	if from := svc.State().Endpoints()[0].slowFrom.Load(); from != 0 {
		t.Fatal("the first ones start slowly")
	}
	apply(t, x, many(maru.Prequal, 10))
	fresh := svc.State().Endpoints()[9]
	at := fresh.slowFrom.Load()
	for _, c := range []struct {
		after    time.Duration
		from, to int
	}{{0, 50, 150}, {5 * time.Second, 400, 600}, {10 * time.Second, 900, 1100}} {
		got := 0
		for range 10_000 {
			e := svc.PickFor(Ask{Now: at + int64(c.after)}, nil)
			if e == fresh {
				got++
			}
			e.Done()
		}
		if got < c.from || got > c.to {
			t.Errorf("after %s it got %d of 10000", c.after, got)
		}
	}
}

// TestOutliers: no more than a third are passed over, each time for longer, and they come back slowly. What
// all do is no reason.
func TestOutliers(t *testing.T) {
	x := New()
	apply(t, x, many(maru.Prequal, 9))
	svc := x.must("web")
	all := svc.State().Endpoints()
	now := time.Now().UnixNano()
	fail := func(es ...*Endpoint) {
		for range 20 {
			for _, e := range es {
				e.Answered(now, true)
			}
		}
	}
	fail(all[:5]...)
	out := 0
	for _, e := range all {
		if e.out(now) {
			out++
		}
	}
	if out != 3 {
		t.Fatalf("%d of 9 are passed over", out)
	}
	e := all[0]
	first := time.Duration(e.outlier.until.Load() - now)
	if e.Connected(time.Now()); !e.out(now) {
		t.Fatal("a connection ended it")
	}
	now = e.outlier.until.Load()
	if share := e.share(now+int64(time.Second), 10*time.Second); e.out(now) || share != 0.1 {
		t.Fatalf("it comes back with %v of its part", share)
	}
	fail(e)
	if second := time.Duration(e.outlier.until.Load() - now); second != 2*first {
		t.Fatalf("passed over for %s, then for %s", first, second)
	}
	x = New()
	apply(t, x, many(maru.Prequal, 4))
	svc = x.must("web")
	fail(svc.State().Endpoints()...)
	out = 0
	for _, e := range svc.State().Endpoints() {
		if e.out(now) {
			out++
		}
	}
	if out > 1 {
		t.Fatalf("%d of 4 that all fail are passed over", out)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, policy := range []maru.BalancePolicy{maru.Prequal, maru.RoundRobin, maru.LeastRequests, maru.Hash} {
		for _, n := range []int{1, 3, 10, 100} {
			b.Run(fmt.Sprintf("%s-%d", policy, n), func(b *testing.B) {
				x := New()
				apply(b, x, many(policy, n))
				svc := x.must("web")
				now := time.Now().UnixNano()
				for _, e := range svc.State().Endpoints() {
					e.Took(now, 1, 10*time.Millisecond)
				}
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						svc.PickFor(Ask{Now: now, Key: 7, Keyed: true}, nil).Done()
					}
				})
			})
		}
	}
}
