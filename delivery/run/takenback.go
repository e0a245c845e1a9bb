package run

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/plan"
)

func repositoryOf(scope maru.Scope) maru.RepositoryID {
	return maru.RepositoryID{Project: scope.Project, App: scope.App}
}

// deliveries gives what became of an app's rollouts in an environment.
func (r *Runs) deliveries(ctx context.Context, scope maru.Scope) ([]maru.Delivery, error) {
	objects, _, err := r.store.List(ctx, kindDelivery, scope.String()+"/")
	if err != nil {
		return nil, err
	}
	all := make([]maru.Delivery, 0, len(objects))
	for _, o := range objects {
		d, _, err := decode[maru.Delivery](o)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// unwanted is what a ref that goes to an environment may not be moved to: what was taken back there.
func (r *Runs) unwanted(ctx context.Context, scope maru.Scope, ref string) ([]source.Unwanted, error) {
	deliveries, err := r.deliveries(ctx, scope)
	if err != nil {
		return nil, err
	}
	running, taken := plan.TakenBack(deliveries)
	var all []source.Unwanted
	for _, t := range taken {
		name := t.Origin.Tree
		if name == "" {
			name = t.Origin.Commit
		}
		if running != nil && running.Origin != nil && running.Origin.Tree == t.Origin.Tree {
			continue
		}
		why := fmt.Sprintf("this is what %.12s was, which was %s. Fix it and push again, or bring it back by: git push -o again",
			t.Origin.Commit, plan.TakenBackText(t, scope.Environment))
		all = append(all, source.Unwanted{Ref: ref, Name: name, Why: why})
	}
	return all, nil
}

// holdBack has a run wait for approval whose commit still has all of what was taken back where it goes. Say is
// told of what was changed since; nil: not.
func (r *Runs) holdBack(ctx context.Context, run *maru.Run, say func(string, ...any)) error {
	if run.Again {
		return nil
	}
	deliveries, err := r.deliveries(ctx, run.Scope)
	if err != nil {
		return err
	}
	_, taken := plan.TakenBack(deliveries)
	for _, t := range slices.Backward(taken) {
		if !t.Current || run.Approved.After(t.At) {
			continue
		}
		holds, contains, err := r.repositories.Holds(ctx, repositoryOf(run.Scope), run.Commit, t.Origin.Before, t.Origin.Commit)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%.12s, which was %s", t.Origin.Commit, plan.TakenBackText(t, run.Scope.Environment))
		if !holds {
			if contains && say != nil {
				say("note: it has later changes to what was changed by %s", what)
			}
			continue
		}
		why := "it still has all of " + what
		hint := fmt.Sprintf("`maru approve %d` brings it back; merge the branch %s to take it back in Git, too", run.Number, source.RevertBranch(t.Origin.Commit))
		if say == nil {
			say = func(format string, args ...any) {
				log := r.logs.open(run.Scope, run.Number)
				log.add(maru.RunLogLine{Text: fmt.Sprintf(format, args...)})
				_ = log.close()
			}
		}
		say("run %d waits for approval: %s", run.Number, why)
		say("%s", hint)
		if err := r.enter(ctx, run, maru.RunWaiting, func(now *maru.Run) { now.Reason, now.Hint = why, hint }); err != nil {
			return err
		}
		return errWaiting
	}
	return nil
}

// keepReverts has each repository offer a branch that takes back what was taken back in its environments, until
// ctx ends.
func (r *Runs) keepReverts(ctx context.Context) {
	for ctx.Err() == nil {
		objects, revision, err := r.store.List(ctx, kindDelivery, "")
		for _, id := range r.repositories.List() {
			if err == nil {
				r.offerReverts(ctx, id, objects)
			}
		}
		if err == nil {
			err = r.followDeliveries(ctx, revision)
		}
		if err != nil && ctx.Err() == nil && maru.KindOf(err) != maru.Exhausted {
			r.log.Warn("what was taken back can't be followed; trying again", "error", err)
		}
		if !pause(ctx, time.Second) {
			return
		}
	}
}

// followDeliveries offers what each change leads to.
func (r *Runs) followDeliveries(ctx context.Context, from maru.Revision) error {
	for change, err := range r.store.Watch(ctx, from) {
		if err != nil {
			return err
		}
		if change.Key.Kind != kindDelivery || change.Data == nil {
			continue
		}
		var scope maru.Scope
		parts := strings.SplitN(change.Key.Name, "/", 4)
		if len(parts) != 4 || scope.UnmarshalText([]byte(strings.Join(parts[:3], "/"))) != nil {
			continue
		}
		objects, _, err := r.store.List(ctx, kindDelivery, scope.Project+"/")
		if err != nil {
			return err
		}
		r.offerReverts(ctx, repositoryOf(scope), objects)
	}
	return nil
}

// offerReverts has a repository offer to take back what was taken back last in each environment.
func (r *Runs) offerReverts(ctx context.Context, id maru.RepositoryID, deliveries []maru.Object) {
	if !slices.Contains(r.repositories.List(), id) {
		return
	}
	byEnvironment := map[string][]maru.Delivery{}
	var environments []string
	for _, o := range deliveries {
		d, _, err := decode[maru.Delivery](o)
		if err != nil {
			r.log.Warn("what became of a rollout can't be read", "object", o.Name, "error", err)
			continue
		}
		if repositoryOf(d.Scope) != id {
			continue
		}
		if byEnvironment[d.Scope.Environment] == nil {
			environments = append(environments, d.Scope.Environment)
		}
		byEnvironment[d.Scope.Environment] = append(byEnvironment[d.Scope.Environment], d)
	}
	var wanted []source.Revert
	for _, environment := range environments {
		running, taken := plan.TakenBack(byEnvironment[environment])
		if len(taken) == 0 || !taken[len(taken)-1].Current {
			continue
		}
		wanted = append(wanted, revertOf(environment, running, taken[len(taken)-1]))
	}
	if err := r.repositories.OfferReverts(ctx, id, wanted); err != nil && ctx.Err() == nil {
		r.log.Warn("a branch that takes back what was taken back can't be made", "repository", id.String(), "error", err)
	}
}

// revertOf takes a deployment back in Git, to what the environment runs now.
func revertOf(environment string, running *maru.Delivery, t maru.TakenBack) source.Revert {
	to := t.Origin.Before
	if running != nil && running.Origin != nil {
		to = running.Origin.Commit
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%.12s was %s.\n", t.Origin.Commit, plan.TakenBackText(t, environment))
	for _, c := range t.Origin.Commits {
		fmt.Fprintf(&text, "\nThis reverts commit %s.", c.ID)
	}
	return source.Revert{Branch: source.RevertBranch(t.Origin.Commit), Of: t.Origin.Commit, To: to, Message: text.String(), At: t.At}
}

// Git holds an environment against the branch that goes there; false: no branch of a repository does.
func (r *Runs) Git(ctx context.Context, scope maru.Scope) (maru.GitStatus, bool, error) {
	var out maru.GitStatus
	id := repositoryOf(scope)
	if !slices.Contains(r.repositories.List(), id) {
		return out, false, nil
	}
	branches, standard, err := r.repositories.Branches(ctx, id)
	if err != nil {
		return out, false, err
	}
	known, _, err := load[repository](ctx, r.store, repositoryKey(id))
	if err != nil {
		return out, false, err
	}
	runs, err := r.list(ctx, scope.String()+"/")
	if err != nil {
		return out, false, err
	}
	for branch := range branches {
		if plan.Deploys(branch, standard, known.Environments).Environment == scope.Environment {
			out.Branch = branch
		}
	}
	if out.Branch == "" && len(runs) > 0 { // pushed there by -o environment
		out.Branch = runs[len(runs)-1].Branch
	}
	if out.Tip = branches[out.Branch]; out.Tip == "" {
		return out, false, nil
	}
	deliveries, err := r.deliveries(ctx, scope)
	if err != nil {
		return out, false, err
	}
	running, taken := plan.TakenBack(deliveries)
	if running != nil && running.Origin != nil {
		out.Commit, out.Rollout = running.Origin.Commit, running.Number
	}
	return out, true, r.compare(ctx, scope, &out, taken, runs, branches)
}

// compare says how an environment and its branch differ.
func (r *Runs) compare(ctx context.Context, scope maru.Scope, out *maru.GitStatus, taken []maru.TakenBack, runs []maru.Run, branches map[string]string) error {
	if out.Tip == out.Commit {
		return nil
	}
	runsNow := "what " + scope.Environment + " runs is not from Git"
	if out.Commit != "" {
		runsNow = fmt.Sprintf("%s runs %.12s (rollout %d)", scope.Environment, out.Commit, out.Rollout)
	}
	differ := func(format string, args ...any) {
		out.Message = fmt.Sprintf("%s, and the branch %s is at %.12s", runsNow, out.Branch, out.Tip) + fmt.Sprintf(format, args...)
	}
	tree, err := r.repositories.Tree(ctx, repositoryOf(scope), out.Tip)
	if err != nil {
		return err
	}
	for _, t := range slices.Backward(taken) {
		same := t.Origin.Commit == out.Tip || t.Origin.Tree == tree
		holds := false
		if !same && t.Current {
			if holds, _, err = r.repositories.Holds(ctx, repositoryOf(scope), out.Tip, t.Origin.Before, t.Origin.Commit); err != nil {
				return err
			}
		}
		if !same && !holds {
			continue
		}
		out.TakenBack = plan.TakenBackText(t, scope.Environment)
		if branch := source.RevertBranch(t.Origin.Commit); branches[branch] != "" {
			out.Revert = branch
		}
		if same {
			differ(", which was %s", out.TakenBack)
		} else {
			differ(", which still has all of %.12s, which was %s", t.Origin.Commit, out.TakenBack)
		}
		return nil
	}
	for _, run := range slices.Backward(runs) {
		switch {
		case run.Commit != out.Tip:
			continue
		case run.Phase == maru.RunSucceeded && run.Rollout == 0: // nothing had changed
		case run.Phase == maru.RunSucceeded:
			differ(", which run %d brought: something else was deployed since", run.Number)
		default:
			differ(": run %d is %s", run.Number, run.Phase)
		}
		return nil
	}
	differ(", which was not deployed here")
	return nil
}
