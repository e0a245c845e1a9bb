package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// errCancelled is the cause of the end of a run's context when people ended it.
var errCancelled = errors.New("it was cancelled")

// errWaiting is why a run stops that waits for approval.
var errWaiting = errors.New("it waits for approval")

// carryOut does what is left of a run. When ctx ends for another reason than a cancellation the run stays as
// it is, for the next process.
func (r *Runs) carryOut(ctx context.Context, run maru.Run) {
	log := r.logs.open(run.Scope, run.Number)
	defer func() {
		if err := log.close(); err != nil {
			r.log.Warn("the log of a run is not complete", "run", run.Number, "app", run.Scope.String(), "error", err)
		}
	}()
	say := func(format string, args ...any) { log.add(maru.RunLogLine{Text: fmt.Sprintf(format, args...)}) }
	err := r.steps(ctx, &run, log, say)
	if errors.Is(err, errWaiting) || ctx.Err() != nil && !errors.Is(context.Cause(ctx), errCancelled) {
		return
	}
	if ctx.Err() != nil {
		err = errCancelled
	}
	r.end(context.WithoutCancel(ctx), run, err, say)
}

func (r *Runs) steps(ctx context.Context, run *maru.Run, log *logWriter, say func(string, ...any)) error {
	if run.Phase != maru.RunDeploying {
		rollout, err := r.build(ctx, run, log, say)
		if err != nil {
			return err
		}
		if rollout == 0 {
			say("nothing changed: %s runs this already", run.Scope.App)
			return nil
		}
		if err := r.enter(ctx, run, maru.RunDeploying, func(now *maru.Run) { now.Rollout = rollout }); err != nil {
			return err
		}
		say("rollout %d", rollout)
	} else {
		say("the server was restarted: rollout %d goes on", run.Rollout)
	}
	return r.deployer.Follow(ctx, *run, run.Rollout, log.add)
}

// enter moves the run to a phase that is not final, unless somebody ended it meanwhile.
func (r *Runs) enter(ctx context.Context, run *maru.Run, phase maru.RunPhase, also func(*maru.Run)) error {
	changed, err := r.change(ctx, run.Scope, run.Number, func(now *maru.Run) error {
		if now.Phase.Final() {
			return maru.Errorf(maru.Conflict, "run %d is %s", now.Number, now.Phase)
		}
		now.Phase = phase
		also(now)
		return nil
	})
	if err == nil {
		*run = changed
	}
	return err
}

// build makes a rollout of the run's commit, once its workflows say that it is good.
func (r *Runs) build(ctx context.Context, run *maru.Run, log *logWriter, say func(string, ...any)) (rollout int, err error) {
	again, phase := run.Phase == maru.RunTesting || run.Phase == maru.RunBuilding, maru.RunTesting
	if !run.Tested.IsZero() {
		phase = maru.RunBuilding
	}
	if err := r.enter(ctx, run, phase, func(now *maru.Run) {
		if now.Started.IsZero() || again {
			now.Started = time.Now().UTC()
		}
	}); err != nil {
		return 0, err
	}
	if again {
		say("the server was restarted: the run begins again, without what succeeded already")
	}
	say("run %d of %s: %.12s of %s goes to %s, by %s", run.Number, run.Scope.App, run.Commit, run.Branch, run.Scope.Environment, run.By)
	if err := r.holdBack(ctx, run, say); err != nil {
		return 0, err
	}
	id := maru.RepositoryID{Project: run.Scope.Project, App: run.Scope.App}
	checkout, err := r.repositories.Checkout(ctx, id, run.Commit)
	if err != nil {
		return 0, err
	}
	defer checkout.Close()
	for _, note := range checkout.Notes {
		say("note: %s", note)
	}
	loaded, err := r.deployer.Load(ctx, checkout.Dir, *run)
	if err != nil {
		return 0, err
	}
	for _, warning := range loaded.Warnings {
		say("warning: %s", warning)
	}
	if run.Tested.IsZero() {
		if err := r.test(ctx, run, checkout.Dir, loaded, log, say); err != nil {
			return 0, err
		}
	}
	if run.Phase == maru.RunWaiting {
		return 0, errWaiting
	}
	if run.Preview != nil {
		if err := r.ready(ctx, *run, say); err != nil {
			return 0, err
		}
	}
	origin, err := r.origin(ctx, *run)
	if err != nil {
		return 0, err
	}
	if err := r.holdBack(ctx, run, nil); err != nil { // somebody may have rolled back meanwhile
		return 0, err
	}
	if loaded.App, err = handOver(loaded.App, run.Images, say); err != nil {
		return 0, err
	}
	return r.deployer.Release(ctx, *run, origin, checkout.Dir, loaded, log.add)
}

