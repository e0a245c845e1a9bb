package table

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/balance"
)

// Ask is what is known of a request whose endpoint is chosen.
type Ask struct {
	Now   int64  // Unix nanoseconds
	Key   uint64 // of what Hashing says; see balance.Key
	Keyed bool   // there is a key

	Release  int  // that was drawn; 0: none was
	Baseline bool // the baseline was, of that release
}

// group is endpoints that are chosen among.
type group struct {
	ready []*Endpoint
	turn  atomic.Uint64 // of round robin
}

// Pick is PickFor for a request of which nothing is known, now.
func (s *Service) Pick(tried []*Endpoint) *Endpoint {
	return s.PickFor(Ask{Now: time.Now().UnixNano()}, tried)
}

// PickBy is PickFor for a connection of which nothing is known but where it comes from, now.
func (s *Service) PickBy(client netip.Addr, tried []*Endpoint) *Endpoint {
	ask := Ask{Now: time.Now().UnixNano()}
	state := s.State()
	if b := &state.Balance; b.Policy == maru.Hash && b.Header == "" && b.Cookie == "" && client.IsValid() {
		ask.Key, ask.Keyed = balance.Key(client.String()), true
	}
	if x := state.sides; x != nil && x.wheel != nil && state.Split.Sticky > 0 && client.IsValid() {
		d := state.drawn(x.of(balance.Key(client.String())), 0)
		ask.Release, ask.Baseline = d.Release, d.Baseline
	}
	return s.PickFor(ask, tried)
}

// PickFor chooses the endpoint for a request and counts it in; the caller calls Done on it once. Nil
// when no endpoint is left besides those tried.
//
// The release is the one that was drawn, or is chosen by weight, exactly; within it the endpoint as the service's balance says.
// Endpoints that refused a connection a moment ago, or fail, are passed over while there is another.
func (s *Service) PickFor(ask Ask, tried []*Endpoint) *Endpoint {
	for {
		state := s.state.Load()
		e := s.choose(state, ask, tried)
		if e == nil || e.hold() {
			return e
		}
		if s.state.Load() == state {
			tried = append(slices.Clip(tried), e)
		}
	}
}

func (s *Service) choose(state *State, ask Ask, tried []*Endpoint) *Endpoint {
	if state.sides != nil {
		return s.side(state, ask, tried)
	}
	if state.wheel != nil && len(tried) == 0 {
		if e := s.pickFrom(state, state.parts[state.wheel.turn()].group, ask, nil); e != nil && !e.out(ask.Now) {
			return e
		}
	}
	return s.pickFrom(state, state.whole, ask, tried)
}

func (s *Service) pickFrom(state *State, g *group, ask Ask, tried []*Endpoint) *Endpoint {
	switch len(g.ready) {
	case 0:
		return nil
	case 1:
		if slices.Contains(tried, g.ready[0]) {
			return nil
		}
		return g.ready[0]
	}
	dice := balance.Dice(rand.Uint64())
	switch {
	case state.policy == balance.RoundRobin:
		e := g.ready[g.turn.Add(1)%uint64(len(g.ready))]
		if !e.out(ask.Now) && !slices.Contains(tried, e) && e.share(ask.Now, state.slowStart) == 1 {
			return e
		}
	case state.policy == balance.Hash && ask.Keyed:
		if e := g.keyed(ask, tried); e != nil {
			return e
		}
	}
	if e := s.pool(state, g, ask, tried, &dice); e != nil {
		return e
	}
	return g.any(ask.Now, tried, &dice)
}

// pool chooses among all endpoints, or among some at random if there are many.
func (s *Service) pool(state *State, g *group, ask Ask, tried []*Endpoint, dice *balance.Dice) *Endpoint {
	var readings [balance.MostPool]balance.Reading
	var at [balance.MostPool]*Endpoint
	n := len(g.ready)
	first, stride := dice.Roll(n), 1
	if n > balance.MostPool {
		stride += dice.Roll(n - 1)
	}
	k := 0
	for i := first; k < min(n, balance.MostPool); i = (i + stride) % n {
		e := g.ready[i]
		at[k] = e
		e.read(&readings[k], ask.Now, state)
		readings[k].Out = readings[k].Out || len(tried) > 0 && slices.Contains(tried, e)
		k++
	}
	policy, hot := state.policy, 0.0
	switch policy {
	case balance.Prequal:
		hot = s.hot.Get()
		s.hot.Add(float64(readings[0].InFlight), hotQuantile, 1)
	case balance.Hash: // without a key
		policy = balance.LeastRequests
	}
	i := balance.Choose(policy, readings[:k], hot, dice)
	if i < 0 {
		return nil
	}
	return at[i]
}

// hotQuantile is which part of the endpoints is cold at any time: Prequal's 2^-0.25.
const hotQuantile = 0.84

// keyed gives the endpoint that the key is drawn to most, of those that have not many more requests than
// the average. Nil when all are passed over.
func (g *group) keyed(ask Ask, tried []*Endpoint) *Endpoint {
	sum := 0
	for _, e := range g.ready {
		sum += e.InFlight()
	}
	bound := balance.Bound(sum, len(g.ready))
	var best *Endpoint
	var score uint64
	for _, e := range g.ready {
		if v := balance.Score(ask.Key, e.key); (best == nil || v > score) && e.InFlight() < bound && !e.out(ask.Now) && !slices.Contains(tried, e) {
			best, score = e, v
		}
	}
	return best
}

// any takes a good endpoint, else one that was passed over, at random.
func (g *group) any(now int64, tried []*Endpoint, dice *balance.Dice) *Endpoint {
	var good, last *Endpoint
	goods, lasts := 0, 0
	for _, e := range g.ready {
		if slices.Contains(tried, e) {
			continue
		}
		if lasts++; dice.Roll(lasts) == 0 {
			last = e
		}
		if e.out(now) {
			continue
		}
		if goods++; dice.Roll(goods) == 0 {
			good = e
		}
	}
	if good != nil {
		return good
	}
	return last
}
