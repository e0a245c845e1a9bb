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
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/plan"
)

const headRefs = "refs/heads/"

// Options of a push: git push -o NAME, or -o NAME=VALUE.
const (
	optionSkip        = "skip"        // nothing follows from the push
	optionAgain       = "again"       // also what was taken back there
	optionEnvironment = "environment" // where the branch is deployed, in the place of what the file says
)

// wish is what the options of a push ask for.
type wish struct {
	skip, again bool
	environment string
}

func wishOf(options []string) (wish, error) {
	var w wish
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case optionSkip, "ci.skip":
			w.skip = true
		case optionAgain:
			w.again = true
		case optionEnvironment, "env":
			if err := maru.CheckName("environment", value); err != nil {
				return w, err
			}
			w.environment = value
		default:
			return w, maru.WithHint(maru.Errorf(maru.Invalid, "the push option %q is unknown", option),
				"use -o skip, -o again, or -o environment=NAME")
		}
	}
	return w, nil
}

// Admit decides about a push before git sees it, and keeps what it is to do.
func (r *Runs) Admit(ctx context.Context, push maru.Push) (admitted source.Admission, err error) {
	w, err := wishOf(push.Options)
	if err != nil {
		return admitted, err
	}
	known, revision, err := load[repository](ctx, r.store, repositoryKey(push.Repository))
	if err != nil {
		return admitted, err
	}
	branches, standard, err := r.repositories.Branches(ctx, push.Repository)
	if err != nil {
		return admitted, err
	}
	standard = defaultBranch(standard, branches, push.Updates)
	if w.environment != "" && len(push.Updates) > 1 {
		return admitted, maru.Errorf(maru.Invalid, "-o environment is for a push of one branch")
	}
	for _, u := range push.Updates {
		branch, ok := strings.CutPrefix(u.Ref, headRefs)
		if !ok {
			continue
		}
		if plan.Protected(branch, standard, known.Environments, known.Protected) {
			admitted.Protected = append(admitted.Protected, u.Ref)
		}
		target, _, err := r.target(ctx, push.Repository, w, branch, standard, known)
		if err != nil {
			return admitted, err
		}
		if !mayDeploy(push, target) {
			return admitted, maru.WithHint(maru.Errorf(maru.Denied, "the token %s may not deploy to %s, where %s goes", push.By.Name, target.Environment, branch),
				"use a token for "+target.Of+", or push another branch")
		}
		if branch == standard && !push.By.Scope.Covers(push.Repository.In(maru.DefaultEnvironment)) {
			return admitted, maru.WithHint(maru.Errorf(maru.Denied, "the token %s may not move %s, which says what goes where", push.By.Name, branch),
				"use a token for "+maru.DefaultEnvironment+", or push another branch")
		}
		if target.Environment != "" && u.New != "" && !w.skip && !w.again {
			unwanted, err := r.unwanted(ctx, push.Repository.In(target.Environment), u.Ref)
			if err != nil {
				return admitted, err
			}
			admitted.Unwanted = append(admitted.Unwanted, unwanted...)
		}
	}
	changes := []maru.Change{{Key: pushKey(push.Repository, push.ID), Data: maru.Raw(push), Expect: maru.Any}}
	if len(branches) == 0 && len(known.Seen) > 0 {
		// The repository is another one, as after a restore: nothing of it was seen.
		changes = append(changes, maru.Change{Key: repositoryKey(push.Repository), Data: maru.Raw(repository{Environments: known.Environments, Of: known.Of, Protected: known.Protected}), Expect: revision})
	}
	_, err = r.store.Commit(ctx, changes...)
	return admitted, err
}

// target tells where a branch is deployed: where the options of its push say, or the file on the default branch.
// What an environment of one branch is called may be wished for as well; it is given too.
func (r *Runs) target(ctx context.Context, id maru.RepositoryID, w wish, branch, standard string, known repository) (plan.Target, maru.Environment, error) {
	if w.environment == "" {
		return plan.Deploys(branch, standard, known.Environments), maru.Environment{}, nil
	}
	e, revision, err := load[maru.Environment](ctx, r.store, previewKey(id.In(w.environment)))
	if err != nil || revision == 0 {
		return plan.Entry(w.environment, known.Environments), maru.Environment{}, err
	}
	return plan.Target{Environment: w.environment, Of: e.Of, Preview: true, Policy: known.Environments[e.Of], Domain: e.Domain}, e, nil
}

// mayDeploy tells whether a push may be deployed to its target. A token for an entry is one for its previews.
func mayDeploy(push maru.Push, t plan.Target) bool {
	return t.Environment == "" || push.By.Scope.Covers(push.Repository.In(t.Environment)) || t.Preview && push.By.Scope.Covers(push.Repository.In(t.Of))
}

// defaultBranch gives the default branch, which in a repository without any is yet to be chosen.
func defaultBranch(standard string, branches map[string]string, updates []maru.RefUpdate) string {
	if len(branches) > 0 && branches[standard] != "" {
		return standard
	}
	var candidates []string
	for _, u := range updates {
		if branch, ok := strings.CutPrefix(u.Ref, headRefs); ok && u.New != "" {
			candidates = append(candidates, branch)
		}
	}
	for _, name := range []string{standard, "main", "master"} {
		if slices.Contains(candidates, name) {
			return name
		}
	}
	if len(candidates) > 0 {
		return candidates[0]
	}
	return standard
}

