package endtoend

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// inside runs the test service's command in an instance.
func (m *machine) inside(t *testing.T, app, service string, args ...string) (out, errors string, code int) {
	t.Helper()
	return m.try(t, append([]string{"exec", "--app", app, "-T", service, "/service"}, args...)...)
}

// read gives a file of an instance.
func (m *machine) read(t *testing.T, app, service, path string) string {
	t.Helper()
	out, errors, code := m.inside(t, app, service, "read", path)
	if code != 0 {
		t.Errorf("read %s: %d %s", path, code, errors)
	}
	return out
}

// field gives the value of a line "NAME: VALUE".
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

const plain = `
name: plain
services:
  web:
    image: example.test/service:1
    x-maru: {route: plain.localhost, health: /healthz}
  other:
    image: example.test/service:1
    pids_limit: 50
    mem_limit: 64m
    cpus: 0.5
    expose: ["8080"]
`

// dockerCapabilities are Docker's default ones without NET_RAW.
const dockerCapabilities = 1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<18 | 1<<27 | 1<<29 | 1<<31

func TestIsolationOfProcesses(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, plain)
	t.Run("privileges", func(t *testing.T) {
		for name, status := range map[string]string{
			"process 1": m.read(t, "plain", "web", "/proc/1/status"), "exec": m.read(t, "plain", "web", "/proc/self/status"),
		} {
			for key, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapInh": "0000000000000000", "CapAmb": "0000000000000000"} {
				if got := field(status, key); got != want {
					t.Errorf("%s: %s is %s, not %s", name, key, got, want)
				}
			}
			for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
				got, err := strconv.ParseUint(field(status, set), 16, 64)
				if err != nil || got&^uint64(dockerCapabilities) != 0 || got == 0 {
					t.Errorf("%s: %s is %x, more than %x", name, set, got, uint64(dockerCapabilities))
				}
			}
		}
	})
	t.Run("namespaces", func(t *testing.T) {
		for _, kind := range []string{"mnt", "pid", "ipc", "uts", "net", "cgroup", "user"} {
			ours, err := os.Readlink("/proc/self/ns/" + kind)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]string{ours: "the host"}
			for _, service := range []string{"web", "other"} {
				out, errors, code := m.inside(t, "plain", service, "link", "/proc/1/ns/"+kind)
				if code != 0 {
					t.Fatalf("read the %s namespace of %s: %s", kind, service, errors)
				}
				if owner, shared := seen[out]; shared {
					t.Errorf("%s shares the %s namespace of %s", service, kind, owner)
				}
				seen[out] = service
			}
		}
		if name := field(m.read(t, "plain", "web", "/proc/1/status"), "Name"); name != "service" {
			t.Errorf("process 1 is %s", name)
		}
	})
	t.Run("limits", func(t *testing.T) {
		for service, want := range map[string]string{"web": "4096", "other": "50"} {
			if got := m.limit(t, service, "pids.max", "pids/pids.max"); got != want {
				t.Errorf("%s may have %s processes, not %s", service, got, want)
			}
		}
		if got := m.limit(t, "other", "memory.max", "memory/memory.limit_in_bytes"); got != "67108864" {
			t.Errorf("memory is limited to %s", got)
		}
	})
	t.Run("attempts", func(t *testing.T) {
		for _, attempt := range [][]string{
			{"raw"}, {"packet"}, {"mount"}, {"remount"}, {"unshare"}, {"netns"}, {"reboot"}, {"clock"}, {"hostname"}, {"device"}, {"keyring"},
			{"bpf"}, {"module"},
			{"write", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/panic_on_oom",
				"/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs", "/proc/kcore", "/dev/mem", "/dev/kmsg"},
		} {
			if out, errors, code := m.inside(t, "plain", "web", append([]string{"try"}, attempt...)...); code != 1 {
				t.Errorf("%v: exit code %d\n%s%s", attempt, code, out, errors)
			}
		}
	})
	t.Run("masked paths", func(t *testing.T) {
		for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats"} {
			if out, _, _ := m.inside(t, "plain", "web", "read", path); out != "" {
				t.Errorf("%s can be read: %.80q", path, out)
			}
		}
		mounts := m.read(t, "plain", "web", "/proc/self/mountinfo")
		for _, target := range []string{"/sys", "/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"} {
			if _, err := os.Stat(target); err != nil {
				continue // not on every kernel
			}
			if options := mountOptions(mounts, target); !strings.HasPrefix(options, "ro") {
				t.Errorf("%s is mounted %q", target, options)
			}
		}
		if out, _, code := m.inside(t, "plain", "web", "list", "/sys/firmware"); code == 0 && strings.TrimSpace(out) != "" {
			t.Errorf("/sys/firmware shows %s", out)
		}
	})
	t.Run("host's files", func(t *testing.T) {
		secret := filepath.Join(m.Layout.Data, "canary-of-the-host")
		if err := os.WriteFile(secret, []byte("canary"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{secret, "/proc/1/root" + secret, "/proc/self/root" + secret, "/etc/shadow", "/root/.ssh"} {
			if out, _, code := m.inside(t, "plain", "web", "read", path); code == 0 {
				t.Errorf("%s can be read: %.80q", path, out)
			}
		}
		mounts := m.read(t, "plain", "web", "/proc/self/mountinfo")
		for line := range strings.Lines(mounts) {
			fields := strings.Fields(line)
			if strings.HasPrefix(fields[4], "/etc/") && !strings.HasPrefix(fields[5], "r") {
				t.Errorf("unexpected mount %s", line)
			}
		}
	})
	t.Run("sockets of the platform", func(t *testing.T) {
		sockets, err := filepath.Glob(filepath.Join(m.Layout.Run, "*.sock*"))
		if err != nil || len(sockets) == 0 {
			t.Fatalf("no sockets in %s", m.Layout.Run)
		}
		all := append([]string{"try", "unix"}, sockets...)
		all = append(all, "/run/maru/server.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock")
		if _, errors, code := m.inside(t, "plain", "web", all...); code != 1 {
			t.Errorf("exit code %d: %s", code, errors)
		}
		if unix := m.read(t, "plain", "web", "/proc/net/unix"); strings.Contains(unix, "maru") {
			t.Errorf("the host's sockets are seen:\n%s", unix)
		}
	})
}

// limit reads a limit of an instance, from where cgroup version 2 or 1 has it.
func (m *machine) limit(t *testing.T, service, two, one string) string {
	t.Helper()
	for _, path := range []string{"/sys/fs/cgroup/" + two, "/sys/fs/cgroup/" + one} {
		if out, _, code := m.inside(t, "plain", service, "read", path); code == 0 {
			return strings.TrimSpace(out)
		}
	}
	t.Errorf("no %s in %s", two, service)
	return ""
}

// mountOptions gives the options of the last mount at a path.
func mountOptions(mountinfo, target string) string {
	options := ""
	for line := range strings.Lines(mountinfo) {
		if fields := strings.Fields(line); len(fields) > 5 && fields[4] == target {
			options = fields[5]
		}
	}
	return options
}
