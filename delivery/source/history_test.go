package source

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

// write commits a file, as written at a time, and gives the commit.
func (r *rig) write(name, text string, at time.Time, message string) string {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.work, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.git("add", name)
	r.git("commit", "--quiet", "--date", at.Format(time.RFC3339), "-m", message)
	return r.head()
}

func (r *rig) head() string { return strings.TrimSpace(r.git("rev-parse", "HEAD")) }

// brings gives the names and times of commits.
func (r *rig) brings(before, commit string, most int) (names []string, times []time.Time, more int) {
	r.t.Helper()
	commits, more, err := r.repositories.Brings(r.t.Context(), shop, before, commit, most)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range commits {
		names, times = append(names, c.ID), append(times, c.Time)
	}
	return names, times, more
}

func TestBrings(t *testing.T) {
	r := start(t, Config{})
	seoul := time.FixedZone("KST", 9*3600)
	base := r.head()
	a := r.write("a", "1", time.Date(2026, 3, 1, 8, 0, 0, 0, seoul), "a")
	b := r.write("b", "1", time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC), "b")
	r.git("checkout", "--quiet", "-b", "side", a)
	c := r.write("c", "1", time.Date(2026, 3, 3, 8, 0, 0, 0, time.UTC), "c")
	r.git("checkout", "--quiet", "main")
	r.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
	merged := r.head()
	r.git("push", "--quiet", "maru", "main")

	names, times, more := r.brings(base, b, 10)
	if !slices.Equal(names, []string{b, a}) || more != 0 {
		t.Errorf("a push of two brings %v and %d", names, more)
	}
	if want := time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC); len(times) != 2 || !times[1].Equal(want) {
		t.Errorf("written at %v", times)
	}
	if names, _, _ := r.brings(b, merged, 10); !slices.Equal(names, []string{c}) {
		t.Errorf("a merge brings %v, not %s alone", names, c)
	}
	if names, _, more := r.brings(base, merged, 1); len(names) != 1 || more != 2 {
		t.Errorf("one of three is %v and %d", names, more)
	}
	for _, before := range []string{"", strings.Repeat("1", 40)} {
		if names, _, _ := r.brings(before, b, 10); !slices.Equal(names, []string{b}) {
			t.Errorf("after %q comes %v", before, names)
		}
	}
	if names, _, _ := r.brings(merged, a, 10); len(names) != 0 {
		t.Errorf("to go back brings %v", names)
	}

	// Rebased and pushed by force: what was deployed keeps what it changes, and brings nothing new.
	r.git("checkout", "--quiet", "-B", "main", base)
	z := r.write("z", "1", time.Date(2026, 3, 4, 8, 0, 0, 0, time.UTC), "z")
	r.git("cherry-pick", a, b)
	rebased := r.head()
	d := r.write("d", "1", time.Date(2026, 3, 5, 8, 0, 0, 0, time.UTC), "d")
	r.git("push", "--quiet", "--force", "maru", "main")
	if names, _, _ := r.brings(b, d, 10); !slices.Equal(names, []string{d, z}) || rebased == b {
		t.Errorf("what was rebased brings %v", names)
	}
	// A commit that is rebased before it was ever deployed keeps when it was written.
	if names, times, _ := r.brings(base, rebased, 10); len(names) != 3 || !times[1].Equal(time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC)) {
		t.Errorf("a rebase brings %v of %v", names, times)
	}

	r.git("revert", "--no-edit", d)
	r.git("push", "--quiet", "maru", "main")
	commits, _, err := r.repositories.Brings(t.Context(), shop, d, r.head(), 10)
	if err != nil || len(commits) != 1 || !slices.Equal(commits[0].Reverts, []string{d}) {
		t.Errorf("a revert is %+v, %v", commits, err)
	}
	ours, err := r.repositories.Tree(t.Context(), shop, rebased)
	if again, failed := r.repositories.Tree(t.Context(), shop, r.head()); err != nil || failed != nil || ours != again {
		t.Errorf("the trees are %s and %s: %v, %v", ours, again, err, failed)
	}
	if _, err := r.repositories.Tree(t.Context(), shop, strings.Repeat("1", 40)); maru.KindOf(err) != maru.NotFound {
		t.Errorf("the tree of no commit: %v", err)
	}
}

func FuzzDecodeCommit(f *testing.F) {
	f.Add(strings.Repeat("a", 40) + "\x1f1700000000\x1fRevert \"x\"\n\nThis reverts commit " + strings.Repeat("b", 40) + ".")
	f.Add("\x1f\x1f")
	f.Fuzz(func(t *testing.T, entry string) {
		if c, ok := decodeCommit(entry); ok && (!isObjectName(c.ID) || len(maru.Raw(c)) == 0) {
			t.Errorf("%q is %+v", entry, c)
		}
	})
}