// Received keeps the runs that follow from the updates, in the same commit as that they were seen.
func (r *Runs) Received(ctx context.Context, push maru.Push) (follow func(ctx context.Context, tell func(line string)) error, err error) {
	if len(push.Updates) == 0 {
		_, err := r.store.Commit(ctx, maru.Change{Key: pushKey(push.Repository, push.ID), Expect: maru.Any})
		return func(context.Context, func(string)) error { return nil }, err
	}
	runs, told, err := r.record(ctx, push)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tell func(string)) error {
		for _, line := range told {
			tell(line)
		}
		var failed []error
		for _, run := range runs {
			failed = append(failed, r.show(ctx, run, tell))
		}
		return joined(failed)
	}, nil
}

// joined gives the errors as one: the only one there is as it is, with its hint.
func joined(all []error) error {
	all = slices.DeleteFunc(all, func(err error) bool { return err == nil })
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

// record makes runs of a push and commits them. Told is what it says besides.
func (r *Runs) record(ctx context.Context, push maru.Push) (runs []maru.Run, told []string, err error) {
	w, err := wishOf(push.Options)
	if err != nil {
		w = wish{} // it was admitted by another version
	}
	for {
		branches, standard, err := r.repositories.Branches(ctx, push.Repository)
		if err != nil {
			return nil, nil, err
		}
		if chosen := defaultBranch(standard, nil, push.Updates); branches[standard] == "" && branches[chosen] != "" {
			if err := r.repositories.SetDefault(ctx, push.Repository, chosen); err != nil {
				return nil, nil, err
			}
			standard = chosen
		}
		known, revision, err := load[repository](ctx, r.store, repositoryKey(push.Repository))
		if err != nil {
			return nil, nil, err
		}
		if tip := branches[standard]; tip != known.Of {
			r.readPolicy(ctx, push.Repository, tip, &known)
		}
		known.Seen = maps.Clone(known.Seen)
		if known.Seen == nil {
			known.Seen = map[string]string{}
		}
		change := recording{Runs: r, push: push, wish: w, standard: standard, known: known, branches: branches}
		if err := change.decide(ctx); err != nil {
			return nil, nil, err
		}
		change.changes = append(change.changes,
			maru.Change{Key: repositoryKey(push.Repository), Expect: revision, Data: maru.Raw(change.known)},
			maru.Change{Key: pushKey(push.Repository, push.ID), Expect: maru.Any})
		_, err = r.store.Commit(ctx, change.changes...)
		if maru.KindOf(err) == maru.Conflict && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		change.committed(ctx)
		return change.runs, change.told, nil
	}
}

// readPolicy takes over what the default branch says of environments. What can't be read changes nothing: the
// run of that commit tells why.
func (r *Runs) readPolicy(ctx context.Context, id maru.RepositoryID, commit string, known *repository) {
	if commit == "" {
		return
	}
	checkout, err := r.repositories.Checkout(ctx, id, commit)
	if err != nil {
		r.log.Warn("a commit can't be checked out", "repository", id.String(), "commit", commit, "error", err)
		return
	}
	defer checkout.Close()
	loaded, err := r.deployer.Load(ctx, checkout.Dir, maru.Run{Scope: id.In(maru.DefaultEnvironment)})
	if err != nil {
		return
	}
	known.Environments, known.Of = loaded.App.Environments, commit
}

// recording gathers what is committed for a push.
type recording struct {
	*Runs
	push     maru.Push
	wish     wish
	standard string
	known    repository
	branches map[string]string

	runs       []maru.Run
	superseded []maru.Run
	told       []string
	changes    []maru.Change
	previews   map[string]int // by entry: made in this commit
}

func (c *recording) decide(ctx context.Context) error {
	numbers := map[maru.Scope]int{}
	for _, u := range c.push.Updates {
		branch, ok := strings.CutPrefix(u.Ref, headRefs)
		if !ok {
			continue
		}
		if c.branches[branch] != u.New {
			c.told = append(c.told, fmt.Sprintf("%s was moved on by another push: nothing follows from this one", branch))
			continue
		}
		if u.New == "" {
			delete(c.known.Seen, branch)
			if err := c.gone(ctx, branch); err != nil {
				return err
			}
			continue
		}
		if c.known.Seen[branch] == u.New {
			continue // found by a process that started meanwhile
		}
		c.known.Seen[branch] = u.New
		if err := c.branch(ctx, branch, u.New, numbers); err != nil {
			return err
		}
	}
	return nil
}

// branch decides what follows from a commit on a branch.
func (c *recording) branch(ctx context.Context, branch, commit string, numbers map[maru.Scope]int) error {
	target, wished, err := c.target(ctx, c.push.Repository, c.wish, branch, c.standard, c.known)
	if err != nil {
		return err
	}
	scope := c.push.Repository.In(target.Environment)
	switch {
	case numbers[scope] > 0:
		c.told = append(c.told, fmt.Sprintf("%s is kept, but not deployed: another branch of this push goes to %s", branch, target.Environment))
		return nil
	case c.wish.skip:
		c.told = append(c.told, branch+" is kept, and nothing follows from it, as -o skip says")
		return nil
	case target.Environment == "":
		c.told = append(c.told, fmt.Sprintf("%s is kept. It is deployed nowhere: x-maru.environments in the compose file on %s says which branches are", branch, c.standard))
		return nil
	case !mayDeploy(c.push, target):
		c.told = append(c.told, fmt.Sprintf("%s is kept, but not deployed: the token %s may not deploy to %s", branch, c.push.By.Name, target.Environment))
		return nil
	}
	run := maru.Run{
		Scope: scope, Branch: branch, Commit: commit, Message: c.repositories.Subject(ctx, c.push.Repository, commit), By: c.push.By.Name,
		Manual: target.Manual(), Domain: target.Domain, Again: c.wish.again,
	}
	if target.Preview {
		owner := branch
		if wished.Branch != "" {
			owner = wished.Branch
		}
		refused, err := c.use(ctx, scope, owner, target)
		if err != nil {
			return err
		}
		if refused != "" {
			c.told = append(c.told, fmt.Sprintf("%s is kept, but not deployed: %s", branch, refused))
			return nil
		}
		run.Preview = &maru.Preview{Of: target.Of, Clone: target.Clone(c.known.Environments)}
	} else if err := c.settle(ctx, scope); err != nil {
		return err
	}
	return c.add(ctx, run, numbers)
}

// add gives a run its number, and gives up those of its scope that have not begun. Numbers are those given in
// the same commit.
func (c *recording) add(ctx context.Context, run maru.Run, numbers map[maru.Scope]int) error {
	before, err := c.list(ctx, run.Scope.String()+"/")
	if err != nil {
		return err
	}
	if n := len(before); n > 0 {
		run.Number = before[n-1].Number
	}
	run.Number = max(run.Number, numbers[run.Scope]) + 1
	numbers[run.Scope] = run.Number
	run.Phase, run.Created = maru.RunQueued, time.Now().UTC()
	for _, old := range before {
		if old.Phase != maru.RunQueued && old.Phase != maru.RunWaiting {
			continue
		}
		_, revision, err := c.get(ctx, old.Scope, old.Number)
		if err != nil {
			return err
		}
		old.Phase, old.Reason, old.Ended = maru.RunSuperseded, fmt.Sprintf("run %d is newer", run.Number), run.Created
		c.superseded = append(c.superseded, old)
		c.changes = append(c.changes, maru.Change{Key: runKey(old.Scope, old.Number), Expect: revision, Data: maru.Raw(old)})
	}
	for _, old := range before[:max(0, len(before)-c.cfg.Kept)] {
		if old.Phase.Final() {
			c.changes = append(c.changes, maru.Change{Key: runKey(old.Scope, old.Number), Expect: maru.Any}, maru.Change{Key: testsKey(old.Scope, old.Number), Expect: maru.Any})
			if err := c.logs.remove(old.Scope, old.Number); err != nil {
				c.log.Warn("the log of an old run can't be removed", "run", old.Number, "app", old.Scope.String(), "error", err)
			}
		}
	}
	c.runs = append(c.runs, run)
	c.changes = append(c.changes, maru.Change{Key: runKey(run.Scope, run.Number), Data: maru.Raw(run)})
	return nil
}

// committed tells everybody of what was stored.
func (c *recording) committed(ctx context.Context) {
	for _, gone := range c.superseded {
		c.logs.changed(gone.Scope, gone.Number)
	}
	for _, run := range c.runs {
		c.supersede(ctx, run.Scope)
	}
	c.more()
}

// Reconcile finds refs that were moved without having been seen, because a process died in between, and makes
// the runs of the pushes that did it. It is called before pushes are taken.
func (r *Runs) Reconcile(ctx context.Context) error {
	var failed []error
	for _, id := range r.repositories.List() {
		if err := r.reconcile(ctx, id); err != nil {
			failed = append(failed, maru.Errorf(maru.KindOf(err), "compare the Git repository %s with what is known of it: %w", id, err))
		}
	}
	return errors.Join(failed...)
}

func (r *Runs) reconcile(ctx context.Context, id maru.RepositoryID) error {
	branches, _, err := r.repositories.Branches(ctx, id)
	if err != nil {
		return err
	}
	known, _, err := load[repository](ctx, r.store, repositoryKey(id))
	if err != nil {
		return err
	}
	objects, _, err := r.store.List(ctx, kindPush, id.String()+"/")
	if err != nil {
		return err
	}
	for _, o := range objects {
		push, _, err := decode[maru.Push](o)
		if err != nil {
			return err
		}
		push.Updates = slices.DeleteFunc(push.Updates, func(u maru.RefUpdate) bool {
			branch := strings.TrimPrefix(u.Ref, headRefs)
			return branches[branch] != u.New || known.Seen[branch] == u.New
		})
		if _, err := r.Received(ctx, push); err != nil {
			return err
		}
	}
	return nil
}
