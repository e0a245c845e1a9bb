package worker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/delivery/build/budget"
	"github.com/marucloud/maru/delivery/build/buildnet"
	"github.com/marucloud/maru/internal/layout"
)

// clean removes what a worker that was killed left: containers, mounts and their folders.
func (w *Worker) clean() error {
	if err := budget.RemoveChildren(Cgroup(w.cfg.Layout), processGroup); err != nil {
		return err
	}
	if err := errors.Join(unmountBelow(w.runFolder()), forgetContainers(w.runFolder())); err != nil {
		return err
	}
	entries, err := os.ReadDir(w.runFolder())
	if err != nil {
		return fmt.Errorf("clean builder folder: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(w.runFolder(), e.Name())); err != nil {
			return fmt.Errorf("clean builder folder: %w", err)
		}
	}
	return nil
}

// Clean removes all that a worker of the installation has on the machine outside of its data: for
// when none runs, and none shall.
func Clean(l layout.Layout) error {
	l = l.Default()
	run := filepath.Join(l.Run, "builder")
	return errors.Join(
		budget.Remove(Cgroup(l)),
		buildnet.Clean(l.Name),
		unmountBelow(run),
		unmountBelow(l.BuilderData()),
		forgetContainers(run),
		os.RemoveAll(run),
	)
}

// runcState is where runc keeps what it knows of containers, unless it is told otherwise: BuildKit
// does not.
const runcState = "/run/runc"

// forgetContainers removes what runc knows of containers that were run from within the folder.
func forgetContainers(folder string) error {
	states, err := filepath.Glob(runcState + "/*/state.json")
	if err != nil {
		return fmt.Errorf("find containers: %w", err)
	}
	var failed []error
	for _, file := range states {
		data, err := os.ReadFile(file)
		if err == nil && bytes.Contains(data, []byte("bundle="+folder+"/")) {
			failed = append(failed, os.RemoveAll(filepath.Dir(file)))
		}
	}
	return errors.Join(failed...)
}

// unmountBelow unmounts what is mounted within the folder, innermost first.
func unmountBelow(folder string) error {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("find mounts: %w", err)
	}
	defer file.Close()
	var found []string
	for s := bufio.NewScanner(file); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 4 && strings.HasPrefix(unescape(fields[4]), folder+"/") {
			found = append(found, unescape(fields[4]))
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(found)))
	var failed []error
	for _, path := range found {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			failed = append(failed, fmt.Errorf("unmount %s: %w", path, err))
		}
	}
	return errors.Join(failed...)
}

func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
