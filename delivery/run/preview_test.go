package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

var previewFix = shop.In("preview-fix")

// policies are those of the file on the default branch.
func policies(preview maru.EnvironmentPolicy) map[string]maru.EnvironmentPolicy {
	preview.Branch = "*"
	return map[string]maru.EnvironmentPolicy{"production": {Branch: "main", Share: []string{"preview"}}, "preview": preview}
}

// environments gives the names of the previews, with what is said of those that go.
func (r *rig) environments() string {
	r.t.Helper()
	all, err := r.runs.Previews(r.t.Context(), maru.Scope{})
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		names = append(names, strings.TrimSuffix(e.Scope.Environment+": "+e.Leaving, ": "))
	}
	return strings.Join(names, ", ")
}

func (r *rig) eventually(what string, is func() bool) {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	for !is() {
		select {
		case <-deadline:
			r.t.Fatalf("not in time: %s; environments %s, acts %v", what, r.environments(), r.done())
		case <-time.After(time.Millisecond):
		}
	}
}

func (r *rig) done() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.acts)
}

// delete pushes the deletion of a branch.
func (r *rig) delete(branch string) string {
	r.t.Helper()
	shown, err := r.push(branch, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return shown
}

// move, but for a branch that goes.
func (r *rig) drop(branch string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.branches, branch)
}

func TestPreviewGoesWithItsBranch(t *testing.T) {
	r := begin(t)
	r.policy = policies(maru.EnvironmentPolicy{Clone: "production"})
	_, _ = r.push("main", "c1")
	if shown, err := r.push("fix", "c2"); err != nil || !strings.Contains(shown, "preview-fix begins with the volumes of production") {
		t.Fatalf("%v\n%s", err, shown)
	}
	_, _ = r.push("fix", "c3")
	if got := r.environments(); got != "preview-fix" {
		t.Fatalf("environments: %s", got)
	}
	if got := fmt.Sprint(r.done()); got != "[begin preview-fix production]" {
		t.Fatalf("done: %s", got)
	}
	if shown := r.delete("fix"); !strings.Contains(shown, "preview-fix goes with its branch") {
		t.Error(shown)
	}
	r.eventually("it is gone", func() bool { return r.environments() == "" })
	if runs, err := r.runs.list(t.Context(), previewFix.String()); err != nil || len(runs) != 0 {
		t.Errorf("left: %v %v", runs, err)
	}
	if got := fmt.Sprint(r.done()); got != "[begin preview-fix production remove preview-fix]" {
		t.Errorf("done: %s", got)
	}
}

