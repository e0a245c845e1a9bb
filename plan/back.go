package plan

import (
	"fmt"

	"github.com/marucloud/maru"
)

// back returns the service to the release before.
func (m mover) back() {
	from, known := m.releases[m.entry.From]
	if m.state.Release == m.entry.From {
		m.unshift() // before anything else: what served before is whole
	}
	switch {
	case m.entry.From == 0 || !known:
		m.leaving = true
		if len(m.names()) == 0 {
			m.deleted = true
			m.entry.Phase = maru.RolledBackPhase
		}
	case m.entry.Stopped:
		m.restore(m.service, *m.entry)
		if len(m.rivals(0)) == 0 {
			m.entry.Phase = maru.RolledBackPhase
		}
	case from.Spec.Kind == maru.Job:
		m.restore(m.service, *m.entry)
		m.keep[maru.Itoa(from.Number)] = true
		if len(m.rivals(from.Number)) == 0 {
			m.entry.Phase = maru.RolledBackPhase
		}
	default:
		m.backTo(from)
	}
}

func (m mover) backTo(from maru.Release) {
	n := m.replicasBefore(*m.entry)
	old := mover{planner: m.planner, service: m.service, entry: m.entry, to: from}
	var there bool
	if old.exclusive(from) {
		there = old.recreate(n)
	} else {
		there = old.rolling(n, max(n, 1))
	}
	switch limit := deadlineOf(from); {
	case there:
		if len(m.rivals(from.Number)) == 0 {
			m.entry.Phase = maru.RolledBackPhase
			m.entry.Reason = first(m.entry.Reason, "went back to release "+maru.Itoa(from.Number))
		}
	case m.at(m.entry.Since.Add(limit)):
		m.entry.Phase = maru.Failed
		m.entry.Reason = fmt.Sprintf("release %d did not become ready again within %s%s",
			from.Number, words(limit), after(": ", worst(m.now, m.observed[maru.Itoa(from.Number)], from)))
		m.planner.rollout.Reason += "; going back: " + m.id.Service + ": " + m.entry.Reason
	}
}
