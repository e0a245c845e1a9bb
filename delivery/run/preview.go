package run

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// Presence is what of an app is there in an environment.
type Presence int

// The degrees of presence.
const (
	Absent   Presence = iota
	Volumes           // of one that is not deployed
	Deployed          // or on its way to be, or to be removed
)

// use makes the environment of a branch, or keeps it for longer. Refused is why there can't be one.
func (c *recording) use(ctx context.Context, scope maru.Scope, branch string, target plan.Target) (refused string, err error) {
	e, revision, err := load[maru.Environment](ctx, c.store, previewKey(scope))
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	switch {
	case revision == 0:
		n, err := c.count(ctx, scope, target.Of)
		if err != nil {
			return "", err
		}
		if n += c.previews[target.Of]; n >= target.Limit() {
			return fmt.Sprintf("%s has %d previews, which is its limit. Delete a branch that has one: maru env", target.Of, n), nil
		}
		if c.previews == nil {
			c.previews = map[string]int{}
		}
		c.previews[target.Of]++
		e = maru.Environment{Scope: scope, Branch: branch, Of: target.Of, Created: now}
	case e.Branch != branch:
		return fmt.Sprintf("the environment %s is that of %s. Rename one of the branches", scope.Environment, e.Branch), nil
	}
	e.Used, e.Expires, e.Domain = now, target.Expires(now), target.Domain
	c.changes = append(c.changes, maru.Change{Key: previewKey(scope), Expect: revision, Data: maru.Raw(e)})
	return "", nil
}

// settle has an environment stay that was a branch's own, and has an entry of its name now.
func (c *recording) settle(ctx context.Context, scope maru.Scope) error {
	_, revision, err := load[maru.Environment](ctx, c.store, previewKey(scope))
	if err == nil && revision != 0 {
		c.changes = append(c.changes, maru.Change{Key: previewKey(scope), Expect: revision})
	}
	return err
}

// count is how many previews of an entry the app has.
func (r *Runs) count(ctx context.Context, scope maru.Scope, of string) (int, error) {
	previews, err := all[maru.Environment](ctx, r.store, kindPreview, scope.Project+"/")
	previews = slices.DeleteFunc(previews, func(e maru.Environment) bool { return e.Scope.App != scope.App || e.Of != of })
	return len(previews), err
}

// gone has the environments of a branch that was deleted taken away.
func (c *recording) gone(ctx context.Context, branch string) error {
	previews, err := all[maru.Environment](ctx, c.store, kindPreview, c.push.Repository.Project+"/")
	if err != nil {
		return err
	}
	for _, e := range previews {
		if e.Scope.App != c.push.Repository.App || e.Branch != branch {
			continue
		}
		changes, cancelled, err := c.leave(ctx, e.Scope, "its branch was deleted by "+c.push.By.Name)
		if err != nil {
			return err
		}
		c.changes, c.superseded = append(c.changes, changes...), append(c.superseded, cancelled...)
		c.told = append(c.told, fmt.Sprintf("%s goes with its branch: services, volumes, values and secrets", e.Scope.Environment))
	}
	return nil
}

// leave gives the changes by which an environment begins to go, and its runs that they cancel.
func (r *Runs) leave(ctx context.Context, scope maru.Scope, why string) (changes []maru.Change, cancelled []maru.Run, err error) {
	e, revision, err := load[maru.Environment](ctx, r.store, previewKey(scope))
	if err != nil {
		return nil, nil, err
	}
	if revision == 0 {
		return nil, nil, maru.WithHint(maru.Errorf(maru.NotFound, "%s is no preview of %s", scope.Environment, scope.App), "`maru env` lists them")
	}
	e.Leaving = why
	changes = []maru.Change{
		{Key: previewKey(scope), Expect: revision},
		{Key: leavingKey(scope), Expect: maru.Any, Data: maru.Raw(e)},
	}
	objects, _, err := r.store.List(ctx, kindRun, scope.String()+"/")
	if err != nil {
		return nil, nil, err
	}
	for _, o := range objects {
		run, revision, err := decode[maru.Run](o)
		if err != nil {
			return nil, nil, err
		}
		if run.Phase.Final() {
			continue
		}
		run.Phase, run.Ended, run.Reason = maru.RunCancelled, time.Now().UTC(), scope.Environment+" is taken away: "+why
		changes, cancelled = append(changes, maru.Change{Key: o.Key, Expect: revision, Data: maru.Raw(run)}), append(cancelled, run)
	}
	return changes, cancelled, nil
}

// Leave has an environment of one branch taken away; NotFound.
func (r *Runs) Leave(ctx context.Context, scope maru.Scope, why string) error {
	for {
		changes, cancelled, err := r.leave(ctx, scope, why)
		if err != nil {
			return err
		}
		_, err = r.store.Commit(ctx, changes...)
		if maru.KindOf(err) == maru.Conflict && ctx.Err() == nil {
			continue
		}
		for _, run := range cancelled {
			r.logs.changed(run.Scope, run.Number)
		}
		r.more()
		return err
	}
}