// TestPreviewGoesWhileItIsDeployed: what is carried out ends before anything is removed, and what comes after waits.
func TestPreviewGoesWhileItIsDeployed(t *testing.T) {
	r := begin(t)
	r.policy = policies(maru.EnvironmentPolicy{})
	_, _ = r.push("main", "c1")
	building := make(chan struct{})
	r.mu.Lock()
	r.release = func(ctx context.Context, run maru.Run) error {
		if run.Commit != "c2" {
			return nil
		}
		close(building)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	r.mu.Unlock()
	removing := make(chan struct{})
	tries := 0
	r.removing = func() error {
		if tries++; tries == 1 {
			return errors.New("the engine is away")
		}
		<-removing
		return nil
	}
	follow, err := r.received("fix", "c2")
	if err != nil {
		t.Fatal(err)
	}
	<-building
	r.delete("fix")
	if err := follow(t.Context(), func(string) {}); err == nil || !strings.Contains(err.Error(), "was cancelled: preview-fix is taken away") {
		t.Errorf("the run ended with %v", err)
	}
	back, err := r.received("fix", "c3")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.environments(); !strings.Contains(got, "preview-fix, preview-fix: its branch was deleted by ann") && !strings.Contains(got, "preview-fix: its branch was deleted by ann, preview-fix") {
		t.Errorf("environments: %s", got)
	}
	close(removing)
	if err := back(t.Context(), func(string) {}); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(r.done()); got != "[begin preview-fix remove preview-fix begin preview-fix]" {
		t.Errorf("done: %s", got)
	}
}

// TestPreviewGoesAfterACrash: the deletion of a branch is noticed by the next process, and so is one that was under way.
func TestPreviewGoesAfterACrash(t *testing.T) {
	r := begin(t)
	r.policy = policies(maru.EnvironmentPolicy{})
	_, _ = r.push("main", "c1")
	_, _ = r.push("fix", "c2")
	_, _ = r.push("other", "c3")
	if _, err := r.admit("fix", "", ann); err != nil {
		t.Fatal(err)
	}
	r.drop("fix") // and dies before it was recorded
	r.mu.Lock()
	r.removing = func() error { return errors.New("the engine is away") }
	r.mu.Unlock()
	r.stop()
	r.start()
	r.eventually("it is going", func() bool { return strings.Contains(r.environments(), "preview-fix: ") })
	r.stop()
	r.mu.Lock()
	r.removing = nil
	r.mu.Unlock()
	r.start()
	r.eventually("it is gone", func() bool { return r.environments() == "preview-other" })
}

func TestPreviewsAreLimited(t *testing.T) {
	r := begin(t)
	r.policy = policies(maru.EnvironmentPolicy{Limit: 2})
	_, _ = r.push("main", "c1")
	for i, branch := range []string{"a", "b", "c"} {
		shown, err := r.push(branch, fmt.Sprint("d", i))
		if err != nil || strings.Contains(shown, "its limit") != (branch == "c") {
			t.Errorf("%s: %v\n%s", branch, err, shown)
		}
	}
	r.delete("a")
	if shown, _ := r.push("c", "d4"); strings.Contains(shown, "its limit") {
		t.Error(shown)
	}
}

func TestPreviewsTimeIsUp(t *testing.T) {
	r := begin(t)
	r.policy = policies(maru.EnvironmentPolicy{TTL: 300 * time.Millisecond})
	_, _ = r.push("main", "c1")
	_, _ = r.push("fix", "c2")
	r.eventually("its time is up", func() bool { return r.environments() == "" })
	if r.branches["fix"] != "c2" {
		t.Error("the branch went, too")
	}
	if _, err := r.runs.Retry(t.Context(), previewFix, 0, false, "ann"); maru.KindOf(err) != maru.NotFound {
		t.Errorf("a retry: %v", err)
	}
}

// TestPreviewTouchesNothingElse: what people deployed by hand under the same name is not a preview's.
func TestPreviewTouchesNothingElse(t *testing.T) {
	r := begin(t)
	r.policy = policies(maru.EnvironmentPolicy{})
	_, _ = r.push("main", "c1")
	for _, presence := range []Presence{Volumes, Deployed} {
		r.present[previewFix] = presence
		shown, err := r.push("fix", fmt.Sprint("c2", presence))
		if err == nil || !strings.Contains(shown, "preview-fix has shop already, and not by a push") {
			t.Errorf("%v\n%s", err, shown)
		}
	}
	r.delete("fix")
	r.eventually("it is gone", func() bool { return r.environments() == "" })
	if got := r.done(); len(got) != 0 {
		t.Errorf("done: %v", got)
	}
}

// TestPreviewThatSettles: an environment that gets an entry of its own does not go with its branch any more.
func TestPreviewThatSettles(t *testing.T) {
	r := begin(t)
	r.policy = policies(maru.EnvironmentPolicy{TTL: time.Hour})
	_, _ = r.push("main", "c1")
	_, _ = r.push("fix", "c2")
	r.mu.Lock()
	r.policy = policies(maru.EnvironmentPolicy{TTL: time.Hour})
	r.policy["preview-fix"] = maru.EnvironmentPolicy{Branch: "fix"}
	r.mu.Unlock()
	_, _ = r.push("main", "c3")
	if shown, err := r.push("fix", "c4"); err != nil || !strings.Contains(shown, "goes to preview-fix") {
		t.Fatalf("%v\n%s", err, shown)
	}
	if got := r.environments(); got != "" {
		t.Errorf("previews: %s", got)
	}
}

// TestTokensOfPreviews: who may deploy previews may push branches that have some, and not the one that says what
// goes where.
func TestTokensOfPreviews(t *testing.T) {
	r := begin(t)
	r.policy = map[string]maru.EnvironmentPolicy{"production": {Branch: "live"}, "staging": {Branch: "main"}, "preview": {Branch: "*"}}
	_, _ = r.push("main", "c1")
	bob := maru.Token{Name: "bob", Role: maru.RoleDeploy, Scope: maru.Scope{App: "shop", Environment: "preview"}}
	if _, err := r.admit("fix", "c2", bob); err != nil {
		t.Error(err)
	}
	if _, err := r.admit("live", "c2", bob); maru.KindOf(err) != maru.Denied {
		t.Errorf("production: %v", err)
	}
	bob.Scope.Environment = "staging"
	if _, err := r.admit("main", "c2", bob); maru.KindOf(err) != maru.Denied || !strings.Contains(err.Error(), "which says what goes where") {
		t.Errorf("the default branch: %v", err)
	}
}

func TestPromotion(t *testing.T) {
	r := begin(t)
	r.policy = map[string]maru.EnvironmentPolicy{"production": {Branch: "live", Deploy: "manual"}, "staging": {Branch: "main"}}
	r.serving = Serving{Rollouts: []int{1}, Images: map[string]string{"web": "web@sha256:1"}}
	if _, err := r.runs.Promote(t.Context(), production, "staging", "ann"); maru.KindOf(err) != maru.Conflict {
		t.Errorf("what did not come by a push: %v", err)
	}
	_, _ = r.push("main", "c1") // rollout 1
	_, _ = r.push("main", "c2") // rollout 2
	for _, c := range []struct {
		rollouts []int
		commit   string
	}{{[]int{2}, "c2"}, {[]int{3, 1}, "c1"}} {
		r.mu.Lock()
		r.serving.Rollouts = c.rollouts
		r.mu.Unlock()
		run, err := r.runs.Promote(t.Context(), production, "staging", "ann")
		if err != nil || run.Commit != c.commit || !run.Manual || run.From.Images["web"] != "web@sha256:1" {
			t.Errorf("of rollouts %v: %+v %v", c.rollouts, run, err)
		}
	}
	if _, err := r.runs.Promote(t.Context(), production, "production", "ann"); maru.KindOf(err) != maru.Invalid {
		t.Errorf("to itself: %v", err)
	}
}
