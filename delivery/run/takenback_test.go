package run

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/store/memory"
)

// keep stores what became of a rollout, as the control loops do.
func keep(t *testing.T, store maru.Store, d maru.Delivery) {
	t.Helper()
	key := maru.Key{Kind: kindDelivery, Name: fmt.Sprintf("%s/%09d", d.Scope, d.Number)}
	if _, err := store.Commit(t.Context(), maru.Change{Key: key, Data: maru.Raw(d), Expect: maru.Any}); err != nil {
		t.Fatal(err)
	}
}

func deploy(number int, commit, before string) maru.Delivery {
	now := time.Now().UTC()
	return maru.Delivery{
		Scope: production, Number: number, Cause: "deploy", Phase: maru.Succeeded, Started: now, Exposed: now, Served: now, Ended: now,
		Origin: &maru.Origin{Branch: "main", Commit: commit, Tree: "tree of " + commit, Before: before, Commits: []maru.Commit{{ID: commit}}},
	}
}

func rollback(number, of int, by string) maru.Delivery {
	now := time.Now().UTC()
	return maru.Delivery{Scope: production, Number: number, Cause: "rollback", Of: of, By: by, Phase: maru.Succeeded, Started: now, Exposed: now, Served: now, Ended: now}
}

func TestHoldBack(t *testing.T) {
	r := begin(t)
	for n, commit := range []string{"c1", "c2"} {
		if _, err := r.push("main", commit); err != nil {
			t.Fatal(err)
		}
		keep(t, r.store, deploy(n+1, commit, map[string]string{"c2": "c1"}[commit]))
	}
	if got := r.origins[1]; got.Before != "c1" || got.Tree != "tree of c2" || len(got.Commits) != 1 || got.Commits[0].ID != "c1..c2" {
		t.Errorf("the origin is %+v", got)
	}
	keep(t, r.store, rollback(3, 1, "bob"))
	status, ok, err := r.runs.Git(t.Context(), production)
	if err != nil || !ok || status.Commit != "c1" || status.Tip != "c2" || !strings.Contains(status.Message, "production runs c1 (rollout 1), and the branch main is at c2, which was taken back in production by bob (rollout 2)") {
		t.Errorf("%+v, %v, %v", status, ok, err)
	}

	admitted, err := r.runs.Admit(t.Context(), maru.Push{ID: "p", Repository: shop, By: ann, Updates: []maru.RefUpdate{{Ref: "refs/heads/main", Old: "c2", New: "c3"}}})
	if err != nil || len(admitted.Unwanted) != 1 || admitted.Unwanted[0].Name != "tree of c2" || !strings.Contains(admitted.Unwanted[0].Why, "git push -o again") {
		t.Errorf("%+v, %v", admitted, err)
	}
	for _, option := range []string{"again", "skip"} {
		admitted, err := r.runs.Admit(t.Context(), maru.Push{ID: "p", Repository: shop, By: ann, Options: []string{option}, Updates: []maru.RefUpdate{{Ref: "refs/heads/main", Old: "c2", New: "c3"}}})
		if err != nil || len(admitted.Unwanted) != 0 {
			t.Errorf("%s: %+v, %v", option, admitted, err)
		}
	}

	// A colleague pushes something else, with the bad commit below it: that waits, and says why.
	r.held = map[string][]string{"c2": {"c3"}}
	shown, err := r.push("main", "c3")
	if err != nil || !strings.Contains(shown, "run 3 waits for approval: it still has all of c2, which was taken back in production by bob (rollout 2)") || !strings.Contains(shown, "revert/c2") {
		t.Errorf("it shows %q, %v", shown, err)
	}
	r.until("succeeded succeeded waiting")
	if status, _, err := r.runs.Git(t.Context(), production); err != nil || !strings.Contains(status.Message, "is at c3, which still has all of c2") {
		t.Errorf("%+v, %v", status, err)
	}
	run, err := r.runs.Approve(t.Context(), production, 3, "bob")
	if err != nil || run.Reason != "" {
		t.Errorf("%+v, %v", run, err)
	}
	r.until("succeeded succeeded succeeded")
	if !slices.Equal(r.deployed, []string{"c1", "c2", "c3"}) {
		t.Errorf("deployed %v", r.deployed)
	}
}

func TestHoldBackWhatIsBeingBuilt(t *testing.T) {
	r := begin(t)
	if _, err := r.push("main", "c1"); err != nil {
		t.Fatal(err)
	}
	keep(t, r.store, deploy(1, "c1", ""))
	keep(t, r.store, deploy(2, "c2", "c1"))
	r.held = map[string][]string{"c2": {"c3"}}
	r.rollbackWhileTesting = func() { keep(t, r.store, rollback(3, 1, "bob")) }
	if shown, err := r.push("main", "c3"); err != nil || !strings.Contains(shown, "run 2 waits for approval") {
		t.Errorf("it shows %q, %v", shown, err)
	}
	r.rollbackWhileTesting = nil
	// A newer push takes its place; one that changes what was bad goes on, with a note.
	shown, err := r.push("main", "c4")
	if err != nil || !strings.Contains(shown, "note: it has later changes to what was changed by c2") {
		t.Errorf("it shows %q, %v", shown, err)
	}
	r.until("succeeded superseded succeeded")
}

