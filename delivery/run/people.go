package run

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/marucloud/maru"
)

// Runs lists those of a scope, whose empty parts match all, newest first.
func (r *Runs) Runs(ctx context.Context, scope maru.Scope) ([]maru.Run, error) {
	all, err := r.list(ctx, "")
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(run maru.Run) bool { return !scope.Covers(run.Scope) })
	slices.SortFunc(all, func(a, b maru.Run) int { return b.Created.Compare(a.Created) })
	return all, nil
}

// latest gives a run by its number; 0: the newest.
func (r *Runs) latest(ctx context.Context, scope maru.Scope, number int) (maru.Run, error) {
	if number != 0 {
		run, _, err := r.get(ctx, scope, number)
		return run, err
	}
	all, err := r.list(ctx, scope.String()+"/")
	if err == nil && len(all) == 0 {
		err = maru.WithHint(maru.Errorf(maru.NotFound, "%s has no runs", scope), "a push to its Git repository makes one")
	}
	if err != nil {
		return maru.Run{}, err
	}
	return all[len(all)-1], nil
}

// Log gives what a run's log has (number 0: the newest run), and with follow what is added until the run ends
// or waits for approval. The run is given as it is before its log is read.
func (r *Runs) Log(ctx context.Context, scope maru.Scope, number int, follow bool) (maru.Run, iter.Seq2[maru.RunLogLine, error], error) {
	run, err := r.latest(ctx, scope, number)
	if err != nil {
		return run, nil, err
	}
	return run, func(yield func(maru.RunLogLine, error) bool) {
		var reader logReader
		defer reader.close()
		for {
			news := r.logs.next(run.Scope, run.Number)
			now, _, err := r.get(ctx, run.Scope, run.Number)
			more := false
			if err == nil {
				more, err = reader.read(r.logs.name(run.Scope, run.Number), func(l maru.RunLogLine) bool { return yield(l, nil) })
			}
			switch {
			case err != nil:
				yield(maru.RunLogLine{}, err)
				return
			case !more || !follow || now.Phase.Final() || now.Phase == maru.RunWaiting:
				return
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			case <-r.closing.Done():
				yield(maru.RunLogLine{}, maru.WithHint(maru.Errorf(maru.Unavailable, "the server is restarting; run %d goes on", run.Number),
					fmt.Sprintf("see how: maru runs logs --follow %d", run.Number)))
				return
			}
		}
	}, nil
}

// show tells somebody who pushed how a run goes.
func (r *Runs) show(ctx context.Context, run maru.Run, tell func(string)) error {
	_, lines, err := r.Log(ctx, run.Scope, run.Number, true)
	if err != nil {
		return err
	}
	if run.Phase == maru.RunQueued {
		tell(fmt.Sprintf("run %d of %s is queued. It goes on if you leave: maru runs logs --follow %d", run.Number, run.Scope.App, run.Number))
	}
	for line, err := range lines {
		if err != nil {
			return err
		}
		tell(line.String())
	}
	if ctx.Err() != nil {
		return nil
	}
	run, _, err = r.get(ctx, run.Scope, run.Number)
	if err != nil {
		return err
	}
	return outcome(run)
}

// outcome is nil for a run that succeeded or is not over, else an error that says how it ended. What its log
// says is not said again.
func outcome(run maru.Run) error {
	kind := maru.Conflict
	switch run.Phase {
	case maru.RunRolledBack:
		kind = maru.RolledBack
	case maru.RunFailed, maru.RunCancelled, maru.RunSuperseded:
	default:
		return nil
	}
	text := fmt.Sprintf("run %d of %s %s", run.Number, run.Scope.App, ending[run.Phase])
	if run.Phase == maru.RunCancelled || run.Phase == maru.RunSuperseded {
		text += ": " + run.Reason
	}
	return maru.WithHint(maru.Errorf(kind, "%s", text), run.Hint)
}

var ending = map[maru.RunPhase]string{
	maru.RunRolledBack: "was taken back", maru.RunFailed: "failed",
	maru.RunCancelled: "was cancelled", maru.RunSuperseded: "was given up",
}

