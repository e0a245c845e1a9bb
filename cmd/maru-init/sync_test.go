package main

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func archived(t testing.TB, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		content := []byte("content of " + filepath.Base(h.Name))
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

// TestPack: what is packed is what is received again elsewhere.
func TestPack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(from, "deep", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "deep", "file"), []byte("text"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("deep/file", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(from, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	var packed, moved bytes.Buffer
	if err := pack(from, &packed); err != nil {
		t.Fatal(err)
	}
	in, out := tar.NewReader(&packed), tar.NewWriter(&moved)
	for {
		h, err := in.Next()
		if err != nil {
			break
		}
		h.Name = filepath.Join(to, h.Name)
		if err := out.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(out, in); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := receive(&moved); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "link")); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
	info, err := os.Stat(filepath.Join(to, "deep", "file"))
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(to, "deep", "empty")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(to, "pipe")); err == nil {
		t.Error("a pipe was packed")
	}
	if err := pack(filepath.Join(from, "none"), io.Discard); err == nil {
		t.Error("a folder that is not there is packed")
	}
}

func TestReceive(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"old/deep/file": "x", "folder/inside": "x", "stays": "x", "replaced": "before"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	err := receive(archived(t,
		tar.Header{Name: dir + "/new/a.txt", Typeflag: tar.TypeReg, Mode: 0o640},
		tar.Header{Name: dir + "/replaced", Typeflag: tar.TypeReg, Mode: 0o755},
		tar.Header{Name: dir + "/folder", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: dir + "/link", Typeflag: tar.TypeSymlink, Linkname: "stays"},
		tar.Header{Name: dir + "/empty", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: dir + "/.wh.old", Typeflag: tar.TypeReg},
		tar.Header{Name: dir + "/.wh.never-was", Typeflag: tar.TypeReg},
	))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"new/a.txt": "content of a.txt", "replaced": "content of replaced", "folder": "content of folder", "link": "x", "stays": "x"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "replaced")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the mode is not taken over: %v, %v", info, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "old")); !os.IsNotExist(err) {
		t.Errorf("what was deleted is still there: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".maru-sync-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestReceiveRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, header := range map[string]tar.Header{
		"a device":          {Name: dir + "/null", Typeflag: tar.TypeChar},
		"an empty whiteout": {Name: dir + "/.wh.", Typeflag: tar.TypeReg},
		"a whiteout of ..":  {Name: dir + "/.wh...", Typeflag: tar.TypeReg},
	} {
		if receive(archived(t, header)) == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if receive(bytes.NewReader(bytes.Repeat([]byte("x"), 1024))) == nil {
		t.Error("what is no archive is taken")
	}
}

func TestRestartKeepsTheProcess(t *testing.T) {
	r := restarter{}
	if r.ended() {
		t.Error("a program that ended by itself is started again")
	}
	r.asked = true
	if !r.ended() || r.asked {
		t.Error("a program that was asked to end is not started again, or more than once")
	}
}
