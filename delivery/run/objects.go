package run

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/marucloud/maru"
)

// The kinds of object that this package owns.
const (
	kindRun        = "run"        // SCOPE/NUMBER: maru.Run
	kindRepository = "repository" // PROJECT/APP: repository
	kindPush       = "push"       // PROJECT/APP/ID: maru.Push that was admitted and not concluded
	kindPreview    = "preview"    // SCOPE: maru.Environment of one branch
	kindLeaving    = "leaving"    // SCOPE: maru.Environment that is being taken away
	kindTests      = "run-tests"  // SCOPE/NUMBER: Tests of a run
)

// kindDelivery is owned by the control loops: SCOPE/NUMBER: maru.Delivery.
const kindDelivery = "delivery"

// repository is what is known of a repository.
type repository struct {
	// Seen is the commit of each branch for which there is what follows from it.
	Seen map[string]string `json:"seen,omitempty"`
	// Environments are those of the compose file in the commit Of, the newest of the default branch that could be read.
	Environments map[string]maru.EnvironmentPolicy `json:"environments,omitempty"`
	Of           string                            `json:"of,omitempty"`
	// Protected are patterns of branches that can't be rewound or deleted, as set on the server.
	Protected []string `json:"protected,omitempty"`
}

// told is the event that a run is over, or waits.
func told(run maru.Run, at time.Time) maru.Change {
	e := maru.Event{
		Time: at, Scope: run.Scope, Rollout: run.Rollout, Type: "run-" + string(run.Phase), By: run.By,
		Message: fmt.Sprintf("run %d (%.12s of %s): %s", run.Number, run.Commit, run.Branch, run.Phase),
	}
	if run.Reason != "" {
		e.Message += ": " + run.Reason
	}
	return maru.Change{
		Key:  maru.Key{Kind: "event", Name: fmt.Sprintf("%s/%s-run%09d", run.Scope, e.Time.Format("20060102T150405.000000000Z"), run.Number)},
		Data: maru.Raw(e), Expect: maru.Any,
	}
}

func runKey(scope maru.Scope, number int) maru.Key {
	return maru.Key{Kind: kindRun, Name: fmt.Sprintf("%s/%09d", scope, number)}
}

func previewKey(scope maru.Scope) maru.Key { return maru.Key{Kind: kindPreview, Name: scope.String()} }

func leavingKey(scope maru.Scope) maru.Key { return maru.Key{Kind: kindLeaving, Name: scope.String()} }

func testsKey(scope maru.Scope, number int) maru.Key {
	return maru.Key{Kind: kindTests, Name: runKey(scope, number).Name}
}

func repositoryKey(id maru.RepositoryID) maru.Key {
	return maru.Key{Kind: kindRepository, Name: id.String()}
}

func pushKey(id maru.RepositoryID, push string) maru.Key {
	return maru.Key{Kind: kindPush, Name: id.String() + "/" + push}
}

// load gives the object and its revision; the zero value and 0 when there is none.
func load[T any](ctx context.Context, store maru.Store, key maru.Key) (T, maru.Revision, error) {
	var v T
	o, err := store.Get(ctx, key)
	if maru.KindOf(err) == maru.NotFound {
		return v, 0, nil
	}
	if err != nil {
		return v, 0, err
	}
	return decode[T](o)
}

func decode[T any](o maru.Object) (T, maru.Revision, error) {
	var v T
	if err := json.Unmarshal(o.Data, &v); err != nil {
		return v, 0, maru.Errorf(maru.Internal, "stored %s %q: %w", o.Kind, o.Name, err)
	}
	return v, o.Revision, nil
}

// list gives the runs whose names begin with the prefix, by scope, oldest first.
func (r *Runs) list(ctx context.Context, prefix string) ([]maru.Run, error) {
	return all[maru.Run](ctx, r.store, kindRun, prefix)
}

// all gives the objects of a kind whose names begin with the prefix, by name.
func all[T any](ctx context.Context, store maru.Store, kind, prefix string) ([]T, error) {
	objects, _, err := store.List(ctx, kind, prefix)
	if err != nil {
		return nil, err
	}
	values := make([]T, 0, len(objects))
	for _, o := range objects {
		v, _, err := decode[T](o)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

// get gives a run; NotFound.
func (r *Runs) get(ctx context.Context, scope maru.Scope, number int) (maru.Run, maru.Revision, error) {
	run, revision, err := load[maru.Run](ctx, r.store, runKey(scope, number))
	if err == nil && revision == 0 {
		err = maru.WithHint(maru.Errorf(maru.NotFound, "%s has no run %d", scope, number), "`maru runs` lists those that are kept")
	}
	return run, revision, err
}

// change changes a run, again when another did at the same time. An error of change leaves it as it is.
func (r *Runs) change(ctx context.Context, scope maru.Scope, number int, change func(*maru.Run) error) (maru.Run, error) {
	for {
		run, revision, err := r.get(ctx, scope, number)
		if err != nil {
			return run, err
		}
		if err := change(&run); err != nil {
			return run, err
		}
		changes := []maru.Change{{Key: runKey(scope, number), Expect: revision, Data: maru.Raw(run)}}
		switch {
		case run.Phase.Final():
			changes = append(changes, told(run, run.Ended))
		case run.Phase == maru.RunWaiting:
			changes = append(changes, told(run, time.Now().UTC()))
		}
		_, err = r.store.Commit(ctx, changes...)
		if err == nil {
			r.logs.changed(scope, number)
			return run, nil
		}
		if maru.KindOf(err) != maru.Conflict || ctx.Err() != nil {
			return run, err
		}
	}
}
