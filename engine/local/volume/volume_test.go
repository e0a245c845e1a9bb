package volume_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/volume"
)

var id = maru.VolumeID{Scope: maru.Scope{Project: "p", Environment: "e", App: "a"}, Volume: "v"}

func open(t testing.TB) (*volume.Store, string) {
	t.Helper()
	root := t.TempDir()
	s := volume.New(root)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	return s, root
}

// image lends a folder.
func image(root string) volume.Image {
	return func(_ context.Context, use func(string) error) error { return use(root) }
}

// write makes a tree with one of everything.
func write(t testing.TB, root string) {
	t.Helper()
	old := time.Date(2020, 2, 3, 4, 5, 6, 789, time.UTC)
	steps := []error{
		os.MkdirAll(filepath.Join(root, "deep/er"), 0o755),
		os.WriteFile(filepath.Join(root, "deep/file"), []byte("content"), 0o600),
		os.WriteFile(filepath.Join(root, "empty"), nil, 0o644),
		os.Symlink("deep/file", filepath.Join(root, "link")),
		os.Symlink("/etc/passwd", filepath.Join(root, "absolute")),
		os.Link(filepath.Join(root, "deep/file"), filepath.Join(root, "hard")),
		unix.Mkfifo(filepath.Join(root, "pipe"), 0o622),
		unix.Mknod(filepath.Join(root, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Lchown(filepath.Join(root, "deep/file"), 1000, 1001),
		os.Lchown(filepath.Join(root, "link"), 1002, 1003),
		os.Lchown(filepath.Join(root, "deep"), 1004, 1005),
		unix.Chmod(filepath.Join(root, "empty"), 0o4755),
		unix.Chmod(filepath.Join(root, "deep"), 0o1770),
		unix.Setxattr(filepath.Join(root, "deep/file"), "user.note", []byte("kept\x00too"), 0),
		os.Chtimes(filepath.Join(root, "empty"), old, old),
		os.Chtimes(filepath.Join(root, "deep/er"), old, old),
		os.Chown(root, 7, 8),
		os.Chmod(root, 0o750),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
}

// list describes a tree, one line an entry.
func list(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		fmt.Fprintf(&b, "%s %o %d:%d", name, st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			note := make([]byte, 100)
			n, _ := unix.Getxattr(path, "user.note", note)
			fmt.Fprintf(&b, " %q links %d note %q", content, st.Nlink, note[:max(n, 0)])
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&b, " -> %s", target)
		case unix.S_IFCHR:
			fmt.Fprintf(&b, " %d", st.Rdev)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestStartsAsCopyOfTheImage(t *testing.T) {
	s, _ := open(t)
	root := t.TempDir()
	write(t, filepath.Join(root, "data"))
	path, err := s.Ensure(t.Context(), id, image(root), "/data")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list(t, filepath.Join(root, "data")), list(t, path)); diff != "" {
		t.Error(diff)
	}
	if err := os.Remove(filepath.Join(path, "empty")); err != nil {
		t.Fatal(err)
	}
	before := list(t, path)
	if again, err := s.Ensure(t.Context(), id, image(root), "/data"); err != nil || again != path || list(t, path) != before {
		t.Errorf("a volume that has content is changed: %v", err)
	}
}

func TestCopiesWhatIsInTheImageOnly(t *testing.T) {
	s, _ := open(t)
	root := t.TempDir()
	if err := errors.Join(os.Symlink("/etc", filepath.Join(root, "data")), os.WriteFile(filepath.Join(root, "file"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/data", "/file", "/nothing"} {
		path, err := s.EnsureAnonymous(t.Context(), "web-1-aaaaa", image(root), target)
		if err != nil {
			t.Fatal(err)
		}
		if got := list(t, path); got != ". 40755 0:0\n" {
			t.Errorf("%s: %s", target, got)
		}
	}
}

// TestFillsWhatIsEmpty keeps the folder, which may be mounted.
func TestFillsWhatIsEmpty(t *testing.T) {
	s, root := open(t)
	path, err := s.Ensure(t.Context(), id, image(t.TempDir()), "/nothing")
	if err != nil {
		t.Fatal(err)
	}
	var before, after unix.Stat_t
	if err := unix.Stat(path, &before); err != nil {
		t.Fatal(err)
	}
	from := t.TempDir()
	write(t, filepath.Join(from, "data"))
	if _, err := s.Ensure(t.Context(), id, image(from), "/data"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(path, &after); err != nil || before.Ino != after.Ino {
		t.Errorf("another folder: %v", err)
	}
	if diff := cmp.Diff(list(t, filepath.Join(from, "data")), list(t, path)); diff != "" {
		t.Error(diff)
	}
	// As if a crash had come between the moves.
	folder := filepath.Dir(path)
	if err := errors.Join(os.Mkdir(filepath.Join(folder, "fill"), 0o750), os.Chown(filepath.Join(folder, "fill"), 7, 8),
		os.Rename(filepath.Join(path, "deep"), filepath.Join(folder, "fill", "deep"))); err != nil {
		t.Fatal(err)
	}
	s = volume.New(root)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ensure(t.Context(), id, nil, "/data"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list(t, filepath.Join(from, "data")), list(t, path)); diff != "" {
		t.Error(diff)
	}
}

func TestFailedCopyLeavesNothing(t *testing.T) {
	s, root := open(t)
	broken := func(_ context.Context, use func(string) error) error {
		from := t.TempDir()
		write(t, filepath.Join(from, "data"))
		return errors.Join(use(from), errors.New("the image went away"))
	}
	if _, err := s.Ensure(t.Context(), id, broken, "/data"); err == nil {
		t.Fatal("no error")
	}
	if _, err := s.Path(id); maru.KindOf(err) != maru.NotFound {
		t.Errorf("the volume is there: %v", err)
	}
	if found, _ := filepath.Glob(filepath.Join(root, "named/*/*/*/*/*")); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
}

func TestOpenRemovesWhatIsHalfMade(t *testing.T) {
	s, root := open(t)
	if _, err := s.Ensure(t.Context(), id, nil, "/"); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(root, "named/p/e/a/v/data.tmpXYZ")
	trash := filepath.Join(root, "trash/XYZ")
	if err := errors.Join(os.Mkdir(half, 0o700), os.Mkdir(trash, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := volume.New(root).Open(); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{half, trash} {
		if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", folder, err)
		}
	}
	if _, err := s.Path(id); err != nil {
		t.Error(err)
	}
}

func TestListAndRemove(t *testing.T) {
	s, root := open(t)
	shared := maru.VolumeID{Scope: maru.Scope{Project: "p", Environment: "e"}, Volume: "shared"}
	began := time.Now().Add(-time.Minute)
	for _, id := range []maru.VolumeID{id, shared} {
		path, err := s.Ensure(t.Context(), id, nil, "/")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "file"), make([]byte, 100_000), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(path, "file"), filepath.Join(path, "again")); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != shared || all[1].ID != id {
		t.Fatalf("%+v, %v", all, err)
	}
	if all[0].Bytes < 100_000 || all[0].Bytes > 150_000 || all[0].Created.Before(began) {
		t.Errorf("%+v", all[0])
	}
	deleteContent, err := s.Remove(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(id); maru.KindOf(err) != maru.NotFound {
		t.Error(err)
	}
	if err := deleteContent(); err != nil {
		t.Error(err)
	}
	if found, _ := filepath.Glob(filepath.Join(root, "trash/*")); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
	if _, err := s.Path(shared); err != nil {
		t.Error(err)
	}
}

func TestAnonymous(t *testing.T) {
	s, root := open(t)
	for _, c := range []struct{ instance, target string }{
		{"web-1-aaaaa", "/var/lib/x"}, {"web-1-aaaaa", "/var/lib%2Fx"}, {"web-1-bbbbb", "/var/lib/x"},
	} {
		if _, err := s.EnsureAnonymous(t.Context(), c.instance, nil, c.target); err != nil {
			t.Fatal(err)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(root, "anonymous/*/*")); len(found) != 3 {
		t.Errorf("%v", found)
	}
	if err := s.KeepAnonymous(map[string]bool{"web-1-bbbbb": true}); err != nil {
		t.Fatal(err)
	}
	if found, _ := filepath.Glob(filepath.Join(root, "anonymous/*/*")); len(found) != 1 || !strings.Contains(found[0], "bbbbb") {
		t.Errorf("%v", found)
	}
	if err := errors.Join(s.RemoveAnonymous("web-1-bbbbb"), s.RemoveAnonymous("web-1-bbbbb")); err != nil {
		t.Error(err)
	}
}

func TestExportAndImport(t *testing.T) {
	s, _ := open(t)
	path, err := s.Ensure(t.Context(), id, nil, "/")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path)
	var archive bytes.Buffer
	if err := s.Export(t.Context(), id, &archive); err != nil {
		t.Fatal(err)
	}
	copied := id
	copied.Volume = "copy"
	if err := s.Import(t.Context(), copied, bytes.NewReader(archive.Bytes())); err != nil {
		t.Fatal(err)
	}
	there, err := s.Path(copied)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list(t, path), list(t, there)); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"empty", "deep/er"} {
		a, _ := os.Stat(filepath.Join(path, name))
		b, _ := os.Stat(filepath.Join(there, name))
		if !a.ModTime().Equal(b.ModTime()) {
			t.Errorf("%s: %s, and then %s", name, a.ModTime(), b.ModTime())
		}
	}
	if err := s.Import(t.Context(), copied, bytes.NewReader(archive.Bytes())); maru.KindOf(err) != maru.Exists {
		t.Error(err)
	}
	if err := s.Export(t.Context(), maru.VolumeID{Scope: id.Scope, Volume: "none"}, &archive); maru.KindOf(err) != maru.NotFound {
		t.Error(err)
	}
}

func TestImportStaysInside(t *testing.T) {
	outside := t.TempDir()
	for name, entries := range map[string][]tar.Header{
		"name":           {{Name: "../x", Typeflag: tar.TypeReg}},
		"hard link":      {{Name: "x", Linkname: "../../../../../../../../etc/passwd", Typeflag: tar.TypeLink}},
		"through a link": {{Name: "x", Linkname: outside, Typeflag: tar.TypeSymlink}, {Name: "x/y", Typeflag: tar.TypeReg}},
		"link to a link": {{Name: "x", Linkname: outside, Typeflag: tar.TypeSymlink}, {Name: "y", Linkname: "x/z", Typeflag: tar.TypeLink}},
		"device":         {{Name: "x", Linkname: outside, Typeflag: tar.TypeSymlink}, {Name: "x/null", Typeflag: tar.TypeFifo}},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := open(t)
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			for _, header := range entries {
				if err := w.WriteHeader(&header); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.Import(t.Context(), id, &archive); err == nil {
				t.Error("no error")
			}
			if _, err := s.Path(id); maru.KindOf(err) != maru.NotFound {
				t.Errorf("the volume is there: %v", err)
			}
			if found, _ := os.ReadDir(outside); len(found) > 0 {
				t.Errorf("outside: %v", found)
			}
		})
	}
}

func FuzzImport(f *testing.F) {
	s, _ := open(f)
	path, err := s.Ensure(f.Context(), id, nil, "/")
	if err != nil {
		f.Fatal(err)
	}
	write(f, path)
	var archive bytes.Buffer
	if err := s.Export(f.Context(), id, &archive); err != nil {
		f.Fatal(err)
	}
	f.Add(archive.Bytes())
	f.Add([]byte("not an archive"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, root := open(t)
		err := s.Import(t.Context(), id, bytes.NewReader(data))
		_, there := s.Path(id)
		if (err == nil) != (there == nil) {
			t.Fatalf("import: %v, and then %v", err, there)
		}
		entries, readErr := os.ReadDir(root)
		if readErr != nil || len(entries) != 3 {
			t.Fatalf("in the root: %v, %v", entries, readErr)
		}
	})
}
