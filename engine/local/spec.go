package local

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"path"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/userns"
)

// specInput is all that the OCI spec of an attempt is made of.
type specInput struct {
	Workload maru.Workload
	Instance string
	Image    imageInfo
	Host     hostFacts
	Hostname string
	Netns    string // path; "" with the host's network
	Users    userns.Range
	Userns   string // path of the user namespace with the Users
	Cgroup   string
	Mounts   []specs.Mount // volumes, files and what is generated, in the order of mounting
	Warn     *slog.Logger  // is told what can't be had on this machine
}

var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// newSpec makes the OCI spec. Errors are Invalid for what the workload says wrongly and Unsupported
// for what this engine does not do.
func newSpec(ctx context.Context, in specInput) (*specs.Spec, error) {
	c := in.Workload.Container
	options, err := parseSecurityOptions(c.Host.SecurityOpt)
	if err != nil {
		return nil, err
	}
	process, err := newProcess(in, options)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: "rootfs", Readonly: c.ReadOnly},
		Hostname:    in.Hostname,
		Domainname:  c.Domainname,
		Process:     process,
		Annotations: c.Annotations,
		Linux: &specs.Linux{
			CgroupsPath:   in.Cgroup,
			Namespaces:    linuxNamespaces(c.Host, in),
			UIDMappings:   in.Users.Mappings(),
			GIDMappings:   in.Users.Mappings(),
			MaskedPaths:   maskedPaths,
			ReadonlyPaths: readonlyPaths,
		},
	}
	if options.bareSystem {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	}
	if c.Host.HostNetwork {
		spec.Hostname, spec.Domainname = "", "" // the UTS namespace is shared with the network's
	}
	if spec.Linux.Resources, err = newResources(in); err != nil {
		return nil, err
	}
	if spec.Linux.Sysctl, err = newSysctls(c, in.Users); err != nil {
		return nil, err
	}
	if spec.Mounts, err = newMounts(in); err != nil {
		return nil, err
	}
	if c.Init || in.Workload.Held {
		spec.Mounts = append(spec.Mounts, specs.Mount{
			Destination: initPath, Source: in.Host.initProgram, Type: "bind", Options: []string{"bind", "ro"},
		})
	}
	return spec, finishSpec(ctx, spec, in, options)
}

// finishSpec adds devices, and what depends on all before: privileges and the system call filter.
func finishSpec(ctx context.Context, spec *specs.Spec, in specInput, options securityOptions) error {
	host := in.Workload.Container.Host
	for _, device := range host.Devices {
		permissions := device.Permissions
		if permissions == "" {
			permissions = "rwm"
		}
		target := device.Target
		if target == "" {
			target = device.Source
		}
		if err := oci.WithDevices(device.Source, target, permissions)(ctx, nil, nil, spec); err != nil {
			return maru.Errorf(maru.Invalid, "device %s: %w", device.Source, err)
		}
	}
	if host.Privileged {
		for _, option := range []oci.SpecOpts{
			oci.WithPrivileged, oci.WithHostDevices, oci.WithAllDevicesAllowed,
		} {
			if err := option(ctx, nil, nil, spec); err != nil {
				return fmt.Errorf("privileged: %w", err)
			}
		}
		spec.Process.NoNewPrivileges = false
		return nil
	}
	if in.Host.seccomp && !options.noSeccomp {
		spec.Linux.Seccomp = seccomp.DefaultProfile(spec)
	}
	return nil
}

func linuxNamespaces(host maru.HostAccess, in specInput) []specs.LinuxNamespace {
	namespaces := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace}}
	if in.Users != 0 {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: in.Userns})
	}
	if !host.HostPID {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if !host.HostIPC {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}
	if !host.HostNetwork {
		namespaces = append(namespaces,
			specs.LinuxNamespace{Type: specs.UTSNamespace},
			specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: in.Netns})
	}
	return namespaces
}

// securityOptions are what compose's security_opt can say.
type securityOptions struct {
	newPrivileges bool // processes may gain privileges, as by setuid programs
	noSeccomp     bool
	bareSystem    bool // no masked and read-only paths
}

func parseSecurityOptions(all []string) (securityOptions, error) {
	var options securityOptions
	for _, option := range all {
		name, value, found := strings.Cut(option, "=")
		if !found {
			name, value, _ = strings.Cut(option, ":")
		}
		switch {
		case name == "no-new-privileges":
			options.newPrivileges = value == "false"
		case name == "seccomp" && value == "unconfined":
			options.noSeccomp = true
		case name == "systempaths" && value == "unconfined":
			options.bareSystem = true
		case name == "apparmor" && value == "unconfined", name == "label":
		default:
			return options, maru.WithHint(maru.Errorf(maru.Unsupported, "security option %q is not supported", option),
				"known are no-new-privileges, seccomp=unconfined, systempaths=unconfined, apparmor=unconfined and label")
		}
	}
	return options, nil
}

// safeSysctls are those that the kernel keeps apart for each namespace, by the beginning of their name.
var safeSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
	"kernel.shmmni", "kernel.shm_rmid_forced", "fs.mqueue.",
}

func newSysctls(c maru.Container, users userns.Range) (map[string]string, error) {
	sysctls := make(map[string]string)
	if !c.Host.HostNetwork {
		sysctls["net.ipv4.ip_unprivileged_port_start"] = "0" // any user may listen on port 80 of the instance
		last := math.MaxInt32
		if users != 0 {
			last = userns.Size - 1
		}
		sysctls["net.ipv4.ping_group_range"] = fmt.Sprint("0 ", last) // any group may ping, without raw sockets
	}
	for name, value := range c.Sysctls {
		safe := strings.HasPrefix(name, "net.") && !c.Host.HostNetwork
		for _, known := range safeSysctls {
			safe = safe || !c.Host.HostIPC && (name == known || strings.HasSuffix(known, ".") && strings.HasPrefix(name, known))
		}
		if !safe && !c.Host.Privileged {
			return nil, maru.Errorf(maru.Unsupported, "sysctl %s is not one that an instance has for itself", name)
		}
		sysctls[name] = value
	}
	return sysctls, nil
}

// hostname is what the instance calls itself. The kernel takes 64 bytes.
func hostname(w maru.Workload, instance string) string {
	const longest = 63
	name := w.Container.Hostname
	if name == "" {
		name = instance
	}
	if len(name) > longest {
		name = strings.Trim(name[:longest-6], "-._") + name[len(name)-6:]
	}
	return name
}

// initPath is where the reaping init is in instances that have one.
const initPath = "/dev/init"

func cleanTarget(target string) string { return path.Clean("/" + target) }
