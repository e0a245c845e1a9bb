package run

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/store/memory"
)

var (
	shop       = maru.RepositoryID{Project: "default", App: "shop"}
	production = shop.In("production")
	ann        = maru.Token{Name: "ann", Role: maru.RoleDeploy}
)

// world is everything around runs: repositories and a deployer, in memory.
type world struct {
	mu       sync.Mutex
	branches map[string]string
	standard string
	policy   map[string]maru.EnvironmentPolicy
	deployed []string // commits, as their releases are made
	origins  []maru.Origin
	rollouts int
	held     map[string][]string // commits that still have all of one that was taken back
	reverts  []source.Revert

	rollbackWhileTesting func()
	release              func(ctx context.Context, run maru.Run) error
	follow               func(ctx context.Context, run maru.Run) error
	load                 error
	present              map[maru.Scope]Presence
	acts                 []string // what was done to environments
	removing             func() error
	serving              Serving
	verify               func(ctx context.Context, check Check) error
	build                func(ctx context.Context) error
	handedOver           map[string]string // images that jobs hand over
	services             map[string]maru.Service
	released             maru.App // the last one
}

func (w *world) List() []maru.RepositoryID { return []maru.RepositoryID{shop} }

func (w *world) Branches(context.Context, maru.RepositoryID) (map[string]string, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.branches), w.standard, nil
}

func (w *world) Default(maru.RepositoryID) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.standard, nil
}

func (w *world) SetDefault(_ context.Context, _ maru.RepositoryID, branch string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.standard = branch
	return nil
}

func (w *world) Checkout(context.Context, maru.RepositoryID, string) (source.Checkout, error) {
	return source.Checkout{Notes: []string{"a submodule is missing"}}, nil
}

func (w *world) Subject(_ context.Context, _ maru.RepositoryID, commit string) string {
	return "subject of " + commit
}

func (w *world) Brings(_ context.Context, _ maru.RepositoryID, before, commit string, _ int) ([]maru.Commit, int, error) {
	return []maru.Commit{{ID: before + ".." + commit}}, 0, nil
}

func (w *world) Tree(_ context.Context, _ maru.RepositoryID, commit string) (string, error) {
	return "tree of " + commit, nil
}

func (w *world) Holds(_ context.Context, _ maru.RepositoryID, commit, _, other string) (holds, contains bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.held[other], commit), true, nil
}

func (w *world) OfferReverts(_ context.Context, _ maru.RepositoryID, wanted []source.Revert) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reverts = wanted
	return nil
}

func (w *world) Load(context.Context, string, maru.Run) (Loaded, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Loaded{App: maru.App{Name: "shop", Environments: w.policy, Services: w.services}}, w.load
}

func (w *world) Verify(ctx context.Context, check Check, tell func(maru.RunLogLine)) (map[string]string, error) {
	tell(maru.RunLogLine{Service: "unit", Output: true, Text: "testing " + check.Run.Commit})
	w.mu.Lock()
	verify, rollback, images := w.verify, w.rollbackWhileTesting, w.handedOver
	w.mu.Unlock()
	if rollback != nil {
		rollback()
	}
	if verify != nil {
		return images, verify(ctx, check)
	}
	return images, nil
}

func (w *world) Build(ctx context.Context, _ maru.Run, _ string, _ Loaded, _ func(maru.RunLogLine)) error {
	w.mu.Lock()
	build := w.build
	w.mu.Unlock()
	if build != nil {
		return build(ctx)
	}
	return nil
}

