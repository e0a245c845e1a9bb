package compose

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// container reads what runs, and how.
func (s *service) container() {
	c := &s.out.Container
	c.Entrypoint, c.Command = s.words(s.in.Entrypoint, "entrypoint"), s.words(s.in.Command, "command")
	if c.Entrypoint != nil && c.Command == nil {
		c.Command = []string{} // the image's command was for the image's entry point
	}
	c.Env = s.environment()
	c.WorkDir = s.in.WorkingDir
	c.User = s.in.User
	c.Groups = s.in.GroupAdd
	c.Hostname = s.in.Hostname
	c.Domainname = s.in.DomainName
	c.Init = s.in.Init != nil && *s.in.Init
	c.TTY = s.in.Tty
	c.Stdin = s.in.StdinOpen
	c.ReadOnly = s.in.ReadOnly
	c.Ulimits = s.ulimits(s.in.Ulimits, "ulimits")
	c.Sysctls = notEmpty(s.in.Sysctls)
	c.ShmSize = int64(s.in.ShmSize)
	c.ExtraHosts = hostEntries(s.in.ExtraHosts)
	c.DNS = s.addresses(s.in.DNS, "dns")
	c.DNSSearch = s.in.DNSSearch
	c.DNSOptions = s.in.DNSOpts
	c.OOMScoreAdj = int(s.in.OomScoreAdj)
	if s.in.OomScoreAdj < -1000 || s.in.OomScoreAdj > 1000 {
		s.fail(maru.Invalid, fmt.Sprintf("%d is out of range", s.in.OomScoreAdj), "it is -1000 to 1000", "oom_score_adj")
	}
	c.Annotations = notEmpty(s.in.Annotations)
	c.Resources = s.resources()
	c.Stop = s.stop()
	s.host()
	s.mounts()
}

// words gives a command: nil when the files say nothing, empty when they say that there is none.
func (s *service) words(command types.ShellCommand, key string) []string {
	n := s.node(key)
	if n == nil || n.kind == nullNode {
		return nil
	}
	if command == nil {
		return []string{}
	}
	return command
}

func (s *service) environment() map[string]string {
	env := map[string]string{}
	for name, value := range s.in.Environment {
		if strings.ContainsAny(name, "=\x00") || name == "" || (value != nil && strings.Contains(*value, "\x00")) {
			s.fail(maru.Invalid, fmt.Sprintf("%q can't be a variable", name), "", "environment")
		} else if value != nil {
			env[name] = *value
		}
	}
	if len(env) == 0 {
		return nil
	}
	return env
}

func notEmpty(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

func hostEntries(hosts types.HostsList) []maru.HostEntry {
	var entries []maru.HostEntry
	for _, name := range sortedKeys(hosts) {
		for _, address := range hosts[name] {
			entries = append(entries, maru.HostEntry{Name: name, Address: strings.Trim(address, "[]")})
		}
	}
	return entries
}

func (s *service) addresses(list []string, key string) []string {
	for i, text := range list {
		if _, err := netip.ParseAddr(text); err != nil {
			s.fail(maru.Invalid, fmt.Sprintf("%q is not an IP address", text), "", key, fmt.Sprint(i))
		}
	}
	return list
}

// limits are the names of ulimits.
var limits = []string{"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"}

func (s *service) ulimits(in map[string]*types.UlimitsConfig, path ...string) []maru.Ulimit {
	var out []maru.Ulimit
	for _, name := range sortedKeys(in) {
		at := append(slices.Clip(path), name)
		if !slices.Contains(limits, name) {
			s.fail(maru.Invalid, "there is no ulimit "+name, didYouMeanOr(name, limits), at...)
			continue
		}
		u := maru.Ulimit{Name: name, Soft: int64(in[name].Soft), Hard: int64(in[name].Hard)}
		if in[name].Single != 0 {
			u.Soft, u.Hard = int64(in[name].Single), int64(in[name].Single)
		}
		if u.Soft < -1 || u.Hard < -1 || u.Hard >= 0 && (u.Soft > u.Hard || u.Soft < 0) {
			s.fail(maru.Invalid, "the soft limit is above the hard one, or below nothing", "-1 is without limit", at...)
		}
		out = append(out, u)
	}
	return out
}

// stop reads how the service is ended.
func (s *service) stop() maru.Stop {
	stop := maru.Stop{Drain: s.keys.drain}
	if s.in.StopGracePeriod != nil {
		// A grace of nothing is SIGKILL at once; the shortest time is as near as it gets.
		stop.Grace = max(durationOr(s.in.StopGracePeriod, 1), 1)
	}
	if s.in.StopSignal == "" {
		return stop
	}
	signal, ok := signalName(s.in.StopSignal)
	if !ok {
		s.fail(maru.Invalid, fmt.Sprintf("%q is not a signal", s.in.StopSignal), didYouMeanOr(s.in.StopSignal, []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGWINCH"}), "stop_signal")
	}
	stop.Signal = signal
	return stop
}

// host reads what reaches into the host.
func (s *service) host() {
	h := &s.out.Container.Host
	h.Privileged = s.in.Privileged
	h.CapAdd = s.capabilities(s.in.CapAdd, "cap_add")
	h.CapDrop = s.capabilities(s.in.CapDrop, "cap_drop")
	h.HostPID = s.in.Pid == "host"
	h.HostIPC = s.in.Ipc == "host"
	h.HostUsers = s.in.UserNSMode == "host"
	h.CgroupParent = s.in.CgroupParent
	for _, option := range s.in.SecurityOpt {
		name, value, _ := strings.Cut(strings.Replace(option, ":", "=", 1), "=")
		if name == "no-new-privileges" && value != "false" {
			continue // it is so anyway
		}
		if value != "" {
			name += "=" + value
		}
		h.SecurityOpt = append(h.SecurityOpt, name)
	}
	for i, d := range s.in.Devices {
		at := []string{"devices", fmt.Sprint(i)}
		if !strings.HasPrefix(d.Source, "/dev/") {
			s.fail(maru.Unsupported, fmt.Sprintf("%q is not a device node of the host", d.Source), "write /dev/NAME", at...)
			continue
		}
		device := maru.Device{Source: d.Source, Target: d.Target, Permissions: d.Permissions}
		if device.Target == "" {
			device.Target = d.Source
		}
		if device.Permissions == "" {
			device.Permissions = "rwm"
		}
		if strings.Trim(device.Permissions, "rwm") != "" {
			s.fail(maru.Invalid, fmt.Sprintf("%q are not permissions", d.Permissions), "write some of r, w and m", at...)
		}
		h.Devices = append(h.Devices, device)
	}
}

// capabilities are Linux's, without "CAP_".
var capabilities = []string{"ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE",
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE",
	"MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP",
	"SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT",
	"SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"}

func (s *service) capabilities(in []string, key string) []string {
	var out []string
	for i, name := range in {
		upper := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if !slices.Contains(capabilities, upper) {
			s.fail(maru.Invalid, fmt.Sprintf("there is no capability %q", name), didYouMean(upper, capabilities), key, fmt.Sprint(i))
		}
		out = append(out, upper)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
