package policy

import (
	"net/http"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// concurrency bounds how many requests are under way at once, of a client or of all.
type concurrency struct {
	by    by
	most  int
	count [cellShards]struct {
		sync.Mutex
		of map[uint64]int // of those that have any
	}
}

func newConcurrency(l *maru.ConcurrencyLimit) (step, error) {
	if l == nil {
		return nil, nil
	}
	what := l.By
	if what == (maru.LimitBy{}) {
		what.What = "all"
	}
	key, err := newBy(what)
	if err == nil && l.Requests <= 0 {
		err = maru.Errorf(maru.Invalid, "at least one request must be let through")
	}
	if err != nil {
		return nil, err
	}
	return &concurrency{by: key, most: l.Requests}, nil
}

func (s *concurrency) take(x *Exchange) *Answer {
	key := s.by.key(x)
	if !s.enter(key) {
		a := &Answer{
			Status: http.StatusTooManyRequests, Title: "Too many requests", Reason: "more requests at once than the route's limit by " + s.by.what,
			What: "You have more requests under way than are taken here.", Do: "Wait until one is answered, then try again.", After: time.Second,
		}
		if s.by.what == "all" {
			a.Status, a.Title = http.StatusServiceUnavailable, "Busy"
			a.What, a.Do = "More requests are under way here than can be taken.", "Try again in a moment."
		}
		return a
	}
	x.after = append(x.after, func() { s.leave(key) })
	return nil
}

func (s *concurrency) enter(key uint64) bool {
	c := &s.count[key%cellShards]
	c.Lock()
	defer c.Unlock()
	if c.of[key] >= s.most {
		return false
	}
	if c.of == nil {
		c.of = map[uint64]int{}
	}
	c.of[key]++
	return true
}

func (s *concurrency) leave(key uint64) {
	c := &s.count[key%cellShards]
	c.Lock()
	defer c.Unlock()
	if c.of[key]--; c.of[key] == 0 {
		delete(c.of, key)
	}
}
