package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/marucloud/maru"
)

// Submission is what a person's wish comes to: stored objects, all in one commit.
type Submission struct {
	Actions []Action
	Rollout *maru.Rollout // started by it, or under way to the same state; nil: none
	Changed bool
}

// submission puts a new rollout together.
type submission struct {
	now      time.Time
	in       AppState
	goals    map[string]goal
	rollout  maru.Rollout
	states   map[string]maru.ServiceState // to store
	releases []maru.Release               // to store
	changed  bool
}

func newSubmission(now time.Time, s AppState, cause, by string) *submission {
	return &submission{
		now: now, in: s, goals: s.goals(),
		states: map[string]maru.ServiceState{},
		rollout: maru.Rollout{
			Scope: s.Scope, Number: s.number(), Phase: maru.Pending,
			Services: map[string]maru.ServiceRollout{}, Cause: cause, By: by, Started: now,
		},
	}
}

// state is a service's state to be, for changing.
func (b *submission) state(name string) maru.ServiceState {
	if st, ok := b.states[name]; ok {
		return st
	}
	if g, ok := b.goals[name]; ok {
		return g.state
	}
	return maru.ServiceState{Service: b.in.Scope.Service(name)}
}

// move has the rollout bring a service to a release, running.
func (b *submission) move(name string, to maru.Release, fresh bool) {
	g, exists := b.goals[name]
	st := b.state(name)
	st.Stopped = false
	if e, on := b.goesOn(name, g, to); on {
		b.put(name, st)
		b.rollout.Services[name] = e
		return
	}
	st = unshifted(st)
	if !exists {
		st.Replicas, st.Since = to.Spec.Replicas, b.now
	}
	b.put(name, st)
	b.rollout.Services[name] = maru.ServiceRollout{
		From: g.from, To: to.Number, Phase: maru.Pending, Since: b.now,
		Fresh: fresh, Replicas: g.replicas, Stopped: g.stopped,
	}
}

// goesOn gives a service's part in the active rollout, if it moves traffic step by step to the same release.
func (b *submission) goesOn(name string, g goal, to maru.Release) (maru.ServiceRollout, bool) {
	r := b.in.active()
	if r == nil || r.Phase == maru.RollingBack || b.rollout.Cause == CauseRollback {
		return maru.ServiceRollout{}, false
	}
	e := r.Services[name]
	return e, e.Phase == maru.Shifting && e.From == g.from && e.To == to.Number
}

func (b *submission) put(name string, st maru.ServiceState) {
	if g, exists := b.goals[name]; exists && string(maru.Raw(g.state)) == string(maru.Raw(st)) {
		return
	}
	b.states[name] = st
}

func (b *submission) add(r maru.Release) {
	b.releases = append(b.releases, r)
	b.changed = true
}

// carry lets the services that the wish does not speak of go on to where they were going.
func (b *submission) carry(spoken map[string]bool) {
	for name, g := range b.goals {
		if _, moved := b.rollout.Services[name]; moved || spoken[name] || !g.unsettled || slices.Contains(b.rollout.Removed, name) {
			continue
		}
		if g.release == 0 {
			b.rollout.Removed = append(b.rollout.Removed, name)
			continue
		}
		if g.stopped && g.release == g.from { // it was going back to being stopped
			st := b.state(name)
			st = unshifted(st)
			st.Stopped, st.Release, st.Replicas, st.Serving = true, g.from, g.replicas, nil
			b.put(name, st)
			continue
		}
		if release, known := b.in.Releases[name][g.release]; known {
			b.move(name, release, g.fresh)
		}
	}
}

// submit ends the active rollout, if any, and starts the new one, if it has anything to do.
func (b *submission) submit(extra ...Action) Submission {
	slices.Sort(b.rollout.Removed)
	b.rollout.Removed = slices.Compact(b.rollout.Removed)
	if !b.changed {
		return Submission{Actions: extra, Rollout: b.in.active()}
	}
	b.rollout.After = map[string]int{}
	for name, g := range b.goals {
		if g.release != 0 {
			b.rollout.After[name] = g.release
		}
	}
	for name, e := range b.rollout.Services {
		b.rollout.After[name] = e.To
	}
	for _, name := range b.rollout.Removed {
		delete(b.rollout.After, name)
	}
	actions := extra
	for _, r := range b.releases {
		actions = append(actions, PutRelease{r})
	}
	for _, name := range sortedKeys(b.states) {
		actions = append(actions, PutService{b.states[name]})
	}
	if old := b.in.active(); old != nil {
		actions = append(actions, PutRollout{superseded(b.now, old)})
	}
	actions = append(actions, PutRollout{b.rollout}, Record{b.started()})
	return Submission{Actions: actions, Rollout: &b.rollout, Changed: true}
}

func superseded(now time.Time, r *maru.Rollout) maru.Rollout {
	c := cloneRollout(r)
	c.Phase, c.Ended = maru.Superseded, now
	for name, e := range c.Services {
		if !e.Phase.Final() {
			e.Phase, e.Since = maru.Superseded, now
			c.Services[name] = e
		}
	}
	return *c
}

func (b *submission) started() maru.Event {
	r := b.rollout
	text := fmt.Sprintf("%s of %d services", r.Cause, len(r.Services))
	if len(r.Services) == 1 {
		text = fmt.Sprintf("%s of %s", r.Cause, slices.Collect(maps.Keys(r.Services))[0])
	}
	if r.Of > 0 {
		text += fmt.Sprintf(" to the state after rollout %d", r.Of)
	}
	if n := len(r.Removed); n > 0 {
		text += fmt.Sprintf(", removing %d", n)
	}
	return maru.Event{Time: b.now, Scope: r.Scope, Rollout: r.Number, Type: "rollout-started", Message: text, By: r.By}
}

