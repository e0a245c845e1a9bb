package plan

import (
	"maps"
	"slices"

	"github.com/marucloud/maru"
)

// follow has the steps run that follow a rollout which succeeds now.
func (p *planner) follow() {
	for _, name := range slices.Sorted(maps.Keys(p.rollout.Services)) {
		e := p.rollout.Services[name]
		r := p.service(name).releases[e.To]
		if r.Spec.After == nil || r.Spec.Kind == maru.Job || e.From == e.To || e.Phase != maru.Succeeded {
			continue
		}
		e.After, e.AfterReason = maru.AfterRuns, ""
		p.rollout.Services[name] = e
	}
}

// after runs the steps that follow the newest rollout. How they end is told, and changes nothing else.
func (p *planner) after() {
	if p.rollout != nil || p.in.Rollout == nil || !p.in.Rollout.AfterRuns() {
		return
	}
	rollout := cloneRollout(p.in.Rollout)
	for _, name := range slices.Sorted(maps.Keys(rollout.Services)) {
		e, s := rollout.Services[name], p.service(name)
		if e.After != maru.AfterRuns {
			continue
		}
		r, known := s.releases[e.To]
		step := StepName(e.To, AfterStep)
		done, why := false, "release "+maru.Itoa(e.To)+" is not there any more"
		if known && s.stored {
			done, why = p.stepEnd(step, r, AfterStep, rollout.Ended)
		}
		switch {
		case why != "":
			e.After, e.AfterReason = maru.AfterFailed, why
			p.record("after-step-failed", s, e.To, why)
		case done:
			e.After = maru.AfterDone
			p.record("after-step-done", s, e.To, stepWords(AfterStep, e.To)+" is done")
		default:
			s.applyStep(e.To, AfterStep)
			continue
		}
		rollout.Services[name] = e
		p.over = rollout
	}
}
