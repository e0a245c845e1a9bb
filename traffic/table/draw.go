package table

import (
	"math/rand/v2"
	"strconv"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/balance"
	"github.com/marucloud/maru/traffic/message"
)

// ClientCookie tells clients apart that stay with a release. It holds a random number in hexadecimal.
const ClientCookie = "maru-client"

// Draw is which of two releases a request goes to while a rollout shifts traffic from one to the other.
type Draw struct {
	Release int // 0: requests are not shared out so
	New     bool
	// Weight is the chance with which the new release was drawn; 0: there was no chance in it, so that how
	// the request goes tells nothing.
	Weight float64
	Mirror bool   // a copy is to be sent to the new release
	Client uint64 // that the client is to be known by from now on; 0: it need not be
}

// sides are the two releases that a service's requests are shared out between.
type sides struct {
	old, fresh *group
	weight     int    // percent, of fresh
	wheel      *wheel // nil: one of them gets all
	key        uint64 // of this rollout
}

func newSides(t maru.ServiceTraffic, old, fresh *group, before *State) *sides {
	s := &sides{old: old, fresh: fresh, weight: t.Weight(), key: balance.Key(t.Service.String() + "/" + strconv.Itoa(t.Split.New))}
	if s.weight > 0 && s.weight < 100 && len(old.ready) > 0 && len(fresh.ready) > 0 {
		s.wheel = newWheel([]int{100 - s.weight, s.weight})
		if before != nil && before.sides != nil && before.sides.wheel != nil && before.sides.weight == s.weight && before.sides.key == s.key {
			s.wheel = before.sides.wheel
		}
	}
	return s
}

// Draw says which release a request goes to. Client is what is known of who asks, where clients stay with a
// release: with none the cookie tells, and one that has none yet is drawn.
func (s *State) Draw(r *message.Request, client string) Draw {
	if s.sides == nil {
		return Draw{}
	}
	split, x := s.Split, s.sides
	switch old := fits(split.Match, r); {
	case len(x.fresh.ready) == 0:
		return Draw{Release: split.Old}
	case old != nil && *old:
		return Draw{Release: split.Old}
	case old != nil:
		return Draw{Release: split.New, New: true}
	case split.Mirror > 0:
		return s.mirrored(r)
	case x.wheel == nil:
		return s.drawn(x.weight > 0 && len(x.old.ready) == 0, 0)
	case split.Sticky == 0:
		return s.drawn(x.wheel.turn() == 1, x.share())
	case client != "":
		return s.drawn(x.has(balance.Key(client)), 0)
	}
	if id, err := strconv.ParseUint(r.Header.Cookie(ClientCookie), 16, 64); err == nil {
		return s.drawn(x.has(id), 0)
	}
	d := s.drawn(x.wheel.turn() == 1, x.share())
	for range 100_000 { // finds one soon, as a hundredth of all are on either side
		if d.Client = rand.Uint64() | 1; x.has(d.Client) == d.New {
			break
		}
	}
	return d
}

func (s *State) drawn(fresh bool, weight float64) Draw {
	if fresh {
		return Draw{Release: s.Split.New, New: true, Weight: weight}
	}
	return Draw{Release: s.Split.Old, Weight: weight}
}

// half is the chance that counts of a request that both releases get.
const half = 0.5

// mirrored draws the requests that are copied: of those that change nothing and are all there.
func (s *State) mirrored(r *message.Request) Draw {
	d := Draw{Release: s.Split.Old}
	if r.Repeatable() && rand.IntN(100) < s.Split.Mirror {
		d.Mirror, d.Weight = true, half
	}
	return d
}

func (x *sides) share() float64 { return float64(x.weight) / 100 }

// has tells whether a client is one of those that the new release gets: the same as long as the share does
// not shrink.
func (x *sides) has(client uint64) bool {
	return balance.Score(client, x.key)%10_000 < uint64(x.weight)*100 //nolint:gosec // a percent
}

// fits tells which of the releases the first kind of requests that fits names; nil: none fits.
func fits(all []maru.ShiftMatch, r *message.Request) *bool {
	for i := range all {
		m := &all[i]
		ok := true
		for name, value := range m.Headers {
			ok = ok && r.Header.Get(name) == value
		}
		for name, value := range m.Cookies {
			ok = ok && r.Header.Cookie(name) == value
		}
		if ok {
			return &m.Old
		}
	}
	return nil
}

// side chooses among the endpoints of the release that was drawn, whatever they fail: that it does is to be
// seen. What is sent again goes to the old release, which is known to be good.
func (s *Service) side(state *State, ask Ask, tried []*Endpoint) *Endpoint {
	x := state.sides
	first, second := x.old, x.fresh
	drawn := ask.Release
	if drawn == 0 && x.wheel != nil && x.wheel.turn() == 1 {
		drawn = state.Split.New
	}
	if drawn == state.Split.New && len(tried) == 0 {
		first, second = x.fresh, x.old
	}
	if e := s.pickFrom(state, first, ask, tried); e != nil {
		return e
	}
	if second == x.fresh && x.weight == 0 {
		return nil
	}
	return s.pickFrom(state, second, ask, tried)
}

// Side chooses an endpoint of the new release, or of the old one, for a copy of a request and counts it in; nil: there
// is none.
func (s *Service) Side(fresh bool, now int64) *Endpoint {
	state := s.State()
	if state.sides == nil {
		return nil
	}
	side := state.sides.old
	if fresh {
		side = state.sides.fresh
	}
	if e := s.pickFrom(state, side, Ask{Now: now}, nil); e != nil && e.hold() {
		return e
	}
	return nil
}
