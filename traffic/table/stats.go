package table

import (
	"iter"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/histogram"
)

// Key is what requests are counted by: at the gateway by route, in the mesh by the edge from the calling
// service to this one.
type Key struct {
	Release    int    // 0: none answered
	Door       string // gateway, mesh, published
	Class      int    // first digit of the status; 0: the client went away
	Host, Path string // of the route
	From       maru.ServiceID
}

// Counter counts the requests of one key. It only grows.
type Counter struct {
	Retries atomic.Uint64
	Latency histogram.Histogram
}

// Stats counts a service's requests.
type Stats struct {
	mu       sync.Mutex
	counters atomic.Pointer[map[Key]*Counter]
}

// Count counts a request that took d and was sent again that many times.
func (s *Stats) Count(k Key, d time.Duration, retries int) {
	c := s.counter(k)
	c.Latency.Observe(d)
	if retries > 0 {
		c.Retries.Add(uint64(retries))
	}
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
