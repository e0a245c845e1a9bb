//go:build unix

package source

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func scan(t *testing.T, dir string, o ScanOptions) Manifest {
	t.Helper()
	m, err := Scan(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func paths(m Manifest) []string {
	all := []string{}
	for _, e := range m {
		all = append(all, e.Path)
	}
	return all
}

func TestScanHonorsIgnoreFiles(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		o     ScanOptions
		want  []string
	}{
		"nothing ignored": {map[string]string{"a": "", "b/c": "", "b-d": ""}, ScanOptions{}, []string{"a", "b", "b/c", "b-d"}},
		"patterns": {
			map[string]string{IgnoreFile: "*.log\n# a comment\nnode_modules\n/only/here\n", "a.log": "", "x/a.log": "", "node_modules/m/x": "", "only/here/x": "", "only/there": ""},
			ScanOptions{}, []string{IgnoreFile, "only", "only/there", "x", "x/a.log"},
		},
		"everywhere":  {map[string]string{IgnoreFile: "**/*.log", "x/a.log": "", "x/b": ""}, ScanOptions{}, []string{IgnoreFile, "x", "x/b"}},
		"but not all": {map[string]string{IgnoreFile: "*\n!src\n", "a": "", "src/b": "", "c/d": ""}, ScanOptions{}, []string{IgnoreFile, "src", "src/b"}},
		"inside an ignored folder": {
			map[string]string{IgnoreFile: "a\n!a/b/keep\n", "a/b/keep": "", "a/b/drop": "", "a/c": ""}, ScanOptions{},
			[]string{IgnoreFile, "a", "a/b", "a/b/keep"},
		},
		"the Dockerfile stays": {
			map[string]string{IgnoreFile: "*", "docker/Dockerfile": "", "docker/x": ""}, ScanOptions{Dockerfile: "docker/Dockerfile"},
			[]string{IgnoreFile, "docker", "docker/Dockerfile"},
		},
		"the Dockerfile's own": {
			map[string]string{IgnoreFile: "a", "Dockerfile": "", "Dockerfile" + IgnoreFile: "b", "a": "", "b": ""}, ScanOptions{Dockerfile: "Dockerfile"},
			[]string{IgnoreFile, "Dockerfile", "Dockerfile" + IgnoreFile, "a"},
		},
		"further patterns":  {map[string]string{".git/HEAD": "", "a": ""}, ScanOptions{Ignore: []string{".git"}}, []string{"a"}},
		"the file is above": {map[string]string{".git/HEAD": "", IgnoreFile: "!.git"}, ScanOptions{Ignore: []string{".git"}}, []string{IgnoreFile, ".git", ".git/HEAD"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := paths(scan(t, tree(t, c.files), c.o))
			want := slices.Clone(c.want)
			slices.SortFunc(want, comparePaths)
			if !slices.Equal(got, want) {
				t.Fatalf("took %q, want %q", got, want)
			}
		})
	}
}

func TestScanTellsKindsApart(t *testing.T) {
	dir := tree(t, map[string]string{"run": "#!", "d/x": "x"})
	if err := os.Chmod(filepath.Join(dir, "run"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := map[string]Entry{}
	for _, e := range scan(t, dir, ScanOptions{}) {
		got[e.Path] = e
	}
	if len(got) != 4 || got["run"].Perm() != 0o4755 || !got["run"].IsFile() || !got["d"].IsFolder() ||
		!got["link"].IsLink() || got["link"].Target != "../outside" || got["d/x"].Size != 1 {
		t.Fatalf("%+v", got)
	}
}

func TestScanNeedsAFolder(t *testing.T) {
	dir := tree(t, map[string]string{"a": ""})
	for name, kind := range map[string]maru.Kind{"nope": maru.NotFound, "a": maru.Invalid} {
		if _, err := Scan(t.Context(), filepath.Join(dir, name), ScanOptions{}); maru.KindOf(err) != kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCacheSparesReadingAndNeverLies(t *testing.T) {
	dir, cacheDir := tree(t, map[string]string{"old": "one", "new": "two"}), t.TempDir()
	old := filepath.Join(dir, "old")
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	o := ScanOptions{CacheDir: cacheDir}
	first := scan(t, dir, o)
	c := openCache(cacheDir, dir)
	if len(c.old) != 0 {
		t.Fatalf("%d files are cached, though their inodes changed just now", len(c.old))
	}
	// As if it had been written long after its files changed.
	info, err := os.Lstat(old)
	if err != nil {
		t.Fatal(err)
	}
	c.put("old", info, first[1].Digest, time.Now().Add(time.Hour))
	c.save()
	if got := openCache(cacheDir, dir); len(got.old) != 1 {
		t.Fatalf("%d files are cached", len(got.old))
	}
	if again := scan(t, dir, o); again.ID() != first.ID() {
		t.Fatal("the same folder has another ID")
	}
	// Same size and time of change of the content: only the inode's own time tells.
	if err := os.WriteFile(old, []byte("eno"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	if again := scan(t, dir, o); again.ID() == first.ID() {
		t.Fatal("a changed file was not seen")
	}
}

func BenchmarkScanUnchanged(b *testing.B) {
	dir, cacheDir := b.TempDir(), b.TempDir()
	for i := range 2000 {
		if err := os.WriteFile(filepath.Join(dir, maru.Itoa(i)), make([]byte, 4096), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	o := ScanOptions{CacheDir: cacheDir}
	c := openCache(cacheDir, dir)
	m, err := Scan(b.Context(), dir, ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range m {
		info, err := os.Lstat(filepath.Join(dir, e.Path))
		if err != nil {
			b.Fatal(err)
		}
		c.put(e.Path, info, e.Digest, time.Now().Add(time.Hour))
	}
	c.save()
	for b.Loop() {
		if _, err := Scan(b.Context(), dir, o); err != nil {
			b.Fatal(err)
		}
	}
}
