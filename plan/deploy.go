package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Deploy makes releases of what a deployment changes, and a rollout to them. A service of which
// nothing changed is not part of the rollout, unless it is not yet where it was going, was stopped,
// or has another number of instances. Errors: Invalid, NotFound (an image or secret is missing), Conflict
// (it was taken back before).
func Deploy(now time.Time, s AppState, d maru.Deployment) (Submission, error) {
	b := newSubmission(now, s, CauseDeploy, d.By)
	b.rollout.Origin = d.Origin
	verdicts, err := b.judge(d)
	if err != nil {
		return Submission{}, err
	}
	spoken := map[string]bool{}
	for _, v := range verdicts {
		spoken[v.name] = true
		switch v.action {
		case maru.ChangeCreate, maru.ChangeUpdate:
			if v.isNew {
				b.add(v.to)
			}
			b.changed = true
			b.move(v.name, v.to, v.fresh)
		case maru.ChangeScale, maru.ChangeStart:
			b.changed = true
			if st := b.state(v.name); !st.Scaled {
				st.Replicas = v.candidate.Spec.Replicas
				b.put(v.name, st)
			}
			b.move(v.name, v.to, v.fresh)
		case maru.ChangeNone:
			if b.goals[v.name].unsettled {
				b.changed = b.changed || s.active() == nil
				b.move(v.name, v.to, v.fresh)
			}
		}
	}
	b.restartDependents(d, verdicts)
	b.remove(d)
	b.carry(spoken)
	var extra []Action
	if s.Spec == nil || string(maru.Raw(*s.Spec)) != string(maru.Raw(d.App)) {
		extra = append(extra, PutApp{s.Scope, d.App})
	}
	return b.submit(extra...), nil
}

// remember refuses what the judge had taken back when it was last tried, as long as that is kept.
func (s AppState) remember(candidate maru.Release) error {
	name := candidate.Service.Service
	numbers := sortedKeys(s.History)
	for _, n := range slices.Backward(numbers) {
		e, moved := s.History[n].Services[name]
		before, known := s.Releases[name][e.To]
		if !moved || !known || !Same(before, candidate) {
			continue
		}
		if e.Verdict != nil && e.Verdict.Outcome == maru.JudgedRegressed {
			return maru.WithHint(maru.Errorf(maru.Conflict, "%s is what release %d was, which was taken back: it %s", name, e.To, e.Verdict.Why),
				"change it, or try it again with --force")
		}
		return nil
	}
	return nil
}

// verdict is what a deployment means to one service.
type verdict struct {
	name      string
	action    maru.ChangeAction
	to        maru.Release // it is to run
	isNew     bool         // to is not stored yet
	fresh     bool
	before    maru.Release // it was to run so far; number 0: none
	candidate maru.Release // what the file says
}

// judge compares what the file says with where each selected service is going. Sorted by name.
func (b *submission) judge(d maru.Deployment) ([]verdict, error) {
	if err := check(d); err != nil {
		return nil, err
	}
	var out []verdict
	for _, name := range selected(d) {
		candidate, err := NewRelease(b.now, d, name, b.rollout.Number)
		if err != nil {
			return nil, err
		}
		v := b.judgeOne(d, name, candidate)
		if v.isNew && !d.Force && !d.Again {
			if err := b.in.remember(candidate); err != nil {
				return nil, err
			}
		}
		out = append(out, v)
	}
	return out, nil
}

func (b *submission) judgeOne(d maru.Deployment, name string, candidate maru.Release) verdict {
	g, exists := b.goals[name]
	v := verdict{name: name, action: maru.ChangeNone, fresh: g.fresh, candidate: candidate}
	v.before = b.in.Releases[name][g.release]
	good := b.in.Releases[name][g.from]
	switch {
	case !exists || g.release == 0 && g.from == 0:
		v.action, v.to, v.isNew, v.fresh = maru.ChangeCreate, candidate, true, true
	case !d.Force && b.reached(g, v.before, candidate):
		v.to = v.before
		if g.state.Stopped && candidate.Spec.Kind != maru.Job {
			v.action = maru.ChangeStart
		} else if b.rescaled(g, v.to, candidate) {
			v.action = maru.ChangeScale
		}
	case !d.Force && g.from != g.release && good.Number != 0 && Same(good, candidate):
		v.action, v.to, v.fresh = maru.ChangeUpdate, good, false
	default:
		v.action, v.to, v.isNew, v.fresh = maru.ChangeUpdate, candidate, true, true
	}
	return v
}

// reached tells whether a service runs, or is on its way to, what the file says. The number of
// instances of a release that does not serve yet can't be changed in place.
func (b *submission) reached(g goal, before, candidate maru.Release) bool {
	if before.Number == 0 || !Same(before, candidate) {
		return false
	}
	return before.Number == g.state.Release || !b.rescaled(g, before, candidate)
}

