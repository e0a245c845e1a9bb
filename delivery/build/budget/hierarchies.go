package budget

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// hierarchies are the mounted cgroup file systems.
type hierarchies struct {
	unified string            // version 2, when it has the controllers
	legacy  map[string]string // version 1's mount points by controller
	mounts  []string          // all of them, those without a part in a budget too: runc makes groups in each
}

// governed are the controllers of version 1 that a budget uses, or that only the place of a process in
// them keeps apart.
var governed = []string{"cpu", "cpuacct", "memory", "blkio", "pids"}

func mounted() (hierarchies, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return hierarchies{}, fmt.Errorf("find cgroups: %w", err)
	}
	defer file.Close()
	h := hierarchies{legacy: map[string]string{}}
	for s := bufio.NewScanner(file); s.Scan(); {
		place, kind, _ := strings.Cut(s.Text(), " - ")
		fields, kinds := strings.Fields(place), strings.Fields(kind)
		if len(fields) < 5 || len(kinds) < 3 {
			continue
		}
		if kinds[0] == "cgroup" || kinds[0] == "cgroup2" {
			h.mounts = append(h.mounts, fields[4])
		}
		switch kinds[0] {
		case "cgroup2":
			h.unified = fields[4]
		case "cgroup":
			for _, option := range strings.Split(kinds[2], ",") {
				if slices.Contains(governed, option) {
					h.legacy[option] = fields[4]
				}
			}
		}
	}
	if h.legacy["memory"] != "" {
		h.unified = ""
	}
	if h.unified == "" && h.legacy["memory"] == "" {
		return h, maru.Errorf(maru.Unsupported, "no cgroup file system with the memory controller is mounted")
	}
	return h, nil
}

// folders are the cgroup's in each hierarchy, each once.
func (h hierarchies) folders(cgroup string) []string {
	if h.unified != "" {
		return []string{filepath.Join(h.unified, cgroup)}
	}
	var all []string
	for _, mount := range h.legacy {
		all = append(all, filepath.Join(mount, cgroup))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// everywhere are the cgroup's folders in all hierarchies, whether they are there or not.
func (h hierarchies) everywhere(cgroup string) []string {
	var all []string
	for _, mount := range h.mounts {
		all = append(all, filepath.Join(mount, cgroup))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

type setting struct{ file, value string }

// settings are the budget in the words of the kernel.
func (h hierarchies) settings(cgroup string, b Budget) []setting {
	quota := strconv.Itoa(int(b.CPUs * period))
	memory, pids := strconv.FormatInt(b.Memory, 10), strconv.FormatInt(b.PIDs, 10)
	if h.unified == "" {
		in := func(controller, file string) string { return filepath.Join(h.legacy[controller], cgroup, file) }
		return []setting{
			{in("cpu", "cpu.cfs_period_us"), strconv.Itoa(period)},
			{in("cpu", "cpu.cfs_quota_us"), quota},
			{in("cpu", "cpu.shares"), strconv.Itoa(max(2, b.Weight*1024/100))},
			{in("memory", "memory.limit_in_bytes"), memory},
			{in("memory", "memory.memsw.limit_in_bytes"), memory},
			{in("pids", "pids.max"), pids},
			{in("blkio", "blkio.bfq.weight"), strconv.Itoa(clamp(b.Weight, 1, 1000))},
			{in("blkio", "blkio.weight"), strconv.Itoa(clamp(b.Weight, 10, 1000))},
		}
	}
	all := h.delegations(cgroup)
	in := func(file string) string { return filepath.Join(h.unified, cgroup, file) }
	return append(all,
		setting{in("cpu.max"), quota + " " + strconv.Itoa(period)},
		setting{in("cpu.weight"), strconv.Itoa(b.Weight)},
		setting{in("memory.max"), memory},
		setting{in("memory.swap.max"), "0"},
		setting{in("memory.high"), strconv.FormatInt(b.Memory/10*9, 10)},
		setting{in("pids.max"), pids},
		setting{in("io.bfq.weight"), strconv.Itoa(clamp(b.Weight, 1, 1000))},
		setting{in("io.weight"), strconv.Itoa(b.Weight)},
	)
}

// delegations hand the controllers down to the cgroup and to what will be below it.
func (h hierarchies) delegations(cgroup string) []setting {
	var all []setting
	at := h.unified
	for _, part := range append([]string{""}, strings.Split(strings.Trim(cgroup, "/"), "/")...) {
		at = filepath.Join(at, part)
		for _, controller := range []string{"cpu", "memory", "io", "pids"} {
			all = append(all, setting{filepath.Join(at, "cgroup.subtree_control"), "+" + controller})
		}
	}
	return all
}

func clamp(n, low, high int) int { return min(max(n, low), high) }
