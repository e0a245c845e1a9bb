package local_test

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/marucloud/maru/engine/local/cgroup"
	"github.com/marucloud/maru/internal/dump"
	"github.com/marucloud/maru/internal/layout"
)

// instancePIDs gives the processes in the cgroups of an instance, as this process namespace names them.
func instancePIDs(t testing.TB, l layout.Layout, instance string) []int {
	t.Helper()
	var pids []int
	found, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if strings.Contains(string(content), path.Join(l.Cgroup(), "instances", instance)+".") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// leftover gives what instances left on the machine: processes, mounts, cgroups, interfaces, folders.
// Some of it goes a moment after the instances.
func leftover(t testing.TB, l layout.Layout) []string {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); ; <-again.C {
		left := leftoverNow(t, l)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

func leftoverNow(t testing.TB, l layout.Layout) []string {
	t.Helper()
	var left []string
	groups, err := cgroup.Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range groups.Children(path.Join(l.Cgroup(), "instances")) {
		left = append(left, "cgroup "+name)
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer mounts.Close()
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		place := strings.Fields(lines.Text())[4]
		if strings.HasPrefix(place, l.Run) && place != filepath.Join(l.Run, "secrets") && place != filepath.Join(l.Run, "netns") {
			left = append(left, "mount "+place)
		}
	}
	for _, pattern := range []string{
		filepath.Join(l.Run, "instances", "*"), filepath.Join(l.Run, "secrets", "[0-9a-f]*"), filepath.Join(l.Run, "secrets", "instances", "*"), filepath.Join(l.Run, "s", "*"),
		filepath.Join(l.Run, "netns", "*"), filepath.Join(l.Run, "userns", "*"),
		filepath.Join(l.Run, "runc", "*", "*"), filepath.Join(l.Run, "fifo", "*"), filepath.Join(l.Run, "tmpmounts", "*"),
		filepath.Join(l.Run, "containerd", "io.containerd.runtime.v2.task", "*", "*"),
		filepath.Join(l.RuntimeData(), "instances", "*"), filepath.Join(l.RuntimeData(), "workloads", "*"),
		filepath.Join(l.VolumeData(), "anonymous", "*"), filepath.Join(l.VolumeData(), "trash", "*"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			left = append(left, "file "+file)
		}
	}
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if link.Type() == "veth" && strings.HasPrefix(link.Attrs().Name, l.Name) {
			left = append(left, "interface "+link.Attrs().Name)
		}
	}
	return append(left, shims(l)...)
}

// shims gives the shims of the installation that run.
func shims(l layout.Layout) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(content), "containerd-shim-maru") && strings.Contains(string(content), l.Run) {
			found = append(found, fmt.Sprintf("process %s", strings.ReplaceAll(string(content), "\x00", " ")))
		}
	}
	return found
}

// killShims kills all shims, and with them their instances.
func killShims(t testing.TB, l layout.Layout) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := cgroup.Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(content), "containerd-shim-maru") || !strings.Contains(string(content), l.Run) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, name := range groups.Children(path.Join(l.Cgroup(), "instances")) {
		if err := groups.Remove(path.Join(l.Cgroup(), "instances", name)); err != nil {
			t.Fatal(err)
		}
	}
}

// forgetMemory empties what a restart of the machine does.
func forgetMemory(t testing.TB, l layout.Layout) {
	t.Helper()
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if place := strings.Fields(line)[4]; strings.HasPrefix(place, l.Run) {
			if err := syscall.Unmount(place, syscall.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.RemoveAll(l.Run); err != nil {
		t.Fatal(err)
	}
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, l.Name) {
			_ = netlink.LinkDel(link)
		}
	}
}

// grep gives the files below a folder that contain the text.
func grep(t testing.TB, folder, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(content), text) {
			found = append(found, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// kept waits until an instance's record on disk says something of a kind.
func kept(t testing.TB, l layout.Layout, instance, what string) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); ; <-again.C {
		content, err := os.ReadFile(filepath.Join(l.RuntimeData(), "instances", instance+".json"))
		if err == nil && strings.Contains(string(content), what) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the record of %s says nothing of %s: %s, %v", instance, what, content, err)
		}
	}
}
