package table

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/balance"
)

// Service is what of a service lasts from step to step.
type Service struct {
	ID      maru.ServiceID
	Waiting atomic.Int32 // requests that wait for an endpoint
	Retries Budget
	Stats   Stats
	Tail    balance.Quantile // seconds until an answer begins, at the service's HedgeAt
	hot     balance.Quantile // requests in flight at an endpoint

	state     atomic.Pointer[State]
	lastReady atomic.Int64 // Unix nanoseconds of the moment when the last ready endpoint went; 0: never had one

	mu      sync.Mutex
	changed chan struct{}
}

// State gives the present state. After the service is gone it is the last one, without endpoints.
func (s *Service) State() *State { return s.state.Load() }

// TailOf takes in how long after its request an answer began.
func (s *Service) TailOf(d time.Duration) {
	at := s.State().Retry.HedgeAt
	switch {
	case at == 0:
	case s.Tail.Get() == 0:
		s.Tail.Begin(d.Seconds())
	default:
		s.Tail.Add(d.Seconds(), at, 0.0001)
	}
}

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
	return len(s.State().Ready()) > 0 || s.lastReady.Load() > t.UnixNano()
}

func (s *Service) swap(next *State, now time.Time) {
	old := s.state.Swap(next)
	if old != nil && len(old.Ready()) > 0 && len(next.Ready()) == 0 {
		s.lastReady.Store(now.UnixNano())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
