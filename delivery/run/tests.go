package run

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// Bounds of what is kept of a run's jobs.
const (
	keptFor    = 12 * time.Hour // after a run's end; its artifacts are kept for longer
	maxOutputs = 64 << 10       // of a job with its images, bytes; one that gave more is run again
)

// test runs the workflows of a run's commit; those of a promotion were run where it comes from. Afterwards the run is building, or waits for approval.
func (r *Runs) test(ctx context.Context, run *maru.Run, folder string, app Loaded, log *logWriter, say func(string, ...any)) error {
	var images map[string]string
	if run.From != nil {
		say("the images are those of rollout %d in %s", run.From.Rollout, run.From.Environment)
	} else {
		var err error
		if images, err = r.verify(ctx, *run, folder, app, log); err != nil {
			return err
		}
	}
	next := maru.RunBuilding
	if run.Manual && run.Approved.IsZero() {
		next = maru.RunWaiting
		say("run %d of %s waits for approval: maru approve %d --env %s", run.Number, run.Scope.App, run.Number, run.Scope.Environment)
	}
	return r.enter(ctx, run, next, func(now *maru.Run) { now.Tested, now.Images = time.Now().UTC(), images })
}

func (r *Runs) verify(ctx context.Context, run maru.Run, folder string, app Loaded, log *logWriter) (images map[string]string, err error) {
	id := maru.RepositoryID{Project: run.Scope.Project, App: run.Scope.App}
	standard, err := r.repositories.Default(id)
	if err != nil {
		return nil, err
	}
	known, _, err := load[repository](ctx, r.store, repositoryKey(id))
	if err != nil {
		return nil, err
	}
	tests, _, err := load[Tests](ctx, r.store, testsKey(run.Scope, run.Number))
	if err != nil {
		return nil, err
	}
	tests = tests.of(run.Number)
	keeping := &keeper{Runs: r, run: run, tests: tests}
	building, stop := context.WithCancel(ctx)
	defer stop()
	var builds sync.WaitGroup
	defer builds.Wait()
	images, err = r.deployer.Verify(ctx, Check{
		Run: run, Folder: folder, CI: app.CI, DefaultBranch: standard, Protected: plan.Protected(run.Branch, standard, known.Environments, known.Protected), Tests: tests,
		Ended:        func(workflow, job string, result JobResult) { keeping.keep(ctx, workflow, job, result) },
		Supersedable: func() { r.supersedable(ctx, run) },
		Build: func() {
			builds.Go(func() { _ = r.deployer.Build(building, run, folder, app, log.add) }) // what fails is done again, and said, when it is released
		},
	}, log.add)
	if err != nil {
		stop()
	}
	return images, err
}

// of gives the tests of a run of which nothing may be known yet.
func (t Tests) of(number int) Tests {
	if t.Origin == 0 {
		t.Origin, t.Attempt = number, 1
	}
	return t
}

// keeper stores what jobs gave as they succeed.
type keeper struct {
	*Runs
	run maru.Run

	mu    sync.Mutex
	tests Tests
}

// keep stores a result. What can't be stored is run again after a restart.
func (k *keeper) keep(ctx context.Context, workflow, job string, result JobResult) {
	size := 0
	for _, given := range []map[string]string{result.Outputs, result.Images} {
		for name, value := range given {
			size += len(name) + len(value)
		}
	}
	if size > maxOutputs {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	kept := maps.Clone(k.tests.Kept)
	if kept == nil {
		kept = map[string]map[string]JobResult{}
	}
	jobs := maps.Clone(kept[workflow])
	if jobs == nil {
		jobs = map[string]JobResult{}
	}
	jobs[job] = result
	kept[workflow] = jobs
	k.tests.Kept = kept
	_, err := k.store.Commit(ctx, maru.Change{Key: testsKey(k.run.Scope, k.run.Number), Expect: maru.Any, Data: maru.Raw(k.tests)})
	if err != nil && ctx.Err() == nil {
		k.log.Warn("what a job gave can't be stored: it is run again if the server is restarted", "run", k.run.Number, "app", k.run.Scope.String(), "error", err)
	}
}

// takeOver has the run that was just added take over from an older one of the same commit what succeeded.
func (c *recording) takeOver(ctx context.Context, old maru.Run, all bool) error {
	before, _, err := load[Tests](ctx, c.store, testsKey(old.Scope, old.Number))
	if err != nil {
		return err
	}
	before = before.of(old.Number)
	next := Tests{Origin: before.Origin, Attempt: before.Attempt + 1, Kept: before.Kept}
	if all || time.Since(old.Ended) > keptFor {
		next.Origin, next.Kept = c.runs[0].Number, nil
	}
	c.changes = append(c.changes, maru.Change{Key: testsKey(c.runs[0].Scope, c.runs[0].Number), Expect: maru.Any, Data: maru.Raw(next)})
	return nil
}

// supersedable notes that a newer run of the branch may end the one that is tested. There may be one already.
func (r *Runs) supersedable(ctx context.Context, run maru.Run) {
	r.mu.Lock()
	if w := r.working[run.Scope]; w != nil && w.number == run.Number {
		w.supersedable = true
	}
	r.mu.Unlock()
	r.supersede(ctx, run.Scope)
}

// supersede ends the run of a scope that is tested, if it lets itself and a newer one of its branch is queued.
func (r *Runs) supersede(ctx context.Context, scope maru.Scope) {
	r.mu.Lock()
	w := r.working[scope]
	if w == nil || !w.supersedable {
		r.mu.Unlock()
		return
	}
	number, branch, cancel := w.number, w.branch, w.cancel
	r.mu.Unlock()
	newest, err := r.latest(ctx, scope, 0)
	if err != nil || newest.Number <= number || newest.Branch != branch || newest.Phase != maru.RunQueued {
		return
	}
	_, err = r.change(ctx, scope, number, func(now *maru.Run) error {
		if now.Phase != maru.RunTesting {
			return maru.Errorf(maru.Conflict, "run %d is %s", now.Number, now.Phase)
		}
		now.Phase, now.Ended = maru.RunSuperseded, time.Now().UTC()
		now.Reason = fmt.Sprintf("run %d is newer, and the workflows say that it cancels this one", newest.Number)
		return nil
	})
	if err == nil {
		cancel(errCancelled)
	}
}
