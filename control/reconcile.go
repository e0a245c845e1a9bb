package control

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/crash"
	"github.com/marucloud/maru/plan"
)

// effectsAtOnce bounds the calls to the engine for one app.
const effectsAtOnce = 8

// reconcile brings one app one step further: it plans, commits what is to be stored, and asks the
// engine. It tells when to do so again at the latest.
func (c *Controller) reconcile(ctx context.Context, scope maru.Scope) (wake time.Time, err error) {
	if !c.view.deciding() {
		return time.Time{}, nil // all apps are planned for once the engine is back
	}
	p, err := c.decide(ctx, scope)
	if err != nil {
		return time.Time{}, err
	}
	return p.Wake, c.effect(ctx, scope, p.Actions)
}

// decide plans for an app and commits what is to be stored.
func (c *Controller) decide(ctx context.Context, scope maru.Scope) (plan.Plan, error) {
	done := c.view.decide(scope)
	defer done()
	state := c.view.look(scope)
	p := plan.App(time.Now(), state)
	return p, c.commit(ctx, c.changes(state, p.Actions))
}

// commit makes the changes and waits until the view has them.
func (c *Controller) commit(ctx context.Context, changes []maru.Change) error {
	if len(changes) == 0 {
		return nil
	}
	crash.Point("control.commit.before")
	revision, err := c.store.Commit(ctx, changes...)
	if err != nil {
		return err
	}
	crash.Point("control.commit.after")
	return c.view.caughtUp(ctx, revision)
}

// effect asks the engine for what is planned, several things at once.
func (c *Controller) effect(ctx context.Context, scope maru.Scope, actions []plan.Action) error {
	var group errgroup.Group
	group.SetLimit(effectsAtOnce)
	wanted := map[maru.WorkloadID]bool{}
	for _, a := range actions {
		switch a := a.(type) {
		case plan.ApplyWorkload:
			wanted[a.Workload] = true
			group.Go(func() error { return c.apply(ctx, a) })
		case plan.RemoveWorkload:
			group.Go(func() error { return c.remove(ctx, a.Workload) })
		}
	}
	c.view.pardon(scope, wanted)
	return group.Wait()
}

func (c *Controller) apply(ctx context.Context, a plan.ApplyWorkload) error {
	w, err := c.workload(ctx, a)
	if err == nil {
		c.view.asking(a.Workload, a.Replicas)
		crash.Point("control.apply.before")
		err = c.engine.Apply(ctx, w)
		crash.Point("control.apply.after")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.view.asked(a.Workload, err)
	if err != nil {
		return maru.Errorf(maru.KindOf(err), "apply %s: %w", a.Workload, err)
	}
	return nil
}

// workload makes what the engine gets of a release, with its secrets.
func (c *Controller) workload(ctx context.Context, a plan.ApplyWorkload) (maru.Workload, error) {
	v, _ := c.view.service(a.Workload.ServiceID)
	r, known := v.Releases[a.Release]
	if !known {
		return maru.Workload{}, maru.Errorf(maru.NotFound, "release %d of %s does not exist", a.Release, a.Workload.Service)
	}
	secrets, err := c.secrets(ctx, r)
	if err != nil {
		return maru.Workload{}, err
	}
	if a.Step != "" {
		return plan.StepOf(r, a.Step, v.State.VirtualAddress, secrets), nil
	}
	w := plan.WorkloadOf(r, a.Replicas, v.State.VirtualAddress, secrets)
	w.ID = a.Workload
	return w, nil
}

func (c *Controller) secrets(ctx context.Context, r maru.Release) (map[string][]byte, error) {
	if len(r.Secrets) == 0 {
		return nil, nil
	}
	values := make(map[string][]byte, len(r.Secrets))
	for key, s := range r.Secrets {
		value, err := c.cfg.Secrets(ctx, secretScope(r.Service.Scope, s), s.Name, s.Version)
		if err != nil {
			return nil, maru.Errorf(maru.KindOf(err), "secret %q: %w", key, err)
		}
		values[key] = value
	}
	return values, nil
}

// secretScope is where a secret of an app is kept.
func secretScope(scope maru.Scope, s maru.SecretVersion) maru.Scope {
	if s.Environment != "" {
		scope.Environment = s.Environment
	}
	return scope
}

func (c *Controller) remove(ctx context.Context, id maru.WorkloadID) error {
	if !c.view.asking(id, plan.Removed) {
		return nil
	}
	crash.Point("control.remove.before")
	err := c.engine.Remove(ctx, id)
	crash.Point("control.remove.after")
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.view.asked(id, err)
		return maru.Errorf(maru.KindOf(err), "remove %s: %w", id, err)
	}
	return nil
}

// changes are the stored part of what is to be done, each expecting what was looked at.
func (c *Controller) changes(state plan.AppState, actions []plan.Action) []maru.Change {
	var out []maru.Change
	add := func(key maru.Key, v any) {
		change := maru.Change{Key: key, Expect: c.view.revisionOf(key)}
		if v != nil {
			change.Data = maru.Raw(v)
		}
		if v != nil || change.Expect != 0 {
			out = append(out, change)
		}
	}
	for _, a := range actions {
		switch a := a.(type) {
		case plan.PutApp:
			add(AppKey(a.Scope), a.App)
		case plan.PutRelease:
			add(ReleaseKey(a.Release.Service, a.Release.Number), a.Release)
		case plan.PutService:
			add(ServiceKey(a.State.Service), a.State)
		case plan.DeleteService:
			add(ServiceKey(a.Service), nil)
		case plan.PutRollout:
			key := RolloutKey(a.Rollout.Scope, a.Rollout.Number)
			if c.view.revisionOf(key) == 0 || a.Rollout.Phase.Final() {
				out = append(out, delivered(state, a.Rollout))
			}
			add(key, a.Rollout)
		case plan.ForgetApp:
			add(AppKey(a.Scope), nil)
			for name, releases := range state.Releases {
				for number := range releases {
					add(ReleaseKey(a.Scope.Service(name), number), nil)
				}
			}
		case plan.Record:
			out = append(out, maru.Change{Key: EventKey(a.Event), Data: maru.Raw(a.Event), Expect: maru.Any})
		}
	}
	return unique(out)
}

// unique keeps the last of changes to the same key.
func unique(changes []maru.Change) []maru.Change {
	last := make(map[maru.Key]int, len(changes))
	for k, change := range changes {
		last[change.Key] = k
	}
	k := -1
	return slices.DeleteFunc(changes, func(change maru.Change) bool {
		k++
		return last[change.Key] != k
	})
}

func (v *view) revisionOf(key maru.Key) maru.Revision {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.known[key]
}
