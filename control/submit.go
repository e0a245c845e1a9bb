package control

import (
	"context"
	"maps"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/crash"
	"github.com/marucloud/maru/plan"
)

// wish is one of plan's functions that turn what a person asks for into stored objects.
type wish func(now time.Time, s plan.AppState) (plan.Submission, error)

// submit turns a wish into one commit.
func (c *Controller) submit(ctx context.Context, scope maru.Scope, w wish) (plan.Submission, error) {
	if err := c.view.ready(ctx); err != nil {
		return plan.Submission{}, err
	}
	c.deciding.Lock()
	defer c.deciding.Unlock()
	done := c.view.decide(scope)
	defer done()
	state := c.view.look(scope)
	sub, err := w(time.Now(), state)
	if err != nil {
		return plan.Submission{}, err
	}
	if sub.Changed && sub.Rollout != nil {
		if err := c.allocate(state, &sub); err != nil {
			return plan.Submission{}, err
		}
	}
	changes := c.changes(state, sub.Actions)
	if sub.Changed && sub.Rollout != nil {
		changes = unique(append(changes, c.surplus(state, *sub.Rollout)...))
	}
	crash.Point("control.submit.before")
	err = c.commit(ctx, changes)
	crash.Point("control.submit.after")
	return sub, err
}

// surplus deletes what of the app's history is not kept beside a new rollout.
func (c *Controller) surplus(state plan.AppState, r maru.Rollout) []maru.Change {
	state.History = maps.Clone(state.History)
	state.History[r.Number] = r
	trim := plan.Trim(state, c.cfg.History)
	var out []maru.Change
	for _, n := range trim.Rollouts {
		out = append(out, maru.Change{Key: RolloutKey(state.Scope, n), Expect: maru.Any})
	}
	for name, numbers := range trim.Releases {
		for _, n := range numbers {
			out = append(out, maru.Change{Key: ReleaseKey(state.Scope.Service(name), n), Expect: maru.Any})
		}
	}
	return out
}

// started gives the rollout that a submission started, or that is under way.
func started(sub plan.Submission, err error) (maru.Rollout, bool, error) {
	if err != nil || sub.Rollout == nil {
		return maru.Rollout{}, false, err
	}
	return *sub.Rollout, sub.Changed, nil
}

// Deploy makes releases of what changed and starts a rollout to them, in one commit. When nothing
// changed there is no new rollout: r is then the one that is on its way to the same state, if any.
// Errors: Invalid, NotFound (an image or secret is missing), Conflict (a route or host port is
// another service's).
func (c *Controller) Deploy(ctx context.Context, d maru.Deployment) (r maru.Rollout, changed bool, err error) {
	for what, name := range map[string]string{"project": d.Scope.Project, "environment": d.Scope.Environment, "app": d.Scope.App} {
		if err := maru.CheckName(what, name); err != nil {
			return maru.Rollout{}, false, err
		}
	}
	return started(c.submit(ctx, d.Scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Deploy(now, s, d)
	}))
}

// Plan tells what Deploy would do to each service, and why it would not: refusal is then its error.
// Images may be missing from the deployment.
func (c *Controller) Plan(ctx context.Context, d maru.Deployment) (changes []maru.ServiceChange, refusal, err error) {
	if err := c.view.ready(ctx); err != nil {
		return nil, nil, err
	}
	c.deciding.Lock()
	defer c.deciding.Unlock()
	now, state := time.Now(), c.view.look(d.Scope)
	changes, sub, err := plan.Changes(now, state, d)
	if err == nil && sub.Changed && sub.Rollout != nil {
		refusal = c.allocate(state, &sub)
	}
	return changes, refusal, err
}

// Rollback starts a rollout to the state after an earlier rollout; 0: the last that succeeded with
// another state than the present one. Errors: NotFound, Conflict (it did not succeed, or a route or
// host port went to another service).
func (c *Controller) Rollback(ctx context.Context, scope maru.Scope, to int, by string) (r maru.Rollout, changed bool, err error) {
	return started(c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Rollback(now, s, to, by)
	}))
}