func (w *world) Release(ctx context.Context, run maru.Run, origin maru.Origin, _ string, l Loaded, tell func(maru.RunLogLine)) (int, error) {
	tell(maru.RunLogLine{Service: "web", Output: true, Text: "building " + run.Commit})
	w.mu.Lock()
	release := w.release
	w.mu.Unlock()
	if release != nil {
		if err := release(ctx, run); err != nil {
			return 0, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.deployed); n > 0 && w.deployed[n-1] == run.Commit {
		return 0, nil
	}
	w.released = l.App
	w.deployed = append(w.deployed, run.Commit)
	w.origins = append(w.origins, origin)
	w.rollouts++
	w.present[run.Scope] = Deployed
	return w.rollouts, nil
}

func (w *world) Presence(_ context.Context, scope maru.Scope) (Presence, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.present[scope], nil
}

func (w *world) Begin(_ context.Context, scope maru.Scope, clone string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acts = append(w.acts, strings.TrimSpace("begin "+scope.Environment+" "+clone))
	return nil
}

func (w *world) Remove(_ context.Context, scope maru.Scope) error {
	w.mu.Lock()
	removing := w.removing
	w.mu.Unlock()
	if removing != nil {
		if err := removing(); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.present, scope)
	w.acts = append(w.acts, "remove "+scope.Environment)
	return nil
}

func (w *world) Serving(context.Context, maru.Scope) (Serving, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.serving, nil
}

func (w *world) Follow(ctx context.Context, run maru.Run, _ int, tell func(maru.RunLogLine)) error {
	w.mu.Lock()
	follow := w.follow
	w.mu.Unlock()
	if follow != nil {
		return follow(ctx, run)
	}
	tell(maru.RunLogLine{Text: "serving"})
	return nil
}

// rig is one life after the other of a process that keeps runs.
type rig struct {
	*world
	t      *testing.T
	store  maru.Store
	folder string
	runs   *Runs
	stop   func()
	pushes int
}

func begin(t *testing.T) *rig {
	r := &rig{t: t, world: &world{branches: map[string]string{}, standard: "main", present: map[maru.Scope]Presence{}}, store: memory.New(), folder: t.TempDir()}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) start() {
	r.t.Helper()
	runs, err := New(Config{Folder: r.folder, Kept: 5}, r.store, r.world, r.world, slog.New(slog.NewTextHandler(r.t.Output(), nil)))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := runs.Reconcile(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- runs.Run(ctx) }()
	r.runs = runs
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		r.stop = func() {}
	}
}

// admit is what happens of a push before git moves the refs.
func (r *rig) admit(branch, commit string, by maru.Token, options ...string) (maru.Push, error) {
	r.pushes++
	push := maru.Push{ID: fmt.Sprint("push", r.pushes), Repository: shop, By: by, Options: options, Updates: []maru.RefUpdate{{Ref: "refs/heads/" + branch, Old: r.branches[branch], New: commit}}}
	_, err := r.runs.Admit(r.t.Context(), push)
	return push, err
}

func (r *rig) move(branch, commit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.branches[branch] = commit
	if commit == "" {
		delete(r.branches, branch)
	}
}

// push gives what somebody who pushes sees, and how that ends.
func (r *rig) push(branch, commit string, options ...string) (string, error) {
	r.t.Helper()
	follow, err := r.received(branch, commit, options...)
	if err != nil {
		r.t.Fatal(err)
	}
	var shown []string
	err = follow(r.t.Context(), func(line string) { shown = append(shown, line) })
	return strings.Join(shown, "\n"), err
}

func (r *rig) received(branch, commit string, options ...string) (func(context.Context, func(string)) error, error) {
	push, err := r.admit(branch, commit, ann, options...)
	if err != nil {
		return nil, err
	}
	r.move(branch, commit)
	return r.runs.Received(r.t.Context(), push)
}

// phases gives those of the runs in production, oldest first.
func (r *rig) phases() string {
	r.t.Helper()
	all, err := r.runs.list(r.t.Context(), production.String()+"/")
	if err != nil {
		r.t.Fatal(err)
	}
	var words []string
	for _, run := range all {
		words = append(words, string(run.Phase))
	}
	return strings.Join(words, " ")
}

func (r *rig) until(want string) {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	for r.phases() != want {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			r.t.Fatalf("the runs are %q, want %q", r.phases(), want)
		}
	}
}

// gate holds what is let through by its name.
type gate struct {
	mu   sync.Mutex
	open map[string]chan struct{}
}

func (g *gate) at(name string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = map[string]chan struct{}{}
	}
	if g.open[name] == nil {
		g.open[name] = make(chan struct{})
	}
	return g.open[name]
}

func (g *gate) wait(ctx context.Context, run maru.Run) error {
	select {
	case <-g.at(run.Commit):
		return nil
	case <-ctx.Done():
		return maru.Errorf(maru.Interrupted, "held: %w", context.Cause(ctx))
	}
}

// TestWhatFailsItsTestsIsNotDeployed: the push says which, and nothing is built.
