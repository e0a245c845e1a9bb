package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func (r *rig) holds(commit, before, other string) (holds, contains bool) {
	r.t.Helper()
	holds, contains, err := r.repositories.Holds(r.t.Context(), shop, commit, before, other)
	if err != nil {
		r.t.Fatal(err)
	}
	return holds, contains
}

func TestHolds(t *testing.T) {
	r := start(t, Config{})
	now := time.Now()
	before := r.write("web", "1", now, "good")
	r.write("web", "2", now, "half of the bad")
	bad := r.write("api", "2", now, "bad")
	above := r.write("docs", "1", now, "something else")
	fixed := r.write("web", "3", now, "fix")
	r.git("revert", "--no-edit", bad)
	r.git("push", "--quiet", "maru", "main")
	reverted := r.head()
	r.git("checkout", "--quiet", "-B", "main", before)
	beside := r.write("docs", "2", now, "from before")
	r.git("cherry-pick", bad+"~1", bad)
	rebased := r.head()
	r.git("push", "--quiet", "--force", "maru", "main", beside+":refs/heads/beside", reverted+":refs/heads/old")
	for name, c := range map[string]struct {
		commit          string
		holds, contains bool
	}{
		"the same":             {bad, true, true},
		"with something else":  {above, true, true},
		"with a fix":           {fixed, false, true},
		"reverted in part":     {reverted, false, true},
		"from before":          {beside, false, false},
		"rebased":              {rebased, true, false},
		"not there":            {strings.Repeat("1", 40), false, false},
		"no name of an object": {"--all", false, false},
	} {
		if holds, contains := r.holds(c.commit, before, bad); holds != c.holds || contains != c.contains {
			t.Errorf("%s: holds %v, contains %v", name, holds, contains)
		}
	}
}

func TestUnwanted(t *testing.T) {
	r := start(t, Config{})
	now := time.Now()
	r.git("push", "--quiet", "maru", "main")
	bad := r.write("web", "2", now, "bad")
	tree := strings.TrimSpace(r.git("rev-parse", "HEAD^{tree}"))
	unwanted := func(name string) {
		r.desk.mu.Lock()
		defer r.desk.mu.Unlock()
		r.desk.unwanted = []Unwanted{{Ref: "refs/heads/other", Name: tree, Why: "wrong"}, {Ref: "refs/heads/main", Name: name, Why: "it was taken back:\n $(date) \\n `date` \x1b[1m\"x\""}}
	}
	refused := func(what string) {
		t.Helper()
		out, err := r.try("push", "maru", "main")
		if err == nil || !strings.Contains(out, "it was taken back: $(date) \\n `date` [1m\"x\"") || !strings.Contains(out, "remote rejected") || strings.Contains(out, "wrong") {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	unwanted(bad)
	refused("the commit")
	unwanted(tree)
	refused("its files")
	r.git("commit", "--quiet", "--amend", "-m", "another name for it")
	refused("another commit with its files")
	r.git("push", "--quiet", "maru", "main:beside")
	r.write("web", "3", now, "fix")
	r.git("push", "--quiet", "maru", "main")
}

func TestOfferReverts(t *testing.T) {
	r := start(t, Config{})
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	good := r.write("web", "1", now, "good")
	r.write("api", "1", now, "half of the bad")
	bad := r.write("web", "2", now, "bad: ünïcode")
	r.git("push", "--quiet", "maru", "main")
	wanted := []Revert{{Branch: RevertBranch(bad), Of: bad, To: good, Message: "It was taken back.\n\nThis reverts commit " + bad + ".", At: now}}
	offer := func(wanted ...Revert) map[string]string {
		t.Helper()
		if err := r.repositories.OfferReverts(t.Context(), shop, wanted); err != nil {
			t.Fatal(err)
		}
		branches, _, err := r.repositories.Branches(t.Context(), shop)
		if err != nil {
			t.Fatal(err)
		}
		return branches
	}
	made := offer(wanted...)["revert/"+bad[:12]]
	if made == "" || offer(wanted...)["revert/"+bad[:12]] != made {
		t.Fatalf("the branches are %v", offer(wanted...))
	}

	// The team goes on meanwhile, and merges what is offered.
	r.write("docs", "1", now, "something else")
	r.git("push", "--quiet", "maru", "main")
	r.git("fetch", "--quiet", "maru")
	r.git("merge", "--quiet", "--no-edit", "maru/revert/"+bad[:12])
	text, err := os.ReadFile(filepath.Join(r.work, "web"))
	if _, gone := os.Stat(filepath.Join(r.work, "api")); err != nil || string(text) != "1" || !os.IsNotExist(gone) {
		t.Errorf("after the merge there is %q, %v, %v", text, err, gone)
	}
	if _, err := os.Stat(filepath.Join(r.work, "docs")); err != nil {
		t.Error("what came since is lost")
	}
	if subject := r.git("log", "-1", "--format=%s %an %ct", made); strings.TrimSpace(subject) != `Revert "bad: ünïcode" Maru 1772442000` {
		t.Errorf("the commit is %q", subject)
	}
	commits, _, err := r.repositories.Brings(t.Context(), shop, bad, made, 5)
	if err != nil || len(commits) != 1 || len(commits[0].Reverts) != 1 {
		t.Errorf("it brings %+v, %v", commits, err)
	}

	// What somebody pushed to it stays; what nobody needs any more goes.
	r.git("push", "--quiet", "maru", "HEAD:revert/mine")
	if branches := offer(); branches["revert/"+bad[:12]] != "" || branches["revert/mine"] == "" {
		t.Errorf("the branches are %v", branches)
	}
	r.git("push", "--quiet", "maru", bad+":refs/heads/revert/"+bad[:12])
	if branches := offer(wanted...); branches["revert/"+bad[:12]] != bad {
		t.Errorf("what was pushed is gone: %v", branches)
	}

	// Once no branch has it any more, there is nothing to take back.
	r.git("push", "--quiet", "maru", ":revert/"+bad[:12], ":revert/mine")
	r.git("push", "--quiet", "--force", "maru", good+":main")
	if branches := offer(wanted...); branches["revert/"+bad[:12]] != "" {
		t.Errorf("the branches are %v", branches)
	}
	if err := r.repositories.OfferReverts(t.Context(), maru.RepositoryID{Project: "default", App: "none"}, nil); maru.KindOf(err) != maru.NotFound {
		t.Errorf("without a repository: %v", err)
	}
}