// Restart starts a rollout to identical releases; no services: all that keep running. Errors:
// NotFound, Conflict (nothing runs).
func (c *Controller) Restart(ctx context.Context, scope maru.Scope, services []string, by string) (maru.Rollout, error) {
	r, _, err := started(c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Restart(now, s, services, by)
	}))
	return r, err
}

// Scale sets how many instances services have; deploys keep the number. -1: as the file says.
// Errors: NotFound, Invalid (a job), Conflict (it holds a volume).
func (c *Controller) Scale(ctx context.Context, scope maru.Scope, replicas map[string]int, by string) error {
	_, err := c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Scale(now, s, replicas, by)
	})
	return err
}

// Faults sets what is done on purpose to services' requests; none: nothing any more. Errors: NotFound, Invalid.
func (c *Controller) Faults(ctx context.Context, scope maru.Scope, faults map[string][]maru.Fault, by string) error {
	_, err := c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Faults(now, s, faults, by)
	})
	return err
}

// Stop stops services but keeps their releases; no services: all. Errors: NotFound.
func (c *Controller) Stop(ctx context.Context, scope maru.Scope, services []string, by string) error {
	_, err := c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Stop(now, s, services, by)
	})
	return err
}

// Start starts what Stop stopped; no services: all. Errors: NotFound.
func (c *Controller) Start(ctx context.Context, scope maru.Scope, services []string, by string) error {
	_, err := c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Start(now, s, services, by)
	})
	return err
}

// Remove starts a rollout that drains and removes all of the app but its volumes. When it has
// succeeded, the app's file, services and releases are forgotten. Errors: NotFound.
func (c *Controller) Remove(ctx context.Context, scope maru.Scope, by string) (maru.Rollout, error) {
	r, _, err := started(c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Remove(now, s, by)
	}))
	return r, err
}

// Forget drops the history of an app that was removed, so that its next rollout is the first. Errors: Conflict (the
// app is there).
func (c *Controller) Forget(ctx context.Context, scope maru.Scope) error {
	if err := c.view.ready(ctx); err != nil {
		return err
	}
	done := c.view.decide(scope)
	defer done()
	state := c.view.look(scope)
	if state.Spec != nil || len(state.Services) > 0 || len(state.Observed) > 0 || len(state.Asked) > 0 {
		return maru.Errorf(maru.Conflict, "%s is deployed", scope)
	}
	var changes []maru.Change
	for number := range state.History {
		changes = append(changes, maru.Change{Key: RolloutKey(scope, number), Expect: maru.Any})
	}
	for name, releases := range state.Releases {
		for number := range releases {
			changes = append(changes, maru.Change{Key: ReleaseKey(scope.Service(name), number), Expect: maru.Any})
		}
	}
	return c.commit(ctx, changes)
}

// Promote lets services whose traffic moves step by step go to their next step, whatever the evidence, or with
// all to their end; no services: all of the rollout. Errors: NotFound, Conflict (nothing moves so).
func (c *Controller) Promote(ctx context.Context, scope maru.Scope, services []string, all bool, by string) (maru.Rollout, error) {
	r, _, err := started(c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Promote(now, s, services, all, by)
	}))
	return r, err
}

// Abort turns the rollout that is under way back; traffic is back when it returns, where what served before is
// still there. Without one it goes back to what blue-green keeps warm. Errors: NotFound, Conflict.
func (c *Controller) Abort(ctx context.Context, scope maru.Scope, by string) (maru.Rollout, error) {
	r, _, err := started(c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Abort(now, s, by)
	}))
	return r, err
}

// Pause has the rollout that is under way stay at its present shares, or go on. Errors: NotFound, Conflict
// (nothing moves step by step).
func (c *Controller) Pause(ctx context.Context, scope maru.Scope, paused bool, by string) (maru.Rollout, error) {
	r, _, err := started(c.submit(ctx, scope, func(now time.Time, s plan.AppState) (plan.Submission, error) {
		return plan.Pause(now, s, paused, by)
	}))
	return r, err
}
