// Package ability is the vocabulary of grants: what of the host a service needs, how that is written,
// and what includes what. It is pure.
package ability

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// The abilities that stand alone.
const (
	Host             = "host"              // everything below
	Privileged       = "privileged"        // includes every cap:, device: and security-opt:
	HostNetwork      = "hostnet"           // the host's network namespace, also while building
	HostPID          = "hostpid"           // the host's processes
	HostIPC          = "hostipc"           // the host's shared memory
	HostUsers        = "hostusers"         // the host's user ids
	OOMScore         = "oom-score"         // to be spared when memory runs out
	MountPropagation = "mount-propagation" // mounts made in the container appear on the host
)

// The abilities that are followed by a value. A path includes what is below it.
const (
	Bind         = "bind:"
	BindReadOnly = "bind-ro:" // bind: includes it
	Device       = "device:"
	Capability   = "cap:" // cap:ALL includes every one
	SecurityOpt  = "security-opt:"
	CgroupParent = "cgroup-parent:"
)

var (
	alone  = []string{Host, Privileged, HostNetwork, HostPID, HostIPC, HostUsers, OOMScore, MountPropagation}
	valued = []string{Bind, BindReadOnly, Device, Capability, SecurityOpt, CgroupParent}
)

// usual are the capabilities that every instance has, so that to add one after dropping all needs
// no grant.
var usual = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
	"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// Parse gives an ability in its one plain form: paths clean, capabilities without "CAP_" in upper
// case. The error is of kind Invalid.
func Parse(text string) (string, error) {
	if slices.Contains(alone, text) {
		return text, nil
	}
	for _, kind := range valued {
		value, ok := strings.CutPrefix(text, kind)
		if !ok || value == "" {
			continue
		}
		switch kind {
		case Bind, BindReadOnly, CgroupParent:
			if !path.IsAbs(value) {
				return "", maru.Errorf(maru.Invalid, "ability %q: the path is not absolute", text)
			}
			value = path.Clean(value)
		case Device:
			value = device(value)
		case Capability:
			value = capability(value)
		case SecurityOpt:
			value = option(value)
		}
		return kind + value, nil
	}
	return "", maru.WithHint(maru.Errorf(maru.Invalid, "ability %q is unknown", text),
		"use "+strings.Join(alone, ", ")+", or "+strings.Join(valued, "VALUE, ")+"VALUE")
}

// device cleans a path, and leaves names of the Container Device Interface as they are.
func device(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return name
}

func capability(name string) string { return strings.TrimPrefix(strings.ToUpper(name), "CAP_") }

// option writes a security option with "=", as Docker does since it has both.
func option(text string) string {
	if name, _, found := strings.Cut(text, "="); found && !strings.Contains(name, ":") {
		return text
	}
	return strings.Replace(text, ":", "=", 1)
}

// Needs gives what of the host the service needs, sorted, each once.
func Needs(s maru.Service) []string {
	needs := map[string]bool{}
	c, host := s.Container, s.Container.Host
	for need, wanted := range map[string]bool{
		Privileged:  host.Privileged,
		HostNetwork: host.HostNetwork || s.Build != nil && s.Build.Network == "host",
		HostPID:     host.HostPID,
		HostIPC:     host.HostIPC,
		HostUsers:   host.HostUsers,
		OOMScore:    c.OOMScoreAdj < 0 || c.Resources.OOMKillDisable,
	} {
		if wanted {
			needs[need] = true
		}
	}
	for _, name := range host.CapAdd {
		if name = capability(name); !slices.Contains(usual, name) {
			needs[Capability+name] = true
		}
	}
	for _, d := range host.Devices {
		needs[Device+device(d.Source)] = true
	}
	for _, o := range host.SecurityOpt {
		if o = option(o); o != "no-new-privileges" && o != "no-new-privileges=true" {
			needs[SecurityOpt+o] = true
		}
	}
	if host.CgroupParent != "" {
		needs[CgroupParent+path.Clean(host.CgroupParent)] = true
	}
	for _, m := range c.Mounts {
		if m.Kind != maru.BindMount {
			continue
		}
		kind := Bind
		if m.ReadOnly {
			kind = BindReadOnly
		}
		needs[kind+path.Clean(m.Source)] = true
		if strings.HasSuffix(m.Propagation, "shared") {
			needs[MountPropagation] = true
		}
	}
	return slices.Sorted(maps.Keys(needs))
}

// Includes tells whether the ability, in the form of Parse, gives what is needed, as Needs writes it.
// Only Host gives what a relative path needs.
func Includes(ability, need string) bool {
	if ability == Host {
		return true
	}
	kind, value := split(need)
	switch kind {
	case Bind, CgroupParent:
		return below(ability, kind, value)
	case BindReadOnly:
		return below(ability, BindReadOnly, value) || below(ability, Bind, value)
	case Device:
		return ability == Privileged || ability == need || below(ability, Device, value)
	case Capability:
		return ability == Privileged || ability == need || ability == Capability+"ALL"
	case SecurityOpt:
		return ability == Privileged || ability == need
	}
	return ability == need
}

func split(text string) (kind, value string) {
	for _, k := range valued {
		if v, ok := strings.CutPrefix(text, k); ok {
			return k, v
		}
	}
	return text, ""
}

// below tells whether the ability is of the kind, and its path is the wanted one or above it.
func below(ability, kind, wanted string) bool {
	given, ok := strings.CutPrefix(ability, kind)
	if !ok || !path.IsAbs(given) || !path.IsAbs(wanted) {
		return false
	}
	return given == wanted || strings.HasPrefix(wanted, strings.TrimSuffix(given, "/")+"/")
}

// Granted tells whether one of the grants gives the app in the scope what it needs.
func Granted(grants []maru.Grant, scope maru.Scope, need string) bool {
	return slices.ContainsFunc(grants, func(g maru.Grant) bool {
		return g.Scope.Covers(scope) && Includes(g.Ability, need)
	})
}
