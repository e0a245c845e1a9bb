// Package cgroup reads and steers the cgroups of instances, in version 1, version 2 and the hybrid
// of both. Paths are absolute within the hierarchies, such as /maru/instances/web-3-abcde.1; the OCI
// runtime makes the groups and sets their limits.
package cgroup

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// Hierarchies are the mounted cgroup file systems of this machine.
type Hierarchies struct {
	unified     string            // version 2's mount point, if it is the only one or beside version 1
	controllers map[string]string // version 1's mount points by controller
	own         string            // cgroup.procs of version 1 with this process; "": all is in version 2
}

// Usage is what a group has used and may use. Zero limits are none.
type Usage struct {
	CPU         time.Duration
	Memory      int64 // working set, bytes
	MemoryLimit int64
	PIDs        int64
	ReadBytes   int64
	WriteBytes  int64
}

// unlimited is where version 1's "no limit" begins: it is given as the largest number of whole pages.
const unlimited = 1 << 62

// Open finds the hierarchies.
func Open() (*Hierarchies, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := &Hierarchies{controllers: make(map[string]string)}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		place, kind := strings.Fields(before), strings.Fields(after)
		if len(place) < 5 || len(kind) < 3 {
			continue
		}
		switch kind[0] {
		case "cgroup2":
			h.unified = place[4]
		case "cgroup":
			for _, option := range strings.Split(kind[2], ",") {
				h.controllers[option] = place[4]
			}
		}
	}
	if h.unified == "" && h.controllers["memory"] == "" {
		return nil, maru.WithHint(maru.Errorf(maru.Unsupported, "no cgroup file system is mounted"),
			"mount cgroup2 at /sys/fs/cgroup, as every current distribution does at boot")
	}
	if !h.Unified() {
		h.own = findOwn(h.controllers)
	}
	return h, nil
}

// Unified tells whether all controllers are in version 2.
func (h *Hierarchies) Unified() bool { return h.controllers["memory"] == "" }

// Usage reads the group's counters; NotFound when it is gone. What a kernel does not count stays 0.
func (h *Hierarchies) Usage(path string) (Usage, error) {
	if h.Unified() {
		return h.usageUnified(filepath.Join(h.unified, path))
	}
	return h.usageLegacy(path)
}

// OOMKills gives how many processes of the group the kernel killed for want of memory; 0 if the group
// is gone.
func (h *Hierarchies) OOMKills(path string) int64 {
	file := filepath.Join(h.controllers["memory"], path, "memory.oom_control")
	if h.Unified() {
		file = filepath.Join(h.unified, path, "memory.events")
	}
	values, err := readFlat(file)
	if err != nil {
		return 0
	}
	return values["oom_kill"]
}

// cpuPeriod is the stretch of time, in microseconds, in which a group may use its share of it.
const cpuPeriod, leastQuota = 100_000, 1_000

// LimitCPU lets the group use so many cores' time; NotFound when it is gone.
func (h *Hierarchies) LimitCPU(path string, cores float64) error {
	quota := strconv.Itoa(max(int(cores*cpuPeriod), leastQuota))
	return h.limitCPU(path, quota, quota)
}

// UnlimitCPU lets the group use all the time there is; NotFound when it is gone.
func (h *Hierarchies) UnlimitCPU(path string) error { return h.limitCPU(path, "-1", "max") }

// limitCPU sets the group's quota, in the words of version 1 or of version 2.
func (h *Hierarchies) limitCPU(path, legacy, unified string) error {
	period := strconv.Itoa(cpuPeriod)
	if h.controllers["cpu"] == "" {
		return gone(path, os.WriteFile(filepath.Join(h.unified, path, "cpu.max"), []byte(unified+" "+period), 0))
	}
	folder := filepath.Join(h.controllers["cpu"], path)
	if err := os.WriteFile(filepath.Join(folder, "cpu.cfs_period_us"), []byte(period), 0); err != nil {
		return gone(path, err)
	}
	return gone(path, os.WriteFile(filepath.Join(folder, "cpu.cfs_quota_us"), []byte(legacy), 0))
}

// Freeze stops all processes of the group and returns when they stand still.
func (h *Hierarchies) Freeze(path string) error {
	return h.freezer(path, "FROZEN", "1", time.Now().Add(5*time.Second))
}

