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
	// Baseline is that it goes to the fresh instances of the old release that the new one is compared with.
	Baseline bool
	// Weight is the chance with which the new release was drawn, its share of all; 0: there was no chance in it, so that how
	// the request goes tells nothing.
	Weight float64
	Mirror bool   // a copy is to be sent to the new release
	Client uint64 // that the client is to be known by from now on; 0: it need not be
}

// side is one of those that a service's requests are shared out between. The baseline is a part of the old release.
type side int

const (
	oldSide side = iota
	newSide
	baseSide
)

// sides are the two releases that a service's requests are shared out between.
type sides struct {
	groups   [3]*group // by side
	weight   int       // percent, of the new release
	baseline int       // percent, of the baseline
	wheel    *wheel    // of sides; nil: one of them gets all
	key      uint64    // of this rollout
}

func newSides(t maru.ServiceTraffic, old, fresh, base *group, before *State) *sides {
	s := &sides{groups: [3]*group{old, fresh, base}, weight: t.Weight(), key: balance.Key(t.Service.String() + "/" + strconv.Itoa(t.Split.New))}
	if s.weight > 0 && s.weight < 100 && len(old.ready) > 0 && len(fresh.ready) > 0 {
		if len(base.ready) > 0 {
			s.baseline = maru.BaselineWeight(s.weight)
		}
		s.wheel = newWheel([]int{100 - s.weight - s.baseline, s.weight, s.baseline})
		if b := before; b != nil && b.sides != nil && b.sides.wheel != nil && b.sides.weight == s.weight && b.sides.baseline == s.baseline && b.sides.key == s.key {
			s.wheel = b.sides.wheel
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
	case len(x.groups[newSide].ready) == 0:
		return Draw{Release: split.Old}
	case old != nil && *old:
		return Draw{Release: split.Old}
	case old != nil:
		return Draw{Release: split.New, New: true}
	case split.Mirror > 0:
		return s.mirrored(r)
	case x.wheel == nil:
		if x.weight > 0 && len(x.groups[oldSide].ready) == 0 {
			return s.drawn(newSide, 0)
		}
		return s.drawn(oldSide, 0)
	case split.Sticky == 0:
		return s.drawn(side(x.wheel.turn()), x.share())
	case client != "":
		return s.drawn(x.of(balance.Key(client)), 0)
	}
	if id, err := strconv.ParseUint(r.Header.Cookie(ClientCookie), 16, 64); err == nil {
		return s.drawn(x.of(id), 0)
	}
	on := side(x.wheel.turn())
	d := s.drawn(on, x.share())
	for range 100_000 { // finds one soon, as a hundredth of all are on either side
		if d.Client = rand.Uint64() | 1; x.of(d.Client) == on {
			break
		}
	}
	return d
}

// drawn is a draw of a side. With a baseline, or where there is to be one, the rest of the old release tells nothing.
func (s *State) drawn(on side, weight float64) Draw {
	if s.Split.Baseline && (on == oldSide || s.sides.baseline == 0) {
		weight = 0
	}
	if on == newSide {
		return Draw{Release: s.Split.New, New: true, Weight: weight}
	}
	return Draw{Release: s.Split.Old, Baseline: on == baseSide, Weight: weight}
}

// Compared tells whether there is what requests to the new release are compared with.
func (s *State) Compared() bool {
	return s.sides != nil && (!s.Split.Baseline || len(s.sides.groups[baseSide].ready) > 0)
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

// of tells whose client one is. The new release's are the same as long as its share does not shrink; the baseline's are
// taken from the other end.
func (x *sides) of(client uint64) side {
	switch at := balance.Score(client, x.key) % 10_000 / 100; {
	case at < uint64(x.weight): //nolint:gosec // a percent
		return newSide
	case at >= uint64(100-x.baseline): //nolint:gosec // a percent
		return baseSide
	}
	return oldSide
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
	drawn := oldSide
	switch {
	case ask.Release == 0 && x.wheel != nil:
		drawn = side(x.wheel.turn())
	case ask.Release == state.Split.New:
		drawn = newSide
	case ask.Baseline:
		drawn = baseSide
	}
	if len(tried) > 0 {
		drawn = oldSide
	}
	for _, on := range [...]side{drawn, oldSide, baseSide, newSide} {
		if on == newSide && drawn != newSide && x.weight == 0 {
			continue
		}
		if e := s.pickFrom(state, x.groups[on], ask, tried); e != nil {
			return e
		}
	}
	return nil
}

// Side chooses an endpoint of the new release, or of what it is compared with, for a copy of a request and counts it
// in; nil: there is none.
func (s *Service) Side(fresh bool, now int64) *Endpoint {
	state := s.State()
	if state.sides == nil {
		return nil
	}
	on := oldSide
	switch {
	case fresh:
		on = newSide
	case state.Split.Baseline:
		on = baseSide
	}
	if e := s.pickFrom(state, state.sides.groups[on], Ask{Now: now}, nil); e != nil && e.hold() {
		return e
	}
	return nil
}
