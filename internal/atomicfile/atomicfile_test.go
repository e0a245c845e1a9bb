package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/marucloud/maru"
)

func TestWriteReplacesWithExactMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, c := range []struct {
		data string
		mode fs.FileMode
	}{{"one", 0o600}, {"", 0o644}, {"three", 0o400}, {"four", 0o666}} {
		if err := Write(path, []byte(c.data), c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil || string(got) != c.data {
			t.Errorf("read %q, %v; wrote %q", got, err, c.data)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != c.mode {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, c.mode)
		}
	}
	onlyFile(t, path)
}

func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("beside %s: %v, %v", path, entries, err)
	}
}

func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("no more")
	err := WriteFunc(path, 0o600, func(w io.Writer) error {
		_, _ = w.Write([]byte("ne"))
		return cause
	})
	if !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	if got, _ := Read(path); string(got) != "old" {
		t.Errorf("content %q", got)
	}
	onlyFile(t, path)
}

func TestReadMissing(t *testing.T) {
	_, err := Read(filepath.Join(t.TempDir(), "none"))
	if maru.KindOf(err) != maru.NotFound || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

func TestMkdirAll(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(path, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "a")); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("%v, %v", info, err)
	}
	if err := Write(filepath.Join(root, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(filepath.Join(root, "f"), 0o700); err == nil {
		t.Error("a folder was made where a file is")
	}
}

func TestConcurrentWritersAndReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 10_000) }
	if err := Write(path, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for range 10 {
				if err := Write(path, content(i), 0o600); err != nil {
					t.Error(err)
				}
				got, err := Read(path)
				if err != nil || len(got) != 10_000 || !bytes.Equal(got, content(int(got[0]-'a'))) {
					t.Errorf("a reader saw a mixture of %d bytes, %v", len(got), err)
				}
			}
		})
	}
	writers.Wait()
	onlyFile(t, path)
}

// TestChild is killed at a crash point, when run by TestKilled.
func TestChild(t *testing.T) {
	path := os.Getenv("ATOMICFILE_TEST_PATH")
	if path == "" {
		t.Skip("runs as the child of TestKilled")
	}
	if err := Write(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKilled(t *testing.T) {
	for point, want := range map[string]string{"before": "old", "after": "new"} {
		path := filepath.Join(t.TempDir(), "file")
		if err := Write(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
		cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_PATH="+path, fmt.Sprintf("MARU_CRASH=atomicfile.rename.%s", point))
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Fatalf("the child lived: %s", out)
		}
		if got, err := Read(path); err != nil || string(got) != want {
			t.Errorf("killed %s the rename: %q, %v", point, got, err)
		}
		if err := Clean(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
		onlyFile(t, path)
	}
}
