package follow

import (
	"context"
	"errors"
	"time"

	"github.com/marucloud/maru"
)

// The kinds of object that reporting reads and keeps.
const (
	kindRun  = "run"        // owned by delivery/run
	kindTold = "state-told" // SCOPE/NUMBER: state
)

// report tells forges the states of the commits of runs, until ctx ends. What was told is kept, so that a process
// that starts tells what it missed, and nothing twice.
func (f *Follower) report(ctx context.Context) {
	wait := f.cfg.Retry
	for ctx.Err() == nil {
		revision, err := f.reportAll(ctx)
		if err == nil {
			wait = f.cfg.Retry
			err = f.awaitRuns(ctx, revision)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		f.log.Warn("the states of commits can't all be told; trying again", "error", err, "again", wait)
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, time.Minute)
	}
}

// awaitRuns waits until there is news of runs, or of what is followed.
func (f *Follower) awaitRuns(ctx context.Context, from maru.Revision) error {
	for e, err := range f.store.Watch(ctx, from) {
		if maru.KindOf(err) == maru.Exhausted {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Key.Kind == kindRun || e.Key.Kind == kindFollow {
			return nil
		}
	}
	return nil
}

// reportAll tells what is not told yet, and gives the revision that it is complete for.
func (f *Follower) reportAll(ctx context.Context) (maru.Revision, error) {
	runs, revision, err := f.store.List(ctx, kindRun, "")
	if err != nil {
		return 0, err
	}
	told, _, err := f.store.List(ctx, kindTold, "")
	if err != nil {
		return 0, err
	}
	before := map[string]state{}
	for _, o := range told {
		if before[o.Name], err = decode[state](o); err != nil {
			return 0, err
		}
	}
	following, err := list[maru.Following](ctx, f.store, kindFollow)
	if err != nil {
		return 0, err
	}
	byID := map[maru.RepositoryID]maru.Following{}
	for _, to := range following {
		byID[to.ID] = to
	}
	var failed []error
	for _, o := range runs {
		run, err := decode[maru.Run](o)
		if err != nil {
			return 0, err
		}
		was, known := before[o.Name]
		delete(before, o.Name)
		to, is := byID[maru.RepositoryID{Project: run.Scope.Project, App: run.Scope.App}]
		now := stateOf(run)
		if !is || to.API == "" || run.Created.Before(to.Since) || known && was == now {
			continue
		}
		failed = append(failed, f.reportOne(ctx, to, o.Name, run.Commit, now))
	}
	var changes []maru.Change
	for name := range before { // of runs that are not kept any more
		changes = append(changes, maru.Change{Key: maru.Key{Kind: kindTold, Name: name}, Expect: maru.Any})
	}
	if len(changes) > 0 {
		_, err := f.store.Commit(ctx, changes...)
		failed = append(failed, err)
	}
	return revision, errors.Join(failed...)
}

func (f *Follower) reportOne(ctx context.Context, to maru.Following, name, commit string, now state) error {
	value, err := f.value(ctx, to.ID, to.Credentials)
	if err != nil {
		return err
	}
	_, token := credentials(to.Forge, value)
	err = f.tell(ctx, to, token, commit, now)
	if errors.Is(err, errRefused) {
		f.log.Warn("the forge does not take the state of a commit", "app", to.ID.String(), "commit", commit, "error", err)
	} else if err != nil {
		return err
	}
	_, err = f.store.Commit(ctx, maru.Change{Key: maru.Key{Kind: kindTold, Name: name}, Expect: maru.Any, Data: maru.Raw(now)})
	return err
}
