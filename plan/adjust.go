package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/marucloud/maru"
)

// Scale sets how many instances services have, and keeps that over deploys; -1: as the file says.
// Errors: NotFound, Invalid (a job), Conflict (a volume can't have more holders).
func Scale(now time.Time, s AppState, replicas map[string]int, by string) (Submission, error) {
	if err := s.know(sortedKeys(replicas)); err != nil {
		return Submission{}, err
	}
	b := newSubmission(now, s, "", by)
	var events []Action
	for _, name := range sortedKeys(replicas) {
		n, g := replicas[name], b.goals[name]
		release := s.Releases[name][cmp.Or(g.release, g.from)]
		if err := scalable(name, release, n); err != nil {
			return Submission{}, err
		}
		st := g.state
		st.Scaled, st.Replicas = n >= 0, n
		if n < 0 {
			st.Replicas = release.Spec.Replicas
		}
		b.put(name, st)
		if _, changed := b.states[name]; changed {
			events = append(events, Record{b.event("scaled", name, fmt.Sprintf("%s: %d instances, %d before", name, st.Replicas, g.state.Replicas))})
		}
	}
	return b.adjust(events), nil
}

// Faults sets what is done on purpose to services' requests, beside what their file says; none: nothing any more.
// Errors: NotFound, Invalid.
func Faults(now time.Time, s AppState, faults map[string][]maru.Fault, by string) (Submission, error) {
	if err := s.know(sortedKeys(faults)); err != nil {
		return Submission{}, err
	}
	b := newSubmission(now, s, "", by)
	var events []Action
	for _, name := range sortedKeys(faults) {
		for _, f := range faults[name] {
			if err := f.Validate(); err != nil {
				return Submission{}, fmt.Errorf("%s: %w", name, err)
			}
		}
		st := b.goals[name].state
		st.Faults = faults[name]
		b.put(name, st)
		if _, changed := b.states[name]; changed {
			events = append(events, Record{b.event("faults", name, fmt.Sprintf("%s: %d faults", name, len(st.Faults)))})
		}
	}
	return b.adjust(events), nil
}

func scalable(name string, r maru.Release, n int) error {
	switch {
	case n < -1:
		return maru.Errorf(maru.Invalid, "%s can't have %d instances", name, n)
	case r.Spec.Kind == maru.Job:
		return maru.Errorf(maru.Invalid, "%s is a job: it runs once per release", name)
	case n > 1 && n > r.Spec.Replicas && len(writable(r)) > 0:
		return maru.WithHint(maru.Errorf(maru.Conflict, "%s writes to a volume, which has one holder at a time", name),
			"mount the volume read only, or, if its program shares files with itself safely, write x-maru: {rollout: rolling}")
	}
	return nil
}

// Stop stops services and keeps their releases; without names all. Jobs are left to end.
func Stop(now time.Time, s AppState, services []string, by string) (Submission, error) {
	if err := s.know(services); err != nil {
		return Submission{}, err
	}
	b := newSubmission(now, s, "", by)
	var events []Action
	active := s.active()
	if active != nil {
		active = cloneRollout(active)
		active.After = maps.Clone(active.After)
	}
	for _, name := range sortedKeys(b.goals) {
		g := b.goals[name]
		release := s.Releases[name][cmp.Or(g.release, g.from)]
		if len(services) > 0 && !slices.Contains(services, name) || release.Spec.Kind == maru.Job || g.state.Stopped {
			continue
		}
		st := unshifted(g.state)
		st.Stopped, st.Serving, st.Warm = true, nil, nil
		if active != nil {
			if e, ok := active.Services[name]; ok && !e.Phase.Final() {
				if e.Phase == maru.RollingBack && e.From == 0 {
					continue // it goes altogether
				}
				if st.Release != cmp.Or(g.from, e.To) {
					st.Release, st.Replicas = cmp.Or(g.from, e.To), g.replicas
				}
				active.After[name] = st.Release
				e.Phase, e.Since = maru.Superseded, now
				active.Services[name] = e
			}
		}
		b.put(name, st)
		events = append(events, Record{b.event("stopped", name, name+" was stopped")})
	}
	out := b.adjust(events)
	if active != nil && len(b.states) > 0 {
		out.Actions = append(out.Actions, PutRollout{*active})
	}
	return out, nil
}

// Start starts what Stop stopped; without names all.
func Start(now time.Time, s AppState, services []string, by string) (Submission, error) {
	if err := s.know(services); err != nil {
		return Submission{}, err
	}
	b := newSubmission(now, s, "", by)
	var events []Action
	for _, name := range sortedKeys(b.goals) {
		g := b.goals[name]
		if len(services) > 0 && !slices.Contains(services, name) || !g.state.Stopped {
			continue
		}
		st := g.state
		st.Stopped = false
		b.put(name, st)
		events = append(events, Record{b.event("started", name, name+" was started")})
	}
	return b.adjust(events), nil
}

// adjust is a wish that needs no rollout.
func (b *submission) adjust(events []Action) Submission {
	var actions []Action
	for _, name := range sortedKeys(b.states) {
		actions = append(actions, PutService{b.states[name]})
	}
	return Submission{Actions: append(actions, events...), Rollout: b.in.active(), Changed: len(b.states) > 0}
}

func (b *submission) event(kind, service, message string) maru.Event {
	return maru.Event{Time: b.now, Scope: b.in.Scope, Service: service, Type: kind, Message: message, By: b.rollout.By}
}
