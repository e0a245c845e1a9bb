package userns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// needNamespaces skips where no user namespace with other users can be made.
func needNamespaces(t testing.TB) {
	t.Helper()
	if err := Make(First, 0, func(string) error { return nil }); err != nil {
		t.Skip(err)
	}
}

func TestMake(t *testing.T) {
	needNamespaces(t)
	var kept *os.File
	err := Make(First+Size, unix.CLONE_NEWNET, func(process string) error {
		for _, kind := range []string{"uid_map", "gid_map"} {
			content, err := os.ReadFile(filepath.Join(process, kind))
			if err != nil {
				return err
			}
			if got, want := strings.Join(strings.Fields(string(content)), " "), fmt.Sprint("0 ", First+Size, " ", Size); got != want {
				t.Errorf("%s is %q, want %q", kind, got, want)
			}
		}
		var err error
		kept, err = os.Open(process + "/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	owner, err := unix.IoctlRetInt(int(kept.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(owner)
	ours, err := os.Stat("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	its, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d", owner))
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(ours, its) {
		t.Error("the host's user namespace owns the network")
	}
}

func TestMakeFails(t *testing.T) {
	needNamespaces(t)
	if err := Make(First, 0, func(string) error { return os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestTryFindsClosedFolders(t *testing.T) {
	closed := filepath.Join(t.TempDir(), "closed")
	folder := filepath.Join(closed, "open")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	err := Try(folder, "/nowhere")
	if maru.KindOf(err) != maru.Unsupported || !strings.Contains(err.Error(), "is closed to other users") {
		t.Errorf("%v", err)
	}
}

func TestTryFolder(t *testing.T) {
	needNamespaces(t)
	// Files of proc can't be shown with other owners.
	if err := TryFolder("/proc"); maru.KindOf(err) != maru.Unsupported {
		t.Errorf("%v", err)
	}
}

func TestTryRunsAProgramInAClosedFolder(t *testing.T) {
	needNamespaces(t)
	folder, err := os.MkdirTemp("/tmp", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	program := filepath.Join(folder, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho it ran\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Try("/", program); err == nil || !strings.Contains(err.Error(), "it ran") {
		t.Errorf("%v", err)
	}
}
