// Package budget bounds what builds may use of a machine, by one cgroup that holds the builder and
// every container it makes. It knows cgroup version 1, version 2 and the hybrid of both.
package budget

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// Budget is what all builds together may use. Zero values are the defaults.
type Budget struct {
	CPUs     float64 // limit, in cores; 0: all of them
	Weight   int     // share of the CPU and the disk when others want them too, 1 to 10000 where an instance has 100; 0: 10
	Memory   int64   // limit, bytes; 0: half of the machine's
	PIDs     int64   // limit; 0: 8192
	KeepNice bool    // leave the process's scheduling priorities as they are
}

// Defaults of a Budget.
const (
	defaultWeight = 10
	defaultPIDs   = 8192
)

// WithDefaults fills what is zero.
func (b Budget) WithDefaults() Budget {
	if b.CPUs == 0 {
		b.CPUs = float64(runtime.NumCPU())
	}
	if b.Weight == 0 {
		b.Weight = defaultWeight
	}
	if b.PIDs == 0 {
		b.PIDs = defaultPIDs
	}
	if b.Memory == 0 {
		var info unix.Sysinfo_t
		if unix.Sysinfo(&info) == nil {
			b.Memory = int64(uint64(info.Totalram)*uint64(info.Unit)) / 2
		}
	}
	return b
}

// Validate tells what is wrong, as Invalid.
func (b Budget) Validate() error {
	b = b.WithDefaults()
	switch {
	case b.CPUs < 0.1:
		return maru.Errorf(maru.Invalid, "a build budget of %g CPUs is less than a tenth of one", b.CPUs)
	case b.Weight < 1 || b.Weight > 10000:
		return maru.Errorf(maru.Invalid, "a build weight of %d is not within 1 and 10000", b.Weight)
	case b.Memory < 256<<20:
		return maru.Errorf(maru.Invalid, "a build budget of %d bytes of memory is less than 256 MiB", b.Memory)
	case b.PIDs < 64:
		return maru.Errorf(maru.Invalid, "a build budget of %d processes is less than 64", b.PIDs)
	}
	return nil
}

// period is the scheduler's, in microseconds.
const period = 100_000

// Apply makes the cgroup and gives it the budget. What the kernel does not have is logged and done
// without.
func Apply(cgroup string, b Budget, log *slog.Logger) error {
	h, err := mounted()
	if err != nil {
		return err
	}
	b = b.WithDefaults()
	for _, dir := range h.folders(cgroup) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	for _, s := range h.settings(cgroup, b) {
		err := set(s)
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			log.Debug("a limit on builds is not in this kernel", "file", s.file)
		default:
			log.Warn("a limit on builds is not in force", "file", s.file, "value", s.value, "error", err)
		}
	}
	return nil
}

func set(s setting) error {
	f, err := os.OpenFile(s.file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(s.value)
	return err
}

// Enter moves this process into the cgroup's child of the given name: in version 2 a group has either
// processes or children. Its threads get the lowest priorities that still make progress.
func Enter(cgroup, child string, b Budget) error {
	h, err := mounted()
	if err != nil {
		return err
	}
	for _, dir := range h.folders(filepath.Join(cgroup, child)) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		pid := strconv.Itoa(os.Getpid())
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pid), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	if b.KeepNice {
		return nil
	}
	return lowerPriorities()
}

// Priorities of the builder's threads: of the CPU, and best-effort's lowest of the disk.
const (
	niceness   = 10
	ioPriority = 2<<13 | 7
)

// lowerPriorities changes each thread: threads to come and child processes inherit from them.
func lowerPriorities() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("lower priorities: %w", err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, niceness); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("lower priority: %w", err)
		}
		const whoProcess = 1
		if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), ioPriority); errno != 0 && errno != unix.ESRCH {
			return fmt.Errorf("lower disk priority: %w", errno)
		}
	}
	return nil
}

// Remove kills all that is in the cgroup and below, and removes it, and its parent when that is empty.
// What is not there is no error.
func Remove(cgroup string) error {
	h, err := mounted()
	if err != nil {
		return err
	}
	var failed []error
	for _, dir := range h.everywhere(cgroup) {
		failed = append(failed, removeTree(dir, time.Now().Add(5*time.Second)))
		_ = unix.Rmdir(filepath.Dir(dir)) // the parent is anybody's: it goes with the last
	}
	return errors.Join(failed...)
}

// RemoveChildren does the same for the groups right below the cgroup, but for those in keep.
func RemoveChildren(cgroup string, keep ...string) error {
	h, err := mounted()
	if err != nil {
		return err
	}
	var failed []error
	for _, dir := range h.everywhere(cgroup) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(keep, e.Name()) {
				failed = append(failed, removeTree(filepath.Join(dir, e.Name()), time.Now().Add(5*time.Second)))
			}
		}
	}
	return errors.Join(failed...)
}

func removeTree(dir string, deadline time.Time) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name()), deadline); err != nil {
				return err
			}
		}
	}
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
		kill(dir)
		time.Sleep(2 * time.Millisecond)
	}
}

func kill(dir string) {
	file, err := os.Open(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if pid, err := strconv.Atoi(strings.TrimSpace(s.Text())); err == nil && pid > 1 && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
