package host

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/marucloud/maru/engine/local/cgroup"
)

// Leftovers gives what is on the machine, of this installation, that belongs to none of the instances
// with these IDs: processes, mounts, cgroups, interfaces, addresses in rules, files.
func (m *Machine) Leftovers(instances []string) []string {
	known := func(text string) bool {
		for _, id := range instances {
			if strings.Contains(text, id) {
				return true
			}
		}
		return false
	}
	var left []string
	for _, find := range []func() []string{m.shims, m.cgroups, m.mounts, m.files} {
		for _, thing := range find() {
			if !known(thing) {
				left = append(left, thing)
			}
		}
	}
	return append(left, m.interfaces(len(instances))...)
}

func (m *Machine) shims() []string {
	var found []string
	for pid, line := range commandLines() {
		if strings.Contains(line, "containerd-shim-maru") && strings.Contains(line, m.Layout.Run) {
			found = append(found, fmt.Sprintf("process %d %s", pid, strings.ReplaceAll(line, "\x00", " ")))
		}
	}
	return found
}

// cgroups gives the cgroups of attempts.
func (m *Machine) cgroups() []string {
	groups, err := cgroup.Open()
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, name := range groups.Children(path.Join(m.Layout.Cgroup(), "instances")) {
		found = append(found, "cgroup "+name)
	}
	return found
}

func (m *Machine) mounts() []string {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for line := range strings.Lines(string(content)) {
		place := strings.Fields(line)[4]
		own := strings.HasPrefix(place, m.Layout.Run+"/") || strings.HasPrefix(place, m.Layout.Data+"/")
		if own && place != filepath.Join(m.Layout.Run, "secrets") && place != filepath.Join(m.Layout.Run, "netns") {
			found = append(found, "mount "+place)
		}
	}
	return found
}

func (m *Machine) files() []string {
	l := m.Layout
	var found []string
	for _, pattern := range []string{
		filepath.Join(l.Run, "instances", "*"), filepath.Join(l.Run, "netns", "*"),
		filepath.Join(l.Run, "runc", "*", "*"), filepath.Join(l.Run, "fifo", "*"), filepath.Join(l.Run, "tmpmounts", "*"),
		filepath.Join(l.Run, "containerd", "io.containerd.runtime.v2.task", "*", "*"),
		filepath.Join(l.RuntimeData(), "instances", "*"),
		filepath.Join(l.VolumeData(), "anonymous", "*"), filepath.Join(l.VolumeData(), "trash", "*"),
	} {
		matches, _ := filepath.Glob(pattern)
		for _, file := range matches {
			found = append(found, "file "+file)
		}
	}
	return found
}

// interfaces complains of interfaces past the number of instances.
func (m *Machine) interfaces(wanted int) []string {
	links, err := netlink.LinkList()
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, link := range links {
		if link.Type() == "veth" && strings.HasPrefix(link.Attrs().Name, m.Layout.Name) {
			found = append(found, "interface "+link.Attrs().Name)
		}
	}
	if len(found) <= wanted {
		return nil
	}
	return []string{fmt.Sprintf("%d interfaces for %d instances: %s", len(found), wanted, strings.Join(found, ", "))}
}
