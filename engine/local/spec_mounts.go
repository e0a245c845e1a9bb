package local

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/marucloud/maru"
)

const defaultShmSize = 64 << 20

// newMounts puts together the system's mounts and those of the attempt. Of two at the same place the
// attempt's counts; what lies deeper is mounted later.
func newMounts(in specInput) ([]specs.Mount, error) {
	taken := make(map[string]bool)
	for _, m := range in.Mounts {
		if taken[m.Destination] {
			return nil, maru.Errorf(maru.Invalid, "two mounts at %s", m.Destination)
		}
		taken[m.Destination] = true
	}
	system := systemMounts(in.Workload.Container)
	system = slices.DeleteFunc(system, func(m specs.Mount) bool { return taken[m.Destination] })
	own := slices.Clone(in.Mounts)
	slices.SortStableFunc(own, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return append(system, own...), nil
}

func systemMounts(c maru.Container) []specs.Mount {
	shm := c.ShmSize
	if shm <= 0 {
		shm = defaultShmSize
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", shm)}},
	}
	if c.Host.HostPID {
		mounts[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
	}
	if c.Host.HostIPC {
		mounts[5] = specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
		mounts[6] = specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
	}
	if c.Host.HostNetwork {
		// A new sysfs shows the network of its owner's namespace, which the container's root does not own.
		mounts[3] = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}
	}
	return mounts
}

func bindMount(source, target string, readOnly bool, propagation string) specs.Mount {
	mode := "rw"
	if readOnly {
		mode = "ro"
	}
	if propagation == "" {
		propagation = "rprivate"
	}
	return specs.Mount{Destination: target, Source: source, Type: "bind", Options: []string{"rbind", mode, propagation}}
}

func tmpfsMount(m maru.Mount) specs.Mount {
	options := []string{"noexec", "nosuid", "nodev"}
	mode := m.Mode
	if mode == 0 {
		mode = 0o1777
	}
	options = append(options, fmt.Sprintf("mode=%o", mode))
	if m.Size > 0 {
		options = append(options, fmt.Sprintf("size=%d", m.Size))
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: cleanTarget(m.Target), Source: "tmpfs", Type: "tmpfs", Options: options}
}
