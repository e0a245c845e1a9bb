package table

import (
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Buckets are the upper bounds of the latency histogram.
var Buckets = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Key is what requests are counted by.
type Key struct {
	Release int    // 0: none answered
	Door    string // gateway, mesh, published
	Class   int    // first digit of the status; 0: the client went away
}

// Counter counts the requests of one key. It only grows.
type Counter struct {
	Requests atomic.Uint64
	Retries  atomic.Uint64
	Nanos    atomic.Uint64
	Within   [len(Buckets) + 1]atomic.Uint64 // requests by the first bucket they fit; the last is for the rest
}

// Stats counts a service's requests.
type Stats struct {
	mu       sync.Mutex
	counters atomic.Pointer[map[Key]*Counter]
}

// Count counts a request that took d and was sent again that many times.
func (s *Stats) Count(k Key, d time.Duration, retries int) {
	c := s.counter(k)
	c.Requests.Add(1)
	c.Nanos.Add(uint64(d))
	if retries > 0 {
		c.Retries.Add(uint64(retries))
	}
	i, _ := slices.BinarySearch(Buckets[:], d)
	c.Within[i].Add(1)
}

// All gives the counters there are.
func (s *Stats) All() iter.Seq2[Key, *Counter] {
	m := s.counters.Load()
	if m == nil {
		return func(func(Key, *Counter) bool) {}
	}
	return maps.All(*m)
}

func (s *Stats) counter(k Key) *Counter {
	if m := s.counters.Load(); m != nil {
		if c := (*m)[k]; c != nil {
			return c
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[Key]*Counter{}
	if m := s.counters.Load(); m != nil {
		if c := (*m)[k]; c != nil {
			return c
		}
		maps.Copy(next, *m)
	}
	c := &Counter{}
	next[k] = c
	s.counters.Store(&next)
	return c
}

// Forget drops the counters of releases that keep tells are not served any more.
func (s *Stats) forget(keep func(release int) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.counters.Load()
	if m == nil {
		return
	}
	stale := false
	for k := range *m {
		stale = stale || !keep(k.Release)
	}
	if !stale {
		return
	}
	next := maps.Clone(*m)
	maps.DeleteFunc(next, func(k Key, _ *Counter) bool { return !keep(k.Release) })
	s.counters.Store(&next)
}
