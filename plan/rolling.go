package plan

import (
	"slices"
	"time"

	"github.com/marucloud/maru"
)

// rolling starts some of the release, gives them their share of traffic when they are ready, takes
// as many of the others away, and so on. With StopFirst it takes them away beforehand.
func (m mover) rolling(n, batch int) bool {
	to := m.to.Number
	ready := m.up(m.service, to)
	if ready >= n {
		m.serve(to, n)
		m.apply(to, n)
		return true
	}
	before, served := m.state.Replicas, m.share(to)
	if m.state.Release == 0 {
		before = 0
	}
	running := min(m.wanted(to), n)
	if running > served && ready >= running && running < n {
		served = running
		m.setServing(m.shared(to, served, m.others(to, before-served)))
	}
	more := served == 0 || m.at(m.lastReady().Add(m.to.Spec.Update.Delay))
	spare := before - served
	if m.to.Spec.Update.StopFirst && more {
		spare -= batch
	}
	for _, w := range m.others(to, spare) {
		m.apply(w.Release, w.Weight)
	}
	if more {
		running = max(running, m.next(n, min(served+batch, n), running == served, spare+batch))
	}
	m.apply(to, running)
	return false
}

// next is how many instances the release is to have, up to limit. With StopFirst it has no more than
// others have made room for. Else the next batch starts when the one before serves, and no more of
// the others drain than that.
func (m mover) next(n, limit int, served bool, others int) int {
	alive := m.alive(m.to.Number)
	switch {
	case m.to.Spec.Update.StopFirst:
		return min(max(n, m.state.Replicas)-alive, limit)
	case served && (limit >= n || alive <= max(others, 0)):
		return limit
	}
	return 0
}

// lastReady is when the newest instance of the release became ready.
func (m mover) lastReady() (last time.Time) {
	for _, i := range m.observed[maru.Itoa(m.to.Number)].Instances {
		if i.ReadySince.After(last) {
			last = i.ReadySince
		}
	}
	return last
}

// alive counts the instances of other releases, those that drain too.
func (m mover) alive(release int) int {
	n := 0
	for name, o := range m.observed {
		if r, serving := ReleaseOf(name); serving && r != release {
			n += len(o.Instances)
		}
	}
	return n
}

// share is how many instances of the release have their part of the traffic.
func (m mover) share(release int) int {
	for _, w := range m.state.Serving {
		if w.Release == release {
			return w.Weight
		}
	}
	if m.state.Release == release && len(m.state.Serving) == 0 {
		return m.wanted(release)
	}
	return 0
}

// others shares a number of instances among the other releases that serve, the main one first.
func (m mover) others(release, n int) []maru.Weight {
	serving := []int{m.state.Release}
	if len(m.state.Serving) > 0 {
		serving = nil
		for _, w := range m.state.Serving {
			serving = append(serving, w.Release)
		}
		main := func(r int) int { return min(1, max(r-m.state.Release, m.state.Release-r)) }
		slices.SortStableFunc(serving, func(a, b int) int { return main(a) - main(b) })
	}
	var out []maru.Weight
	for _, r := range serving {
		if r == 0 || r == release {
			continue
		}
		if k := min(m.wanted(r), n); k > 0 {
			out = append(out, maru.Weight{Release: r, Weight: k})
			n -= k
		}
	}
	return out
}

func (m mover) shared(release, n int, others []maru.Weight) []maru.Weight {
	out := append(others, maru.Weight{Release: release, Weight: n})
	slices.SortFunc(out, func(a, b maru.Weight) int { return a.Release - b.Release })
	return out
}

// batch is how many instances start at once: all, unless something serves that they take over from.
func (m mover) batch(n int) int {
	p := m.to.Spec.Update.Parallel
	if p <= 0 || !m.present(maru.Itoa(m.state.Release)) && len(m.state.Serving) == 0 {
		return max(n, 1)
	}
	return p
}