func (b *submission) rescaled(g goal, to, candidate maru.Release) bool {
	if g.state.Scaled || candidate.Spec.Kind == maru.Job {
		return false
	}
	now := to.Spec.Replicas
	if to.Number == g.state.Release {
		now = g.state.Replicas
	}
	return now != candidate.Spec.Replicas
}

func check(d maru.Deployment) error {
	for _, name := range d.Services {
		if _, ok := d.App.Services[name]; !ok {
			return maru.WithHint(maru.Errorf(maru.Invalid, "the app has no service %q", name),
				"it has "+join(sortedKeys(d.App.Services)))
		}
	}
	for name, s := range d.App.Services {
		if err := maru.CheckName("service", name); err != nil {
			return err
		}
		if s.Replicas < 0 {
			return maru.Errorf(maru.Invalid, "service %q can't have %d instances", name, s.Replicas)
		}
		if s.Update.Shift != nil {
			if err := s.Update.Shift.Validate(); err != nil {
				return fmt.Errorf("service %q: %w", name, err)
			}
		}
	}
	if c := circle(d.App.Services); c != nil {
		return maru.Errorf(maru.Invalid, "services depend on each other in a circle: %s", strings.Join(c, " → "))
	}
	return nil
}

func selected(d maru.Deployment) []string {
	if len(d.Services) == 0 {
		return sortedKeys(d.App.Services)
	}
	return slices.Compact(slices.Sorted(slices.Values(d.Services)))
}

// restartDependents gives an identical release to services that want to be restarted when one that
// they depend on was updated.
func (b *submission) restartDependents(d maru.Deployment, verdicts []verdict) {
	updated := map[string]bool{}
	for _, v := range verdicts {
		updated[v.name] = v.action == maru.ChangeUpdate && v.isNew
	}
	for again := true; again; {
		again = false
		for _, name := range sortedKeys(b.goals) {
			g := b.goals[name]
			if updated[name] || g.state.Stopped || g.release == 0 || !dependsOn(d.App.Services[name], updated) {
				continue
			}
			if e, moving := b.rollout.Services[name]; moving && e.To == b.rollout.Number {
				continue
			}
			release, known := b.in.Releases[name][g.release]
			if !known || release.Spec.Kind == maru.Job {
				continue
			}
			release.Number, release.Created, release.By = b.rollout.Number, b.now, d.By
			release.Message = "restart with what it depends on"
			b.add(release)
			b.move(name, release, g.fresh)
			updated[name], again = true, true
		}
	}
}

func dependsOn(s maru.Service, updated map[string]bool) bool {
	return slices.ContainsFunc(s.DependsOn, func(on maru.Dependency) bool { return on.Restart && updated[on.Service] })
}

// remove lists the services that go.
func (b *submission) remove(d maru.Deployment) {
	if len(d.Services) > 0 {
		for _, name := range b.in.leaving() {
			if _, moves := b.rollout.Services[name]; !moves {
				b.rollout.Removed = append(b.rollout.Removed, name)
			}
		}
		return
	}
	leaving := b.in.leaving()
	for name := range b.goals {
		if _, stays := d.App.Services[name]; stays {
			b.changed = b.changed || slices.Contains(leaving, name)
			continue
		}
		b.rollout.Removed = append(b.rollout.Removed, name)
		b.changed = b.changed || !slices.Contains(leaving, name)
	}
}

// note says what the verdict means.
func (v verdict) note() string {
	switch v.action {
	case maru.ChangeCreate:
		if v.candidate.Spec.Kind == maru.Job {
			return "runs once"
		}
		return fmt.Sprintf("starts %d instances", v.candidate.Spec.Replicas)
	case maru.ChangeUpdate:
		return updateNote(v)
	case maru.ChangeScale:
		return "instances that stay are not touched"
	case maru.ChangeStart:
		return "was stopped, and starts again"
	}
	return ""
}

func updateNote(v verdict) string {
	switch {
	case v.candidate.Spec.Kind == maru.Job:
		return "runs again"
	case !v.isNew:
		return fmt.Sprintf("goes back to release %d", v.to.Number)
	case v.candidate.Spec.Update.Strategy == maru.Recreate:
		return "stops, then starts anew: it is away meanwhile"
	case v.candidate.Spec.Update.Strategy == maru.Canary:
		return "is replaced step by step, while what serves stays whole"
	case v.candidate.Spec.Update.Strategy == maru.BlueGreen:
		return "is replaced by as many new instances, while what serves stays whole"
	}
	return "is replaced while it serves"
}
