package local

import (
	"bytes"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// defaultCapabilities are Docker's without NET_RAW, with which an instance could forge its address.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
	"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

func newProcess(in specInput, options securityOptions) (*specs.Process, error) {
	c := in.Workload.Container
	args := commandOf(c, in.Image)
	if len(args) == 0 {
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "neither image %s nor service %s says what to run",
			in.Workload.Image, in.Workload.ID.Service), "set command or entrypoint")
	}
	switch {
	case in.Workload.Held:
		args = holdCommand
	case c.Init:
		args = append([]string{initPath}, args...)
	}
	who, err := lookUpUser(in.Image, c.User, c.Groups)
	if err != nil {
		return nil, err
	}
	limits, err := newRlimits(in)
	if err != nil {
		return nil, err
	}
	dir := c.WorkDir
	if dir == "" {
		dir = in.Image.config.WorkDir
	}
	return &specs.Process{
		Terminal:        c.TTY,
		User:            who,
		Args:            args,
		Env:             newEnv(in),
		Cwd:             cleanTarget(dir),
		Capabilities:    newCapabilities(in),
		Rlimits:         limits,
		NoNewPrivileges: !options.newPrivileges,
		OOMScoreAdj:     newOOMScore(in),
	}, nil
}

// commandOf joins entry point and command. One that is given replaces the image's command with the
// image's entry point, as everywhere.
func commandOf(c maru.Container, image imageInfo) []string {
	entrypoint, command := c.Entrypoint, c.Command
	if entrypoint == nil {
		entrypoint = image.config.Entrypoint
		if command == nil {
			command = image.config.Command
		}
	}
	return slices.Concat(entrypoint, command)
}

// newEnv is the image's environment with the container's over it.
func newEnv(in specInput) []string {
	env := []string{defaultPath, "HOSTNAME=" + in.Hostname}
	if in.Workload.Container.TTY {
		env = append(env, "TERM=xterm")
	}
	for _, variable := range in.Image.env {
		env = setEnv(env, variable)
	}
	return overlayEnv(env, in.Workload.Container.Env)
}

func overlayEnv(env []string, over map[string]string) []string {
	names := make([]string, 0, len(over))
	for name := range over {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		env = setEnv(env, name+"="+over[name])
	}
	return env
}

func setEnv(env []string, variable string) []string {
	name, _, _ := strings.Cut(variable, "=")
	for i, existing := range env {
		if strings.HasPrefix(existing, name+"=") {
			env[i] = variable
			return env
		}
	}
	return append(env, variable)
}

// lookUpUser finds who "user[:group]" is in the image; "" is the image's own.
func lookUpUser(image imageInfo, who string, groups []string) (specs.User, error) {
	if who == "" {
		who = image.config.User
	}
	found, err := user.GetExecUser(who, &user.ExecUser{}, bytes.NewReader(image.passwd), bytes.NewReader(image.group))
	if err != nil {
		return specs.User{}, maru.Errorf(maru.Invalid, "user %q: %w", who, err)
	}
	extra, err := user.GetAdditionalGroups(groups, bytes.NewReader(image.group))
	if err != nil {
		return specs.User{}, maru.Errorf(maru.Invalid, "group_add: %w", err)
	}
	result := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	for _, gid := range slices.Concat(found.Sgids, extra) {
		if id := uint32(gid); !slices.Contains(result.AdditionalGids, id) {
			result.AdditionalGids = append(result.AdditionalGids, id)
		}
	}
	return result, nil
}

// newCapabilities are the default ones with those added and less those dropped, as far as this
// process has them to give.
func newCapabilities(in specInput) *specs.LinuxCapabilities {
	host := in.Workload.Container.Host
	wanted := slices.Clone(defaultCapabilities)
	if slices.Contains(host.CapDrop, "ALL") {
		wanted = nil
	}
	if slices.Contains(host.CapAdd, "ALL") {
		wanted = slices.Clone(in.Host.capabilities)
	}
	for _, name := range host.CapAdd {
		name = capability(name)
		switch {
		case name == "CAP_ALL" || slices.Contains(wanted, name):
		case in.Host.may(name):
			wanted = append(wanted, name)
		default:
			in.Warn.Warn("this machine does not let instances have a capability", "capability", name)
		}
	}
	given := make([]string, 0, len(wanted))
	for _, name := range wanted {
		dropped := slices.ContainsFunc(host.CapDrop, func(drop string) bool { return capability(drop) == name })
		if !dropped && in.Host.may(name) {
			given = append(given, name)
		}
	}
	return &specs.LinuxCapabilities{Bounding: given, Effective: given, Permitted: given}
}

func capability(name string) string {
	return "CAP_" + strings.TrimPrefix(strings.ToUpper(name), "CAP_")
}

// newOOMScore is explicit, because the engine's own would be inherited, with which the kernel would
// spare an instance.
func newOOMScore(in specInput) *int {
	score := in.Workload.Container.OOMScoreAdj
	if score < in.Host.oomScore && !in.Host.may("CAP_SYS_RESOURCE") {
		if score != 0 {
			in.Warn.Warn("this machine does not let an instance have such a low OOM score", "wanted", score, "given", in.Host.oomScore)
		}
		score = in.Host.oomScore
	}
	return &score
}

func newRlimits(in specInput) ([]specs.POSIXRlimit, error) {
	var limits []specs.POSIXRlimit
	for _, limit := range in.Workload.Container.Ulimits {
		resource, known := rlimits[limit.Name]
		if !known {
			return nil, maru.Errorf(maru.Invalid, "ulimit %q is not known", limit.Name)
		}
		soft, hard := rlimitValue(limit.Soft), rlimitValue(limit.Hard)
		if ours := hardLimit(resource); hard > ours && !in.Host.may("CAP_SYS_RESOURCE") {
			in.Warn.Warn("this machine does not let an instance have such a high limit", "ulimit", limit.Name, "wanted", limit.Hard, "given", ours)
			hard = ours
		}
		limits = append(limits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(limit.Name), Soft: min(soft, hard), Hard: hard})
	}
	return limits, nil
}

func rlimitValue(value int64) uint64 {
	if value < 0 {
		return unix.RLIM_INFINITY
	}
	return uint64(value)
}