// Restart starts a rollout to identical releases. Without names it is of all services that are
// to keep running. Errors: NotFound, Conflict (nothing is deployed yet).
func Restart(now time.Time, s AppState, services []string, by string) (Submission, error) {
	b := newSubmission(now, s, CauseRestart, by)
	if err := s.know(services); err != nil {
		return Submission{}, err
	}
	b.rollout.Removed = s.leaving()
	spoken := map[string]bool{}
	for _, name := range sortedKeys(b.goals) {
		g := b.goals[name]
		release, known := s.Releases[name][g.release]
		named := slices.Contains(services, name)
		if !named && (len(services) > 0 || g.state.Stopped || release.Spec.Kind == maru.Job) ||
			g.release == 0 || slices.Contains(b.rollout.Removed, name) {
			continue
		}
		if !known {
			return Submission{}, maru.Errorf(maru.NotFound, "release %d of %s is not kept any more", g.release, name)
		}
		release.Number, release.Created, release.By, release.Message = b.rollout.Number, now, by, "restart"
		spoken[name] = true
		b.add(release)
		b.move(name, release, g.fresh || release.Spec.Kind == maru.Job)
	}
	if len(b.releases) == 0 {
		return Submission{}, maru.Errorf(maru.Conflict, "%s has nothing that runs and could be restarted", s.Scope)
	}
	b.carry(spoken)
	return b.submit(), nil
}

// Rollback starts a rollout to the state after an earlier one; 0: the last that succeeded and left
// the app otherwise than it is now. Errors: NotFound, Conflict (that rollout did not succeed).
func Rollback(now time.Time, s AppState, to int, by string) (Submission, error) {
	if s.Spec == nil && len(s.Services) == 0 {
		return Submission{}, noApp(s.Scope)
	}
	b := newSubmission(now, s, CauseRollback, by)
	target, err := s.past(to)
	if err != nil {
		return Submission{}, err
	}
	b.rollout.Of = target.Number
	for _, name := range sortedKeys(target.After) {
		number := target.After[name]
		release, known := s.Releases[name][number]
		if !known {
			return Submission{}, maru.Errorf(maru.NotFound, "release %d of %s is not kept any more", number, name)
		}
		g, exists := b.goals[name]
		if exists && g.release == number && !g.unsettled {
			continue
		}
		if !exists || g.release != number {
			b.changed = true
		}
		b.move(name, release, exists && g.release == number && g.fresh)
	}
	for name := range b.goals {
		if _, stays := target.After[name]; !stays {
			b.rollout.Removed = append(b.rollout.Removed, name)
			b.changed = b.changed || !slices.Contains(s.leaving(), name)
		}
	}
	return b.submit(), nil
}

// past finds the rollout whose state is to come back.
func (s AppState) past(number int) (maru.Rollout, error) {
	if number != 0 {
		r, ok := s.History[number]
		switch {
		case !ok:
			return r, maru.WithHint(maru.Errorf(maru.NotFound, "rollout %d of %s is not kept", number, s.Scope), "maru releases lists those that are")
		case r.Phase != maru.Succeeded || r.Cause == CauseRemove:
			return r, maru.WithHint(maru.Errorf(maru.Conflict, "rollout %d of %s has no state to go back to: it is %s", number, s.Scope, r.Phase), "pick one that succeeded: maru releases")
		}
		return r, nil
	}
	numbers := sortedKeys(s.History)
	slices.Reverse(numbers)
	for _, n := range numbers {
		r := s.History[n]
		if r.Phase == maru.Succeeded && r.Cause != CauseRemove && (s.active() != nil || !s.same(r.After)) {
			return r, nil
		}
	}
	return maru.Rollout{}, maru.Errorf(maru.NotFound, "%s has no earlier state to go back to", s.Scope)
}

// same tells whether a state of the app runs as the present one does.
func (s AppState) same(after map[string]int) bool {
	goals := s.goals()
	if len(after) != len(goals) {
		return false
	}
	for name, number := range after {
		a, known := s.Releases[name][number]
		b, runs := s.Releases[name][goals[name].release]
		if !known || !runs || !Same(a, b) {
			return false
		}
	}
	return true
}

// Remove starts a rollout that removes the whole app; NotFound.
func Remove(now time.Time, s AppState, by string) (Submission, error) {
	if s.Spec == nil && len(s.Services) == 0 {
		return Submission{}, noApp(s.Scope)
	}
	if r := s.active(); r != nil && r.Cause == CauseRemove {
		return Submission{Rollout: r}, nil
	}
	b := newSubmission(now, s, CauseRemove, by)
	b.goals, b.changed = nil, true
	b.rollout.Removed = sortedKeys(s.Services)
	return b.submit(), nil
}

func noApp(scope maru.Scope) error {
	return maru.WithHint(maru.Errorf(maru.NotFound, "%s is not deployed", scope), "maru status lists what is")
}

// know tells whether the services exist, and are to stay.
func (s AppState) know(services []string) error {
	if s.Spec == nil && len(s.Services) == 0 {
		return noApp(s.Scope)
	}
	if r := s.active(); r != nil && r.Cause == CauseRemove {
		return maru.WithHint(maru.Errorf(maru.Conflict, "%s is being removed", s.Scope), "deploy it, to have it back")
	}
	for _, name := range services {
		if _, ok := s.Services[name]; !ok {
			return maru.WithHint(maru.Errorf(maru.NotFound, "%s has no service %q", s.Scope, name),
				fmt.Sprintf("it has %s", join(sortedKeys(s.Services))))
		}
	}
	return nil
}
