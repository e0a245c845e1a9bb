package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// failure is why a rollout can't go on.
type failure struct {
	service string
	reason  string
}

// roll moves the active rollout as far as it can go now.
func (p *planner) roll() {
	if p.rollout == nil {
		return
	}
	for p.pass() {
	}
	if p.failure != nil {
		p.giveUp()
		for p.pass() {
		}
	}
	p.mark()
	p.finish()
	p.rollout.Phase = p.phase()
}

// mark notes since when users have something of the rollout, and since when its releases have all traffic.
func (p *planner) mark() {
	r, all, some := p.rollout, true, len(p.rollout.Services) == 0
	if r.Phase == maru.RollingBack {
		return
	}
	for name, e := range r.Services {
		over := e.Phase == maru.Draining || e.Phase == maru.Succeeded
		all, some = all && (over || e.Phase == maru.Superseded), some || over // superseded: somebody stopped it meanwhile
		// What replaces nothing that served reaches nobody before it is ready.
		reached := over || e.From != 0 && e.From != e.To && p.service(name).reaches(e.To)
		if reached && r.Exposed.IsZero() {
			r.Exposed = p.now
		}
	}
	if all && some && r.Served.IsZero() {
		r.Served = p.now
		if r.Exposed.IsZero() {
			r.Exposed = p.now
		}
	}
}

// reaches tells whether a release gets any of the traffic.
func (s *service) reaches(release int) bool {
	if len(s.state.Serving) == 0 {
		return s.state.Release == release
	}
	return slices.ContainsFunc(s.state.Serving, func(w maru.Weight) bool { return w.Release == release && w.Weight > 0 })
}

// pass moves each service on, and tells whether any came into another phase: others may have waited
// for that.
func (p *planner) pass() bool {
	moved := false
	for _, name := range slices.Sorted(maps.Keys(p.rollout.Services)) {
		if p.failure != nil && p.rollout.Phase != maru.RollingBack {
			return false
		}
		entry, svc := p.rollout.Services[name], p.service(name)
		if entry.Phase.Final() {
			svc.settled = false
			continue
		}
		m := mover{planner: p, service: svc, entry: &entry, to: svc.releases[entry.To]}
		svc.reset()
		svc.settled = true
		phase := entry.Phase
		m.move()
		if entry.Phase != phase {
			entry.Since = p.now
			moved = true
		}
		p.rollout.Services[name] = entry
		if entry.Phase.Final() {
			svc.settled = false
		}
	}
	return moved
}

// giveUp turns the rollout back as a whole, or ends it where it stands if the file says so.
func (p *planner) giveUp() {
	failed := p.failure
	entry := p.rollout.Services[failed.service]
	p.rollout.Reason = failed.service + ": " + failed.reason
	release := p.service(failed.service).releases[entry.To]
	entry.Reason = failed.reason
	p.rollout.Services[failed.service] = entry
	if release.Spec.Update.NoRollback && !shifts(release) {
		p.stay()
		return
	}
	p.turnBack("rollout-failed", p.service(failed.service), entry.To)
}

// turnBack has all services of the rollout go back to what they were before.
func (p *planner) turnBack(event string, s *service, release int) {
	p.rollout.Phase = maru.RollingBack
	p.record(event, s, release, p.rollout.Reason)
	for _, name := range slices.Sorted(maps.Keys(p.rollout.Services)) {
		entry, svc := p.rollout.Services[name], p.service(name)
		if entry.Phase == maru.Superseded {
			continue
		}
		entry.Since = p.now
		entry.Phase = maru.RollingBack
		if p.untouched(svc, entry) {
			p.restore(svc, entry)
			entry.Phase = maru.RolledBackPhase
		}
		p.rollout.Services[name] = entry
	}
}

// stay ends the rollout as failed and leaves everything as it is.
func (p *planner) stay() {
	for _, name := range slices.Sorted(maps.Keys(p.rollout.Services)) {
		entry := p.rollout.Services[name]
		if entry.Phase.Final() {
			continue
		}
		entry.Phase, entry.Since = maru.Failed, p.now
		p.rollout.Services[name] = entry
		svc := p.service(name)
		svc.settled = true
		svc.leaveAll()
	}
}

func (s *service) leaveAll() {
	s.reset()
	for _, name := range s.names() {
		s.keep[name] = true
	}
}