// Previews lists the environments of one branch each in a scope, whose empty parts match all, and those that are
// being taken away, sorted by name.
func (r *Runs) Previews(ctx context.Context, scope maru.Scope) ([]maru.Environment, error) {
	var found []maru.Environment
	for _, kind := range []string{kindPreview, kindLeaving} {
		some, err := all[maru.Environment](ctx, r.store, kind, "")
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	found = slices.DeleteFunc(found, func(e maru.Environment) bool { return !scope.Covers(e.Scope) })
	slices.SortStableFunc(found, func(a, b maru.Environment) int { return compareScopes(a.Scope, b.Scope) })
	return found, nil
}

func compareScopes(a, b maru.Scope) int {
	return slices.Compare([]string{a.Project, a.App, a.Environment}, []string{b.Project, b.App, b.Environment})
}

// expire has environments taken away whose time is up, and tells when that of the next one is; zero: never.
func (r *Runs) expire(ctx context.Context, now time.Time) (next time.Time, err error) {
	previews, err := all[maru.Environment](ctx, r.store, kindPreview, "")
	if err != nil {
		return next, err
	}
	for _, e := range previews {
		switch {
		case e.Expires.IsZero():
		case !e.Expires.After(now):
			why := fmt.Sprintf("there was no push for %s", e.Expires.Sub(e.Used).Round(time.Second))
			if err := r.Leave(ctx, e.Scope, why); err != nil && maru.KindOf(err) != maru.NotFound {
				return next, err
			}
		case next.IsZero() || e.Expires.Before(next):
			next = e.Expires
		}
	}
	return next, nil
}

// ready makes the environment of a run what it is to be before the first release: without volumes, or with those
// that it begins with. Nothing that was there before it is touched.
func (r *Runs) ready(ctx context.Context, run maru.Run, say func(string, ...any)) error {
	presence, err := r.deployer.Presence(ctx, run.Scope)
	if err != nil {
		return err
	}
	begun, err := r.begun(ctx, run.Scope, presence)
	if err != nil || begun && presence == Deployed {
		return err
	}
	if run.Preview.Clone != "" {
		say("%s begins with the volumes of %s", run.Scope.Environment, run.Preview.Clone)
	}
	return r.deployer.Begin(ctx, run.Scope, run.Preview.Clone)
}

// begun keeps that from now on all in the environment is the preview's, and tells whether it was so before.
func (r *Runs) begun(ctx context.Context, scope maru.Scope, presence Presence) (before bool, err error) {
	for {
		e, revision, err := load[maru.Environment](ctx, r.store, previewKey(scope))
		switch {
		case err != nil:
			return false, err
		case revision == 0:
			return false, maru.Errorf(maru.Conflict, "%s is taken away", scope.Environment)
		case e.Begun:
			return true, nil
		case presence != Absent:
			return false, maru.WithHint(maru.Errorf(maru.Conflict, "%s has %s already, and not by a push", scope.Environment, scope.App),
				fmt.Sprintf("if it may go: maru rm --volumes --app %s --env %s", scope.App, scope.Environment))
		}
		e.Begun = true
		_, err = r.store.Commit(ctx, maru.Change{Key: previewKey(scope), Expect: revision, Data: maru.Raw(e)})
		if maru.KindOf(err) != maru.Conflict || ctx.Err() != nil {
			return false, err
		}
	}
}

// longestWait is between two attempts to take an environment away.
const longestWait = 30 * time.Second

// takeAway removes an environment with all that is in it, and tries again until it has, or ctx ends.
func (r *Runs) takeAway(ctx context.Context, e maru.Environment) {
	for wait := time.Second; ; wait = min(2*wait, longestWait) {
		err := r.remove(ctx, e)
		if err == nil || ctx.Err() != nil {
			return
		}
		r.log.Warn("an environment can't be taken away; trying again", "environment", e.Scope.String(), "error", err, "again", wait)
		if !pause(ctx, wait) {
			return
		}
	}
}

func (r *Runs) remove(ctx context.Context, e maru.Environment) error {
	if e.Begun {
		if err := r.deployer.Remove(ctx, e.Scope); err != nil {
			return err
		}
	}
	for {
		objects, _, err := r.store.List(ctx, kindRun, e.Scope.String()+"/")
		if err != nil {
			return err
		}
		changes := []maru.Change{{Key: leavingKey(e.Scope), Expect: maru.Any}, left(e)}
		var numbers []int
		for _, o := range objects {
			run, revision, err := decode[maru.Run](o)
			if err != nil {
				return err
			}
			if run.Phase.Final() { // others are of a branch that came back
				numbers = append(numbers, run.Number)
				changes = append(changes, maru.Change{Key: o.Key, Expect: revision}, maru.Change{Key: testsKey(e.Scope, run.Number), Expect: maru.Any})
			}
		}
		for _, number := range numbers {
			if err := r.logs.remove(e.Scope, number); err != nil {
				return maru.Errorf(maru.Internal, "remove the log of a run: %w", err)
			}
		}
		_, err = r.store.Commit(ctx, changes...)
		if maru.KindOf(err) == maru.Conflict && ctx.Err() == nil {
			continue
		}
		return err
	}
}

// left is the event that an environment is gone.
func left(e maru.Environment) maru.Change {
	event := maru.Event{
		Time: time.Now().UTC(), Scope: e.Scope, Type: "environment-removed",
		Message: fmt.Sprintf("%s of %s is gone: %s", e.Scope.Environment, e.Branch, e.Leaving),
	}
	return maru.Change{
		Key:  maru.Key{Kind: "event", Name: fmt.Sprintf("%s/%s-environment", e.Scope, event.Time.Format("20060102T150405.000000000Z"))},
		Data: maru.Raw(event), Expect: maru.Any,
	}
}
