package watch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// watching gives the groups of changes below dir as they come.
func watching(t *testing.T, roots ...Root) <-chan []string {
	t.Helper()
	w, err := New(roots)
	if err != nil {
		t.Fatal(err)
	}
	groups := make(chan []string, 100)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- w.Run(ctx, func(paths []string) { groups <- paths }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return groups
}

// until waits for a group with the path.
func until(t *testing.T, groups <-chan []string, path string) []string {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case group := <-groups:
			if slices.Contains(group, path) {
				return group
			}
		case <-timeout:
			t.Fatalf("no change of %s was told", path)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestChangesAreToldTogether(t *testing.T) {
	dir := t.TempDir()
	file, temporary := filepath.Join(dir, "main.go"), filepath.Join(dir, ".main.go.swp")
	write(t, file, "one")
	groups := watching(t, Root{Path: dir})

	// An editor that saves by renaming.
	write(t, temporary, "two")
	if err := os.Rename(temporary, file); err != nil {
		t.Fatal(err)
	}
	until(t, groups, file)

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	until(t, groups, file)
}

func TestNewFoldersAreWatched(t *testing.T) {
	dir := t.TempDir()
	groups := watching(t, Root{Path: dir, Skip: func(folder string) bool { return filepath.Base(folder) == "skipped" }})
	deep := filepath.Join(dir, "a", "b", "c.txt")
	write(t, deep, "one")
	until(t, groups, deep)
	write(t, deep, "two")
	until(t, groups, deep)

	write(t, filepath.Join(dir, "skipped", "x"), "one")
	last := filepath.Join(dir, "last")
	write(t, last, "one")
	if group := until(t, groups, last); slices.Contains(group, filepath.Join(dir, "skipped", "x")) {
		t.Errorf("a skipped folder is watched: %v", group)
	}
}

func TestFileIsWatchedOverItsReplacement(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	write(t, file, "one")
	groups := watching(t, Root{Path: file})
	for range 3 {
		write(t, file+"~", "next")
		if err := os.Rename(file+"~", file); err != nil {
			t.Fatal(err)
		}
		until(t, groups, file)
	}
}

func TestRootThatIsNotThere(t *testing.T) {
	if _, err := New([]Root{{Path: filepath.Join(t.TempDir(), "none")}}); err == nil {
		t.Error("it is watched")
	}
}
