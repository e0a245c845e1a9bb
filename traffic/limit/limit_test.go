package limit

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

const second = int64(time.Second)

func TestReserve(t *testing.T) {
	l := New(Config{Requests: 8})
	enter := func(now int64, p Priority) (n int) {
		for l.Enter(now, p) {
			n++
		}
		for range n {
			l.Leave(now, now, true)
		}
		return n
	}
	for _, c := range []struct {
		now      int64
		p        Priority
		want     int
		whatelse string
	}{
		{10 * second, Low, 8, "alone"},
		{11 * second, High, 8, "most important"},
		{11 * second, Normal, 6, "beside high"},
		{11 * second, Low, 5, "beside both"},
		{13 * second, Low, 8, "alone again"},
	} {
		if got := enter(c.now, c.p); got != c.want {
			t.Errorf("%s: %d entered, want %d", c.whatelse, got, c.want)
		}
	}
	if l.InFlight() != 0 {
		t.Error(l.InFlight())
	}
}

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Requests: 1, Queue: 3, Wait: time.Second})
		now := time.Now().UnixNano()
		if !l.Enter(now, Normal) {
			t.Fatal("no room")
		}
		var mu sync.Mutex
		var order []string
		wait := func(name string, p Priority) {
			go func() {
				ok := l.Await(context.Background(), p)
				mu.Lock()
				defer mu.Unlock()
				if !ok {
					name = "not " + name
				}
				order = append(order, name)
			}()
			synctest.Wait()
		}
		wait("low", Low)
		wait("first", Normal)
		wait("second", Normal)
		wait("too many", High)
		for range 2 {
			l.Leave(now, now, true)
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want := []string{"not too many", "first", "second", "not low"}
		for i := range want {
			if i >= len(order) || order[i] != want[i] {
				t.Fatal(order)
			}
		}
		l.Leave(now, now, true)
		if l.InFlight() != 0 || l.waiting.Load() != 0 {
			t.Error(l.InFlight(), l.waiting.Load())
		}
	})
}

// TestNeverMore: however many come and go, no more are in than may be, and in the end none.
func TestNeverMore(t *testing.T) {
	l := New(Config{Requests: 5, Queue: 20, Wait: time.Minute})
	var in, most atomic.Int64
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for range 200 {
				now := time.Now().UnixNano()
				if !l.Enter(now, Normal) && !l.Await(t.Context(), Low) {
					continue
				}
				for n := in.Add(1); ; {
					if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
						break
					}
				}
				in.Add(-1)
				l.Leave(now, now, true)
			}
		})
	}
	wg.Wait()
	if most.Load() > 5 || l.InFlight() != 0 || l.waiting.Load() != 0 {
		t.Error(most.Load(), l.InFlight(), l.waiting.Load())
	}
}

// TestAdaptiveIsSane: whatever windows come, the bound stays a bound.
func TestAdaptiveIsSane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := adaptive{bound: rapid.IntRange(2, 1000).Draw(t, "start")}
		for range rapid.IntRange(1, 200).Draw(t, "windows") {
			w := Window{
				Took:     time.Duration(rapid.Int64Range(int64(windowTook), int64(time.Hour)).Draw(t, "took")),
				Good:     rapid.IntRange(1, 1_000_000).Draw(t, "good"),
				Full:     rapid.Bool().Draw(t, "full"),
				InFlight: rapid.IntRange(0, 1_000_000).Draw(t, "in flight"),
			}
			w.Busy = time.Duration(w.Good) * time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "each"))
			a.next(w)
			if a.bound < least || a.took() < windowTook || math.IsNaN(a.alone) {
				t.Fatalf("%+v", a)
			}
		}
	})
}

func BenchmarkEnter(b *testing.B) {
	l := New(Config{Start: 1000})
	now := time.Now().UnixNano()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Enter(now, Normal)
			l.Leave(now, now+1, true)
		}
	})
}
