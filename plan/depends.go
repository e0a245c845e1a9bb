package plan

import (
	"fmt"
	"slices"

	"github.com/marucloud/maru"
)

// blockers tells in words what of its dependencies a release waits for, sorted, and whether any of
// that is on its way in the same rollout.
func (p *planner) blockers(r maru.Release) (waits []string, underway bool) {
	for _, d := range r.Spec.DependsOn {
		svc := p.services[d.Service]
		if svc == nil || !svc.stored {
			continue // not part of what is deployed
		}
		entry, moving := p.rollout.Services[d.Service]
		moving = moving && !entry.Phase.Final()
		var wait string
		if moving {
			wait = svc.waitMoving(d.Condition, entry)
			underway = underway || wait != ""
		} else {
			wait = p.waitStanding(svc, d.Condition)
		}
		if wait != "" {
			waits = append(waits, fmt.Sprintf("waits for %s %s", d.Service, wait))
		}
	}
	slices.Sort(waits)
	return waits, underway
}

// waitMoving is what a dependency that the rollout moves has yet to come to; "" when it is there.
func (s *service) waitMoving(c maru.Condition, e maru.ServiceRollout) string {
	if e.Phase == maru.Draining {
		return ""
	}
	switch c {
	case maru.Completed:
		return "to complete"
	case maru.Healthy:
		return "to be ready"
	}
	if (e.Phase == maru.Starting || e.Phase == maru.Shifting) && s.started(e.To) {
		return ""
	}
	return "to start"
}

// waitStanding is the same of one that the rollout does not move, or moved before.
func (p *planner) waitStanding(s *service, c maru.Condition) string {
	r := s.state.Release
	switch {
	case s.state.Stopped:
		return "which is stopped"
	case s.releases[r].Spec.Kind == maru.Job:
		if done, _ := outcome(s.observed[maru.Itoa(r)], 1); r == 0 && !done {
			return "to complete"
		}
	case c == maru.Healthy && p.up(s, r) == 0 && s.state.Replicas > 0:
		return "to be ready"
	case c == maru.Started && r == 0:
		return "to start"
	}
	return ""
}

// started tells whether an instance of the release has run.
func (s *service) started(release int) bool {
	return slices.ContainsFunc(s.observed[maru.Itoa(release)].Instances, func(i maru.Instance) bool {
		return !i.Started.IsZero()
	})
}