// TestRealGit goes through a rollback with git itself, over HTTP.
func TestRealGit(t *testing.T) {
	w := &world{branches: map[string]string{}, standard: "main", present: map[maru.Scope]Presence{}}
	store, folder, work := memory.New(), t.TempDir(), t.TempDir()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	repositories, err := source.Open(source.Config{Folder: filepath.Join(folder, "git")}, log)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := New(Config{Folder: filepath.Join(folder, "runs")}, store, repositories, w, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runs.Run(ctx) }()
	defer func() { cancel(); <-done }()
	server := httptest.NewServer(source.NewHandler(repositories, anyone{}, runs))
	defer server.Close()
	remote, err := url.Parse(server.URL + "/git/shop.git")
	if err != nil {
		t.Fatal(err)
	}
	remote.User = url.UserPassword("git", "token")

	git := func(args ...string) (string, error) {
		cmd := exec.Command("git", append([]string{"-c", "user.name=ann", "-c", "user.email=ann@example.com"}, args...)...)
		cmd.Dir = work
		cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := git(args...)
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	write := func(name, text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		must("add", name)
		must("commit", "--quiet", "-m", name+" is "+text)
		return must("rev-parse", "HEAD")
	}
	number := 0
	// served keeps that the last release that was made serves.
	served := func() {
		w.mu.Lock()
		origin := w.origins[len(w.origins)-1]
		w.mu.Unlock()
		number++
		d := deploy(number, "", "")
		d.Origin = &origin
		keep(t, store, d)
	}
	must("init", "--quiet", "--initial-branch=main")
	must("remote", "add", "maru", remote.String())
	good := write("web", "1")
	must("push", "maru", "main")
	served()
	bad := write("web", "2")
	must("push", "maru", "main")
	served()
	number++
	keep(t, store, rollback(number, 1, "bob"))
	branch := source.RevertBranch(bad)
	for deadline := time.Now().Add(20 * time.Second); ; {
		branches, _, err := repositories.Branches(t.Context(), shop)
		if err == nil && branches[branch] != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no revert is offered: %v, %v", branches, err)
		}
		pause(t.Context(), 20*time.Millisecond)
	}
	status, _, err := runs.Git(t.Context(), production)
	if err != nil || status.Commit != good || status.Tip != bad || status.Revert != branch || status.TakenBack == "" {
		t.Errorf("%+v, %v", status, err)
	}

	// The same files again are refused, by whatever name; on purpose they are not.
	must("commit", "--quiet", "--amend", "-m", "again, in silence")
	if out, err := git("push", "--force", "maru", "main"); err == nil || !strings.Contains(out, "taken back in production by bob (rollout 2)") || !strings.Contains(out, "git push -o again") {
		t.Errorf("%v\n%s", err, out)
	}
	must("reset", "--quiet", "--hard", bad)

	// Something else on top of it waits.
	above := write("docs", "1")
	if out := must("push", "maru", "main"); !strings.Contains(out, "waits for approval: it still has all of "+bad[:12]) {
		t.Errorf("%s", out)
	}
	if status, _, err := runs.Git(t.Context(), production); err != nil || status.Tip != above || !strings.Contains(status.Message, "which still has all of "+bad[:12]) {
		t.Errorf("%+v, %v", status, err)
	}

	// The revert that is offered is fetched, merged and pushed: that is deployed, and the branch goes.
	must("fetch", "--quiet", "maru")
	must("merge", "--quiet", "--no-edit", "maru/"+branch)
	if out := must("push", "maru", "main"); !strings.Contains(out, "note: it has later changes to what was changed by "+bad[:12]) || !strings.Contains(out, "serving") {
		t.Errorf("%s", out)
	}
	if got := w.origins[len(w.origins)-1]; len(got.Commits) != 2 || !slices.ContainsFunc(got.Commits, func(c maru.Commit) bool { return slices.Equal(c.Reverts, []string{bad}) }) {
		t.Errorf("it brings %+v", got.Commits)
	}
	served()
	for deadline := time.Now().Add(20 * time.Second); ; {
		branches, _, err := repositories.Branches(t.Context(), shop)
		if err == nil && branches[branch] == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the branch stays: %v, %v", branches, err)
		}
		pause(t.Context(), 20*time.Millisecond)
	}
	if status, _, err := runs.Git(t.Context(), production); err != nil || status.Message != "" {
		t.Errorf("%+v, %v", status, err)
	}

	// Back to the bad files by another way, on purpose.
	must("checkout", "--quiet", "-B", "side", bad)
	if out, err := git("push", "-o", "environment=production", "maru", "side"); err == nil {
		t.Errorf("%s", out)
	}
	if out := must("push", "-o", "environment=production", "-o", "again", "maru", "side"); !strings.Contains(out, "serving") {
		t.Errorf("%s", out)
	}
}

// anyone lets everybody in.
type anyone struct{}

func (anyone) Authenticate(context.Context, string) (maru.Token, error) { return ann, nil }