// Thaw lets a frozen group go on.
func (h *Hierarchies) Thaw(path string) error {
	return h.freezer(path, "THAWED", "0", time.Now().Add(5*time.Second))
}

func (h *Hierarchies) freezer(path, legacy, unified string, deadline time.Time) error {
	file, value := filepath.Join(h.controllers["freezer"], path, "freezer.state"), legacy
	settled := func() bool {
		state, err := os.ReadFile(file)
		return err == nil && strings.TrimSpace(string(state)) == legacy
	}
	if h.controllers["freezer"] == "" {
		folder := filepath.Join(h.unified, path)
		file, value = filepath.Join(folder, "cgroup.freeze"), unified
		settled = func() bool {
			events, err := readFlat(filepath.Join(folder, "cgroup.events"))
			return err == nil && strconv.FormatInt(events["frozen"], 10) == unified
		}
	}
	for {
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			return gone(path, err)
		}
		if settled() {
			return nil
		}
		if time.Now().After(deadline) {
			return maru.Errorf(maru.Unavailable, "processes of %s do not stand still", path)
		}
		time.Sleep(time.Millisecond)
	}
}

// Children lists the names of the groups right below path, in any hierarchy, sorted.
func (h *Hierarchies) Children(path string) []string {
	var names []string
	for _, mount := range h.mounts() {
		entries, err := os.ReadDir(filepath.Join(mount, path))
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if entry.IsDir() {
				names = append(names, entry.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Remove kills what is in the group and the groups below it, and removes them. Removing what is gone
// is no error.
func (h *Hierarchies) Remove(path string) error {
	var failed []error
	for _, mount := range h.mounts() {
		failed = append(failed, remove(filepath.Join(mount, path), time.Now().Add(2*time.Second)))
	}
	return errors.Join(failed...)
}

// Kill ends all processes in the group but some, and returns when they are gone. Killing what is gone is no error.
func (h *Hierarchies) Kill(path string, but ...int) error {
	for deadline := time.Now().Add(5 * time.Second); ; {
		left := 0
		for _, mount := range h.mounts() {
			left += killAll(filepath.Join(mount, path), but...)
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return maru.Errorf(maru.Unavailable, "%d processes of %s do not end", left, path)
		}
		time.Sleep(time.Millisecond)
	}
}

func (h *Hierarchies) mounts() []string {
	var mounts []string
	for _, mount := range h.controllers {
		mounts = append(mounts, mount)
	}
	if h.unified != "" {
		mounts = append(mounts, h.unified)
	}
	slices.Sort(mounts)
	return slices.Compact(mounts)
}

func remove(folder string, deadline time.Time) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := remove(filepath.Join(folder, entry.Name()), deadline); err != nil {
				return err
			}
		}
	}
	for {
		err := os.Remove(folder)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		killAll(folder)
		time.Sleep(time.Millisecond)
	}
}

// killAll kills what is in the group right now but some, and tells how many that was. A group at its limit of
// processor time would take long to end: the limit is lifted.
func killAll(folder string, but ...int) int {
	for file, none := range map[string]string{"cpu.cfs_quota_us": "-1", "cpu.max": "max"} {
		if f, err := os.OpenFile(filepath.Join(folder, file), os.O_WRONLY, 0); err == nil {
			_, _ = f.WriteString(none)
			_ = f.Close()
		}
	}
	pids, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
	if err != nil {
		return 0
	}
	killed := 0
	for field := range strings.FieldsSeq(string(pids)) {
		pid, err := strconv.Atoi(field)
		if err != nil || pid <= 0 || slices.Contains(but, pid) {
			continue
		}
		_ = unix.Kill(pid, unix.SIGKILL) // it may just have ended
		killed++
	}
	return killed
}

// Has tells whether groups have the file of a controller, named so in version 1 and version 2. The
// root group lacks some files, so it looks at the groups below.
func (h *Hierarchies) Has(controller, legacy, unified string) bool {
	mount, name := h.controllers[controller], legacy
	if mount == "" {
		mount, name = h.unified, unified
	}
	if mount == "" {
		return false
	}
	if _, err := os.Stat(filepath.Join(mount, name)); err == nil {
		return true
	}
	found, err := filepath.Glob(filepath.Join(mount, "*", name))
	return err == nil && len(found) > 0
}
