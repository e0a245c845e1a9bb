package run

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// Serving is what an app runs in an environment.
type Serving struct {
	Rollouts []int             // that lead to what runs, newest first
	Images   map[string]string // by service: NAME@sha256:…
}

// Promote makes a run that deploys to an environment what the app runs in another: the commit's file with the
// values and secrets of the one, and the very images of the other. Errors: NotFound, Invalid, Conflict (nothing
// runs there that came from the repository).
func (r *Runs) Promote(ctx context.Context, scope maru.Scope, from, by string) (maru.Run, error) {
	if from == scope.Environment {
		return maru.Run{}, maru.Errorf(maru.Invalid, "%s is promoted to itself", from)
	}
	source := scope
	source.Environment = from
	id := maru.RepositoryID{Project: scope.Project, App: scope.App}
	if _, revision, err := load[maru.Environment](ctx, r.store, previewKey(scope)); err != nil || revision != 0 {
		if err == nil {
			err = maru.WithHint(maru.Errorf(maru.Invalid, "%s is a preview, which has what its branch has", scope.Environment), "push the branch")
		}
		return maru.Run{}, err
	}
	serving, err := r.deployer.Serving(ctx, source)
	if err != nil {
		return maru.Run{}, err
	}
	origin, err := r.inForce(ctx, source, serving.Rollouts)
	if err != nil {
		return maru.Run{}, err
	}
	known, _, err := load[repository](ctx, r.store, repositoryKey(id))
	if err != nil {
		return maru.Run{}, err
	}
	target := plan.Entry(scope.Environment, known.Environments)
	run := maru.Run{
		Scope: scope, Branch: origin.Branch, Commit: origin.Commit, Message: origin.Message, By: by, Manual: target.Manual(), Domain: target.Domain,
		From: &maru.Promoted{Environment: from, Rollout: serving.Rollouts[0], Images: serving.Images},
	}
	return r.make(ctx, run)
}

// inForce is the run whose commit an environment has in force.
func (r *Runs) inForce(ctx context.Context, scope maru.Scope, rollouts []int) (maru.Run, error) {
	runs, err := r.list(ctx, scope.String()+"/")
	if err != nil {
		return maru.Run{}, err
	}
	found := -1
	for i, run := range runs { // oldest first
		switch {
		case run.Phase != maru.RunSucceeded:
		case run.Rollout != 0:
			if slices.Contains(rollouts, run.Rollout) {
				found = i
			} else if found >= 0 && !slices.Contains(rollouts, run.Rollout) {
				return runs[found], nil // what follows was gone back from
			}
		case found >= 0: // it had nothing to change
			found = i
		}
	}
	if found < 0 {
		return maru.Run{}, maru.WithHint(maru.Errorf(maru.Conflict, "what runs in %s did not come from the Git repository of %s: its file can't be read again with other values", scope.Environment, scope.App),
			"push the branch that goes there, and promote that")
	}
	return runs[found], nil
}

// make keeps a new run.
func (r *Runs) make(ctx context.Context, run maru.Run) (maru.Run, error) {
	for {
		c := recording{Runs: r}
		if err := c.add(ctx, run, map[maru.Scope]int{}); err != nil {
			return run, err
		}
		_, err := r.store.Commit(ctx, c.changes...)
		if maru.KindOf(err) == maru.Conflict && ctx.Err() == nil {
			continue
		}
		for _, gone := range c.superseded {
			r.logs.changed(gone.Scope, gone.Number)
		}
		r.more()
		return c.runs[0], err
	}
}

// Repository tells what is known of a repository; NotFound.
func (r *Runs) Repository(ctx context.Context, id maru.RepositoryID) (maru.Repository, error) {
	branches, standard, err := r.repositories.Branches(ctx, id)
	if err != nil {
		return maru.Repository{}, err
	}
	known, _, err := load[repository](ctx, r.store, repositoryKey(id))
	out := maru.Repository{ID: id, Default: standard, Protected: known.Protected}
	for _, name := range slices.Sorted(maps.Keys(branches)) {
		out.Branches = append(out.Branches, maru.Branch{
			Name: name, Commit: branches[name], Environment: plan.Deploys(name, standard, known.Environments).Environment,
			Protected: plan.Protected(name, standard, known.Environments, known.Protected),
		})
	}
	return out, err
}

// longestPattern bounds what a pattern of branches may be, bytes.
const longestPattern = 250

// Protect has branches that fit the pattern protected from being rewound or deleted, or no more. Errors: NotFound,
// Invalid.
func (r *Runs) Protect(ctx context.Context, id maru.RepositoryID, pattern string, protected bool) (maru.Repository, error) {
	if pattern == "" || len(pattern) > longestPattern {
		return maru.Repository{}, maru.WithHint(maru.Errorf(maru.Invalid, "%q is no pattern of branches", pattern), "write it as release/*, or name a branch")
	}
	for {
		now, err := r.Repository(ctx, id)
		if err != nil {
			return now, err
		}
		known, revision, err := load[repository](ctx, r.store, repositoryKey(id))
		if err != nil {
			return now, err
		}
		has := slices.Contains(known.Protected, pattern)
		if has == protected {
			if !protected {
				return now, maru.WithHint(maru.Errorf(maru.NotFound, "no pattern %s was set", pattern), fmt.Sprintf("it has %v", known.Protected))
			}
			return now, nil
		}
		if protected {
			known.Protected = append(slices.Clone(known.Protected), pattern)
			slices.Sort(known.Protected)
		} else {
			known.Protected = slices.DeleteFunc(slices.Clone(known.Protected), func(p string) bool { return p == pattern })
		}
		_, err = r.store.Commit(ctx, maru.Change{Key: repositoryKey(id), Expect: revision, Data: maru.Raw(known)})
		if maru.KindOf(err) == maru.Conflict && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return now, err
		}
		return r.Repository(ctx, id)
	}
}