// untouched tells whether what served before the rollout serves unchanged, so that nothing needs to
// come back.
func (p *planner) untouched(s *service, e maru.ServiceRollout) bool {
	if e.From == e.To {
		return true
	}
	if e.From == 0 || s.state.Release != e.From || len(s.state.Serving) > 0 {
		return false
	}
	if e.Stopped || s.releases[e.From].Spec.Kind == maru.Job {
		return true
	}
	return s.wanted(e.From) == s.replicasBefore(e)
}

func (s *service) replicasBefore(e maru.ServiceRollout) int {
	if s.state.Scaled {
		return s.state.Replicas
	}
	return e.Replicas
}

// restore gives a service's state back what it had before the rollout.
func (p *planner) restore(s *service, e maru.ServiceRollout) {
	before := s.state
	s.serve(e.From, s.replicasBefore(e))
	s.state.Stopped = e.Stopped
	if before.Stopped != s.state.Stopped {
		s.changed = true
	}
}

// phase sums up the services' phases: that of the one which is least far.
func (p *planner) phase() maru.RolloutPhase {
	r := p.rollout
	if r.Phase.Final() || r.Phase == maru.RollingBack {
		return r.Phase
	}
	for _, phase := range []maru.RolloutPhase{maru.Releasing, maru.Seeding, maru.Starting, maru.Shifting, maru.Pending} {
		for _, e := range r.Services {
			if e.Phase == phase {
				return phase
			}
		}
	}
	return maru.Draining
}

// finish ends the rollout when all its services are at their end, and what is to be removed is gone.
func (p *planner) finish() {
	r := p.rollout
	failed := false
	for _, e := range r.Services {
		if !e.Phase.Final() {
			return
		}
		failed = failed || e.Phase == maru.Failed
	}
	switch {
	case failed:
		p.end(maru.Failed, "rollout-failed", r.Reason)
	case r.Phase == maru.RollingBack:
		p.end(maru.RolledBackPhase, "rollout-rolled-back", "the releases before serve again: "+r.Reason)
	case p.removeServices():
		if r.Cause == CauseRemove {
			p.forget = true
			p.end(maru.Succeeded, "app-removed", "the app was removed")
			return
		}
		p.follow()
		p.end(maru.Succeeded, "rollout-succeeded", p.summary())
	}
}

func (p *planner) end(phase maru.RolloutPhase, event, message string) {
	p.rollout.Phase, p.rollout.Ended = phase, p.now
	p.record(event, nil, 0, message)
}

func (p *planner) summary() string {
	r := p.rollout
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.Services)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, r.Services[name].To))
	}
	for _, name := range r.Removed {
		parts = append(parts, name+" removed")
	}
	return fmt.Sprintf("%s took %s: %s", r.Cause, words(p.now.Sub(r.Started)), strings.Join(parts, ", "))
}

// removeServices drains and removes the services that are gone from the file, those that depend on
// others first, and tells whether all are gone.
func (p *planner) removeServices() bool {
	var left, free []*service
	for _, name := range p.rollout.Removed {
		svc := p.services[name]
		if svc == nil || svc.deleted {
			continue
		}
		left = append(left, svc)
		if !p.needed(svc) {
			free = append(free, svc)
		}
	}
	if len(free) == 0 {
		free = left // they depend on each other in a circle
	}
	gone := len(free) == len(left)
	for _, svc := range free {
		svc.reset()
		svc.settled, svc.leaving = true, true
		svc.deleted = len(svc.names()) == 0
		gone = gone && svc.deleted
	}
	return gone
}

// needed tells whether a service that is also to be removed is still there and depends on this one.
func (p *planner) needed(s *service) bool {
	return slices.ContainsFunc(p.rollout.Removed, func(name string) bool {
		other := p.services[name]
		if other == nil || other == s || len(other.names()) == 0 {
			return false
		}
		release := other.releases[other.state.Release]
		return slices.ContainsFunc(release.Spec.DependsOn, func(d maru.Dependency) bool { return d.Service == s.id.Service })
	})
}

func deadlineOf(r maru.Release) time.Duration {
	switch {
	case r.Spec.Update.Deadline > 0:
		return r.Spec.Update.Deadline
	case r.Spec.Kind == maru.Job:
		return DefaultJobDeadline
	}
	return DefaultDeadline
}