// Retry makes a new run of the commit of one that is over. Of its workflows those jobs run again that did not
// succeed, or need one that did not; with all set all do.
func (r *Runs) Retry(ctx context.Context, scope maru.Scope, number int, all bool, by string) (maru.Run, error) {
	for {
		old, err := r.latest(ctx, scope, number)
		if err != nil {
			return old, err
		}
		if !old.Phase.Final() {
			return old, maru.WithHint(maru.Errorf(maru.Conflict, "run %d is not over: it is %s", old.Number, old.Phase), "cancel it first, or let it end")
		}
		c := recording{Runs: r}
		run := maru.Run{Scope: scope, Branch: old.Branch, Commit: old.Commit, Message: old.Message, By: by, Of: old.Number, Manual: old.Manual, Domain: old.Domain, Preview: old.Preview, From: old.From, Again: true}
		if err := c.again(ctx, run); err != nil {
			return old, err
		}
		if err := c.add(ctx, run, map[maru.Scope]int{}); err != nil {
			return old, err
		}
		if err := c.takeOver(ctx, old, all); err != nil {
			return old, err
		}
		_, err = r.store.Commit(ctx, c.changes...)
		if maru.KindOf(err) == maru.Conflict && ctx.Err() == nil {
			continue
		}
		if err == nil {
			c.committed(ctx)
		}
		return c.runs[0], err
	}
}

// again keeps the environment of a run that is tried again for longer.
func (c *recording) again(ctx context.Context, run maru.Run) error {
	if run.Preview == nil {
		return nil
	}
	e, revision, err := load[maru.Environment](ctx, c.store, previewKey(run.Scope))
	if err != nil {
		return err
	}
	if revision == 0 {
		return maru.WithHint(maru.Errorf(maru.Conflict, "%s is being taken away", run.Scope.Environment), "push its branch again, with another commit")
	}
	now := time.Now().UTC()
	if !e.Expires.IsZero() {
		e.Expires = now.Add(e.Expires.Sub(e.Used))
	}
	e.Used = now
	c.changes = append(c.changes, maru.Change{Key: previewKey(run.Scope), Expect: revision, Data: maru.Raw(e)})
	return nil
}

// Approve lets a run go on that waits for it; number 0: the newest.
func (r *Runs) Approve(ctx context.Context, scope maru.Scope, number int, by string) (maru.Run, error) {
	run, err := r.latest(ctx, scope, number)
	if err != nil {
		return run, err
	}
	run, err = r.change(ctx, scope, run.Number, func(now *maru.Run) error {
		if now.Phase != maru.RunWaiting {
			return maru.WithHint(maru.Errorf(maru.Conflict, "run %d does not wait for approval: it is %s", now.Number, now.Phase), "`maru runs` lists what does")
		}
		now.Phase, now.Approved, now.ApprovedBy = maru.RunQueued, time.Now().UTC(), by
		now.Reason, now.Hint = "", ""
		return nil
	})
	if err == nil {
		log := r.logs.open(scope, run.Number)
		log.add(maru.RunLogLine{Text: "approved by " + by})
		_ = log.close()
	}
	r.more()
	return run, err
}

// Cancel ends a run. One whose rollout has begun can't be cancelled: that may be rolled back.
func (r *Runs) Cancel(ctx context.Context, scope maru.Scope, number int, by string) (maru.Run, error) {
	run, err := r.latest(ctx, scope, number)
	if err != nil {
		return run, err
	}
	run, err = r.change(ctx, scope, run.Number, func(now *maru.Run) error {
		switch {
		case now.Phase.Final():
			return maru.Errorf(maru.Conflict, "run %d is over: it is %s", now.Number, now.Phase)
		case now.Phase == maru.RunDeploying:
			return maru.WithHint(maru.Errorf(maru.Conflict, "the rollout of run %d has begun", now.Number), "`maru rollback` brings back what ran before")
		}
		now.Phase, now.Ended, now.Reason = maru.RunCancelled, time.Now().UTC(), "by "+by
		return nil
	})
	if err != nil {
		return run, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.working[scope]; w != nil && w.number == run.Number {
		w.cancel(errCancelled)
	}
	return run, nil
}