// handOver gives the app with images in the place of what its file says. Whoever else has the name of an image that
// the file builds has what is handed over for it.
func handOver(app maru.App, images map[string]string, say func(string, ...any)) (maru.App, error) {
	services := maps.Clone(app.Services)
	for _, name := range slices.Sorted(maps.Keys(images)) {
		service, ok := app.Services[name]
		if !ok {
			return app, maru.WithHint(maru.Errorf(maru.Invalid, "a job handed over an image for %s, and the compose file has no such service", name),
				"write the service's own name to $MARU_IMAGES")
		}
		say("%s: the image is %s, which a job handed over", name, images[name])
		for other, o := range app.Services {
			if other == name || service.Build != nil && service.Image != "" && o.Build == nil && o.Image == service.Image && images[other] == "" {
				o.Build, o.Image, o.Pull = nil, images[name], ""
				services[other] = o
			}
		}
	}
	app.Services = services
	return app, nil
}

// mostCommits is how many commits of one deployment are kept, for their lead times.
const mostCommits = 100

// origin tells where a run's deployment comes from, and what it brings that was not deployed there before. A
// deployment does not fail for commits that can't be told.
func (r *Runs) origin(ctx context.Context, run maru.Run) (maru.Origin, error) {
	id := maru.RepositoryID{Project: run.Scope.Project, App: run.Scope.App}
	o := maru.Origin{Branch: run.Branch, Commit: run.Commit}
	var err error
	if o.Tree, err = r.repositories.Tree(ctx, id, run.Commit); err != nil {
		return o, err
	}
	before, err := r.list(ctx, run.Scope.String()+"/")
	if err != nil {
		return o, err
	}
	for _, old := range before {
		if old.Phase == maru.RunSucceeded {
			o.Before = old.Commit
		}
	}
	o.Commits, o.More, err = r.repositories.Brings(ctx, id, o.Before, run.Commit, mostCommits)
	if err != nil && ctx.Err() == nil {
		r.log.Warn("what a deployment brings can't be told: it has no lead time", "run", run.Number, "app", run.Scope.String(), "error", err)
		err = nil
	}
	return o, err
}

// end writes down how the run ended. The log is complete before that shows.
func (r *Runs) end(ctx context.Context, run maru.Run, err error, say func(string, ...any)) {
	phase := maru.RunSucceeded
	switch {
	case errors.Is(err, errCancelled):
		return // who cancelled it wrote that down
	case maru.KindOf(err) == maru.RolledBack:
		phase = maru.RunRolledBack
	case err != nil:
		phase = maru.RunFailed
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			say("error: %s", strings.TrimRight(line, "\n"))
		}
	}
	for {
		_, failed := r.change(ctx, run.Scope, run.Number, func(now *maru.Run) error {
			if now.Phase.Final() {
				return maru.Errorf(maru.Conflict, "run %d is %s", now.Number, now.Phase)
			}
			now.Phase, now.Ended = phase, time.Now().UTC()
			if err != nil {
				now.Reason, now.Hint = err.Error(), maru.HintOf(err)
			}
			return nil
		})
		if failed == nil || maru.KindOf(failed) == maru.Conflict || maru.KindOf(failed) == maru.NotFound {
			return
		}
		r.log.Error("how a run ended can't be stored; trying again", "run", run.Number, "app", run.Scope.String(), "error", failed)
		if r.closing.Err() != nil || !pause(r.closing, time.Second) {
			return
		}
	}
}
