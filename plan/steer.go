package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/marucloud/maru"
)

// Promote lets services whose traffic moves step by step go to their next step, whatever the evidence, or
// with all to the end of their steps; no services: all of the rollout. A rollout that is paused goes on.
// What shows to be worse is taken back all the same. Errors: NotFound, Conflict (nothing moves so).
func Promote(now time.Time, s AppState, services []string, all bool, by string) (Submission, error) {
	r, err := s.steered(services)
	if err != nil {
		return Submission{}, err
	}
	var actions []Action
	r.Paused = false
	for _, name := range sortedKeys(r.Services) {
		e := r.Services[name]
		if len(services) > 0 && !slices.Contains(services, name) || !s.shifting(name, e) {
			continue
		}
		last := len(shiftOf(s.Releases[name][e.To]).Steps) + 1
		to := min(e.Step+1, last)
		if all {
			to = last
		}
		e.Promoted = max(e.Promoted, to)
		r.Services[name] = e
		text := fmt.Sprintf("release %d is to go to its next step", e.To)
		if e.Promoted == last {
			text = fmt.Sprintf("release %d is to have all of the traffic", e.To)
		}
		actions = append(actions, Record{steered(now, r, name, e.To, "rollout-promoted", text, by)})
	}
	if len(actions) == 0 {
		return Submission{}, noShift(r)
	}
	return Submission{Actions: append(actions, PutRollout{*r}), Rollout: r}, nil
}

// Pause has every service of the active rollout stay at its present share until Resume. What shows to be
// worse meanwhile is taken back all the same. Errors: NotFound, Conflict (nothing moves step by step).
func Pause(now time.Time, s AppState, paused bool, by string) (Submission, error) {
	r, err := s.steered(nil)
	if err != nil {
		return Submission{}, err
	}
	if !slices.ContainsFunc(sortedKeys(r.Services), func(name string) bool { return s.shifting(name, r.Services[name]) }) {
		return Submission{}, noShift(r)
	}
	if r.Paused == paused {
		return Submission{Rollout: r}, nil
	}
	r.Paused = paused
	kind, text := "rollout-resumed", "goes on"
	if paused {
		kind, text = "rollout-paused", "stays at its present shares"
	}
	return Submission{Actions: []Action{PutRollout{*r}, Record{steered(now, r, "", 0, kind, text, by)}}, Rollout: r}, nil
}

// Abort turns the active rollout back as a whole, whatever its file says of failures: traffic in this same
// commit, where what served before is still there. Without one, services that changed by blue-green a moment
// ago go back to what is kept warm for that. Errors: NotFound, Conflict (there is nothing to turn back).
func Abort(now time.Time, s AppState, by string) (Submission, error) {
	if s.active() == nil && s.warm() {
		return Rollback(now, s, 0, by)
	}
	r, err := s.steered(nil)
	if err != nil {
		return Submission{}, err
	}
	if r.Phase == maru.RollingBack {
		return Submission{Rollout: r}, nil
	}
	p := newPlanner(now, s)
	p.rollout.Reason = "aborted by " + first(by, "a person")
	p.rollout.Paused = false
	p.turnBack("rollout-aborted", nil, 0)
	for p.pass() {
	}
	p.finish()
	p.rollout.Phase = p.phase()
	return Submission{Actions: stored(p.plan().Actions), Rollout: p.rollout}, nil
}

// stored are the actions that are not for the engine.
func stored(actions []Action) []Action {
	return slices.DeleteFunc(actions, func(a Action) bool {
		switch a.(type) {
		case ApplyWorkload, RemoveWorkload:
			return true
		}
		return false
	})
}

// steered gives a copy of the active rollout for changing, if it has the services.
func (s AppState) steered(services []string) (*maru.Rollout, error) {
	if err := s.know(services); err != nil {
		return nil, err
	}
	r := s.active()
	if r == nil {
		return nil, maru.WithHint(maru.Errorf(maru.Conflict, "%s has no rollout under way", s.Scope), "maru rollback goes back to an earlier state")
	}
	for _, name := range services {
		if _, moves := r.Services[name]; !moves {
			return nil, maru.Errorf(maru.Conflict, "rollout %d does not move %s", r.Number, name)
		}
	}
	return cloneRollout(r), nil
}

// shifting tells whether a service's traffic moves step by step, or is about to.
func (s AppState) shifting(name string, e maru.ServiceRollout) bool {
	switch e.Phase {
	case maru.Shifting:
		return true
	case maru.Pending, maru.Releasing, maru.Seeding, maru.Starting:
		return e.From != 0 && e.From != e.To && shifts(s.Releases[name][e.To])
	}
	return false
}

// warm tells whether the newest rollout left something ready to go back to.
func (s AppState) warm() bool {
	r := s.Rollout
	return r != nil && r.Phase == maru.Succeeded && slices.ContainsFunc(sortedKeys(r.Services), func(name string) bool {
		w := s.Services[name].Warm
		return w != nil && w.Release == r.Services[name].From
	})
}

func noShift(r *maru.Rollout) error {
	return maru.WithHint(maru.Errorf(maru.Conflict, "rollout %d moves no service step by step now", r.Number),
		"that is for services with x-maru: {rollout: canary} or blue-green")
}

func steered(now time.Time, r *maru.Rollout, service string, release int, kind, text, by string) maru.Event {
	return maru.Event{Time: now, Scope: r.Scope, Service: service, Release: release, Rollout: r.Number, Type: kind, Message: text, By: by}
}
