package host

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/cgroup"
	"github.com/marucloud/maru/internal/dump"
)

// Leftovers gives what is on the machine, of this installation, that belongs to none of these
// instances: processes, mounts, cgroups, interfaces, routes, addresses in rules, files, and while the
// runtime runs containers, file systems and leases.
func (m *Machine) Leftovers(ctx context.Context, instances []Instance) []string {
	var left []string
	things := slices.Concat(m.shims(), m.cgroups(), m.mounts(), m.files(), m.containers(ctx))
	for _, thing := range things {
		if !slices.ContainsFunc(instances, func(i Instance) bool { return strings.Contains(thing, i.ID) }) {
			left = append(left, thing)
		}
	}
	for _, thing := range slices.Concat(m.routes(), m.rules()) {
		if !slices.ContainsFunc(instances, func(i Instance) bool { return strings.HasSuffix(thing, " "+i.AddressV4) }) {
			left = append(left, thing)
		}
	}
	return append(left, m.interfaces(len(instances))...)
}

func (m *Machine) shims() []string {
	var found []string
	for pid, line := range m.shimLines() {
		found = append(found, fmt.Sprintf("process %d %s", pid, strings.ReplaceAll(line, "\x00", " ")))
	}
	return found
}

// ShimPIDs gives the shims of the instances.
func (m *Machine) ShimPIDs() []int { return slices.Collect(maps.Keys(m.shimLines())) }

func (m *Machine) shimLines() map[int]string {
	lines := commandLines()
	maps.DeleteFunc(lines, func(_ int, line string) bool {
		return !strings.Contains(line, "containerd-shim-maru") || !strings.Contains(line, m.Layout.Run)
	})
	return lines
}

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
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, link := range links {
		if link.Type() == "veth" && strings.HasPrefix(link.Attrs().Name, m.Layout.Name) {
			found = append(found, link.Attrs().Name)
		}
	}
	if len(found) <= wanted {
		return nil
	}
	return []string{fmt.Sprintf("%d interfaces for %d instances: %s", len(found), wanted, strings.Join(found, ", "))}
}

// routes gives the routes to instances.
func (m *Machine) routes() []string {
	routes, err := dump.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return []string{err.Error()}
	}
	instances := maru.DefaultRanges().InstancesV4
	var found []string
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if ones, bits := r.Dst.Mask.Size(); ones == bits && contains(instances, r.Dst.IP.To4()) {
			found = append(found, "route to "+r.Dst.IP.String())
		}
	}
	return found
}
