package cgroup_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/cgroup"
)

// newGroup makes a group of its own in all hierarchies.
func newGroup(t *testing.T) (*cgroup.Hierarchies, string) {
	t.Helper()
	h, err := cgroup.Open()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/marutest%d", os.Getpid())
	mounts, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	if h.Unified() {
		mounts = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	for _, procs := range mounts {
		if err := os.MkdirAll(filepath.Join(filepath.Dir(procs), name, "child"), 0o755); err != nil && !errors.Is(err, os.ErrPermission) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := h.Remove(name); err != nil {
			t.Error(err)
		}
	})
	return h, name
}

// occupy runs a process in the group until the test ends.
func occupy(t *testing.T, h *cgroup.Hierarchies, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	pattern := filepath.Join("/sys/fs/cgroup/*", name, "child/cgroup.procs")
	if h.Unified() {
		pattern = filepath.Join("/sys/fs/cgroup", name, "child/cgroup.procs")
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(file)))) == "cpuset" {
			continue // takes no process before it is given CPUs
		}
		if err := os.WriteFile(file, []byte(fmt.Sprint(cmd.Process.Pid)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}

func TestGroup(t *testing.T) {
	h, name := newGroup(t)
	occupy(t, h, name)
	child := name + "/child"
	if got := h.Children(name); !slices.Equal(got, []string{"child"}) {
		t.Errorf("children %v", got)
	}
	used, err := h.Usage(child)
	if err != nil || used.PIDs != 1 {
		t.Errorf("%+v, %v", used, err)
	}
	if err := errors.Join(h.Freeze(child), h.Freeze(child), h.Thaw(child), h.Thaw(child)); err != nil {
		t.Error(err)
	}
	if err := errors.Join(h.LimitCPU(child, 0.5), h.UnlimitCPU(child), h.UnlimitCPU(child)); err != nil {
		t.Error(err)
	}
	if kills := h.OOMKills(child); kills != 0 {
		t.Errorf("%d processes killed for memory", kills)
	}
}

// TestHasten stays where it is.
func TestHasten(t *testing.T) {
	h, err := cgroup.Open()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	h.Hasten()()
	after, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || string(after) != string(before) {
		t.Errorf("it moved from\n%s to\n%s: %v", before, after, err)
	}
}

func TestKillAndRemove(t *testing.T) {
	h, name := newGroup(t)
	first := occupy(t, h, name)
	if err := h.Kill(name + "/child"); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err == nil {
		t.Error("it was not killed")
	}
	second := occupy(t, h, name)
	if err := h.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err == nil {
		t.Error("it was not killed")
	}
	if got := h.Children(name); len(got) > 0 {
		t.Errorf("children %v", got)
	}
	if err := errors.Join(h.Kill(name), h.Remove(name)); err != nil {
		t.Errorf("of what is gone: %v", err)
	}
	for what, err := range map[string]error{"freeze": h.Freeze(name), "thaw": h.Thaw(name), "limit": h.LimitCPU(name, 1), "unlimit": h.UnlimitCPU(name)} {
		if maru.KindOf(err) != maru.NotFound {
			t.Errorf("%s what is gone: %v", what, err)
		}
	}
	if _, err := h.Usage(name); maru.KindOf(err) != maru.NotFound {
		t.Errorf("usage of what is gone: %v", err)
	}
}
