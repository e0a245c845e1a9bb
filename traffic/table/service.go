package table

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru"
)

// Service is what of a service lasts from step to step.
type Service struct {
	ID      maru.ServiceID
	Waiting atomic.Int32 // requests that wait for an endpoint
	Retries Budget
	Stats   Stats

	state     atomic.Pointer[State]
	lastReady atomic.Int64 // Unix nanoseconds of the moment when the last ready endpoint went; 0: never had one

	mu      sync.Mutex
	changed chan struct{}
}

// State gives the present state. After the service is gone it is the last one, without endpoints.
func (s *Service) State() *State { return s.state.Load() }

// Changed is closed at the next step of the service. Ask for it before reading the state.
func (s *Service) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// WasReady tells whether the service had a ready endpoint at a moment after t.
func (s *Service) WasReady(t time.Time) bool {
	return len(s.State().ready) > 0 || s.lastReady.Load() > t.UnixNano()
}

func (s *Service) swap(next *State, now time.Time) {
	old := s.state.Swap(next)
	if old != nil && len(old.ready) > 0 && len(next.ready) == 0 {
		s.lastReady.Store(now.UnixNano())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Pick chooses the endpoint for a request and counts it in; the caller calls Done on it once. Nil
// when no endpoint is left besides those tried.
//
// The release is chosen by weight, exactly; within it the endpoint with fewer requests in flight of
// two at random. Endpoints that refused a connection a moment ago are passed over while there is
// another.
func (s *Service) Pick(tried []*Endpoint) *Endpoint {
	for {
		state := s.state.Load()
		e := state.choose(tried, time.Now().UnixNano())
		if e == nil || e.hold() {
			return e
		}
		if s.state.Load() == state {
			tried = append(slices.Clip(tried), e)
		}
	}
}

func (s *State) choose(tried []*Endpoint, now int64) *Endpoint {
	if s.wheel != nil && len(tried) == 0 {
		if e := pickFrom(s.parts[s.wheel.turn()].ready, nil, now); e != nil && !e.ejected(now) {
			return e
		}
	}
	return pickFrom(s.ready, tried, now)
}

func pickFrom(ready, tried []*Endpoint, now int64) *Endpoint {
	switch len(ready) {
	case 0:
		return nil
	case 1:
		if slices.Contains(tried, ready[0]) {
			return nil
		}
		return ready[0]
	}
	i := rand.IntN(len(ready))
	j := rand.IntN(len(ready) - 1)
	if j >= i {
		j++
	}
	a, b := ready[i], ready[j]
	aOK := !a.ejected(now) && !slices.Contains(tried, a)
	bOK := !b.ejected(now) && !slices.Contains(tried, b)
	switch {
	case aOK && bOK:
		if b.inFlight.Load() < a.inFlight.Load() {
			return b
		}
		return a
	case aOK:
		return a
	case bOK:
		return b
	}
	return scan(ready, tried, i, now)
}

// scan takes the first good endpoint from i on, else one that was passed over.
func scan(ready, tried []*Endpoint, i int, now int64) *Endpoint {
	var last *Endpoint
	for n := range ready {
		e := ready[(i+n)%len(ready)]
		if slices.Contains(tried, e) {
			continue
		}
		if !e.ejected(now) {
			return e
		}
		if last == nil {
			last = e
		}
	}
	return last
}
