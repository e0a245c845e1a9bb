package budget

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		b  Budget
		ok bool
	}{
		"defaults":     {Budget{}, true},
		"all":          {Budget{CPUs: 0.5, Weight: 100, Memory: 1 << 30, PIDs: 100}, true},
		"no CPU":       {Budget{CPUs: 0.01}, false},
		"heavy":        {Budget{Weight: 10001}, false},
		"light":        {Budget{Weight: -1}, false},
		"no memory":    {Budget{Memory: 1 << 20}, false},
		"no processes": {Budget{PIDs: 3}, false},
	} {
		if err := c.b.Validate(); (err == nil) != c.ok || err != nil && maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSettings(t *testing.T) {
	b := Budget{CPUs: 1.5, Weight: 10, Memory: 1 << 30, PIDs: 100}
	legacy := hierarchies{legacy: map[string]string{"cpu": "/c/cpu", "memory": "/c/memory", "blkio": "/c/blkio", "pids": "/c/pids", "cpuacct": "/c/cpu"}}
	unified := hierarchies{unified: "/u"}
	for name, c := range map[string]struct {
		h    hierarchies
		want []setting
	}{
		"version 1": {legacy, []setting{{"/c/cpu/m/builder/cpu.cfs_quota_us", "150000"}, {"/c/cpu/m/builder/cpu.shares", "102"},
			{"/c/memory/m/builder/memory.limit_in_bytes", "1073741824"}, {"/c/pids/m/builder/pids.max", "100"}, {"/c/blkio/m/builder/blkio.weight", "10"}}},
		"version 2": {unified, []setting{{"/u/m/builder/cpu.max", "150000 100000"}, {"/u/m/builder/cpu.weight", "10"}, {"/u/m/builder/memory.max", "1073741824"},
			{"/u/m/builder/memory.swap.max", "0"}, {"/u/m/builder/pids.max", "100"}, {"/u/m/builder/io.weight", "10"},
			{"/u/cgroup.subtree_control", "+memory"}, {"/u/m/cgroup.subtree_control", "+cpu"}, {"/u/m/builder/cgroup.subtree_control", "+pids"}}},
	} {
		got := map[setting]bool{}
		for _, s := range c.h.settings("/m/builder", b) {
			got[s] = true
		}
		for _, want := range c.want {
			if !got[want] {
				t.Errorf("%s lacks %v", name, want)
			}
		}
	}
	if got := legacy.folders("/m"); strings.Join(got, " ") != "/c/blkio/m /c/cpu/m /c/memory/m /c/pids/m" {
		t.Error(got)
	}
}

// TestRemoveKills has a process in a group, and one in a group below.
func TestRemoveKills(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cgroups need root")
	}
	cgroup := "/mbudget" + strings.ToLower(filepath.Base(t.TempDir())) + "/builder"
	t.Cleanup(func() {
		if err := Remove(cgroup); err != nil {
			t.Error(err)
		}
	})
	if err := Apply(cgroup, Budget{}, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	h, err := mounted()
	if err != nil {
		t.Fatal(err)
	}
	var processes []*exec.Cmd
	for _, child := range []string{"a", "a/b", "kept"} {
		if h.unified != "" && child == "a" {
			continue // version 2 has processes at the ends only
		}
		for _, dir := range h.folders(filepath.Join(cgroup, child)) {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sleep", "1h")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		processes = append(processes, cmd)
		for _, dir := range h.folders(filepath.Join(cgroup, child)) {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(maru.Itoa(cmd.Process.Pid)), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	ended := make(chan int, len(processes))
	for i, cmd := range processes {
		go func() {
			_ = cmd.Wait()
			ended <- i
		}()
	}
	kept := len(processes) - 1
	if err := RemoveChildren(cgroup, "kept"); err != nil {
		t.Error(err)
	}
	for range kept {
		if i := <-ended; i == kept {
			t.Error("what was to be kept was killed")
		}
	}
	if err := Remove(cgroup); err != nil {
		t.Error(err)
	}
	<-ended
	if left, _ := filepath.Glob("/sys/fs/cgroup/*" + filepath.Dir(cgroup)); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
