package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// WorkloadOf says what a release means to an engine. Secrets holds the value of each secret by its
// key in the release.
func WorkloadOf(r maru.Release, replicas int, virtual maru.Addresses, secrets map[string][]byte) maru.Workload {
	w := base(r, virtual, secrets)
	w.ID = r.Workload()
	w.Kind = r.Spec.Kind
	w.Replicas = replicas
	w.Ports = Ports(r.Spec)
	w.Aliases = names(r)
	return w
}

// StepOf is the workload of a step of a release: once its command, in the release's image, with the
// release's configuration, volumes and networks. The command is the whole of what runs: the image's
// entry point does not come before it. It has no names of its own and takes no traffic.
func StepOf(r maru.Release, step Step, virtual maru.Addresses, secrets map[string][]byte) maru.Workload {
	var command []string
	if spec := step.spec(r.Spec); spec != nil {
		command = spec.Command
	}
	w := once(r, StepName(r.Number, step), virtual, secrets)
	if command != nil {
		w.Container.Entrypoint, w.Container.Command = []string{}, command
	}
	return w
}

// RunOf is the workload "run.ID" of a one-off command in a release's image, likewise, but that the entry
// point stays before it. A nil command runs what the release runs.
func RunOf(r maru.Release, id string, command []string, virtual maru.Addresses, secrets map[string][]byte) maru.Workload {
	w := once(r, runPrefix+id, virtual, secrets)
	if command != nil {
		w.Container.Command = command
	}
	return w
}

func once(r maru.Release, name string, virtual maru.Addresses, secrets map[string][]byte) maru.Workload {
	w := base(r, virtual, secrets)
	w.ID = r.Service.Workload(name)
	w.Kind = maru.Job
	w.Replicas = 1
	w.Container.Probes = maru.Probes{}
	w.Container.Restart = maru.Restart{Policy: maru.RestartNever}
	return w
}

func base(r maru.Release, virtual maru.Addresses, secrets map[string][]byte) maru.Workload {
	return maru.Workload{
		Image:          r.Image,
		Container:      r.Spec.Container,
		Files:          files(r, secrets),
		Volumes:        volumes(r),
		Networks:       networks(r),
		Isolated:       isolated(r),
		VirtualAddress: virtual,
	}
}

func files(r maru.Release, secrets map[string][]byte) []maru.File {
	var out []maru.File
	for _, m := range r.Spec.Configs {
		out = append(out, maru.File{Path: m.Target, Mode: m.Mode, UID: m.UID, GID: m.GID, Data: r.Configs[m.Source].Content})
	}
	for _, m := range r.Spec.Secrets {
		out = append(out, maru.File{Path: m.Target, Mode: m.Mode, UID: m.UID, GID: m.GID, Data: secrets[m.Source], Secret: true})
	}
	slices.SortStableFunc(out, func(a, b maru.File) int { return strings.Compare(a.Path, b.Path) })
	return out
}

func volumes(r maru.Release) map[string]maru.VolumeID {
	var out map[string]maru.VolumeID
	for _, m := range r.Spec.Container.Mounts {
		if m.Kind != maru.VolumeMount || m.Source == "" {
			continue
		}
		if out == nil {
			out = map[string]maru.VolumeID{}
		}
		out[m.Source] = VolumeOf(r.Service.Scope, m.Source, r.Volumes[m.Source])
	}
	return out
}

// VolumeOf names the volume that an app's file calls key.
func VolumeOf(scope maru.Scope, key string, v maru.Volume) maru.VolumeID {
	if v.External {
		return maru.VolumeID{Scope: shared(scope), Volume: first(v.Name, key)}
	}
	return maru.VolumeID{Scope: scope, Volume: key}
}

// NetworkOf names the network that an app's file calls key.
func NetworkOf(scope maru.Scope, key string, n maru.Network) maru.NetworkID {
	if n.External {
		return maru.NetworkID{Scope: shared(scope), Network: first(n.Name, key)}
	}
	return maru.NetworkID{Scope: scope, Network: key}
}

func shared(scope maru.Scope) maru.Scope {
	scope.App = ""
	return scope
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func networks(r maru.Release) []maru.NetworkID {
	var out []maru.NetworkID
	for _, key := range slices.Sorted(maps.Keys(r.Spec.Networks)) {
		out = append(out, NetworkOf(r.Service.Scope, key, r.Networks[key]))
	}
	return out
}

// names are those that the release has on each of its networks, its service's own first.
func names(r maru.Release) map[string][]string {
	if len(r.Spec.Networks) == 0 {
		return nil
	}
	out := make(map[string][]string, len(r.Spec.Networks))
	for key, at := range r.Spec.Networks {
		id := NetworkOf(r.Service.Scope, key, r.Networks[key]).String()
		all := append([]string{r.Service.Service}, out[id]...)
		for _, alias := range slices.Sorted(slices.Values(at.Aliases)) {
			if !slices.Contains(all, alias) {
				all = append(all, alias)
			}
		}
		out[id] = slices.Compact(all)
	}
	return out
}

// isolated tells whether no network of the release leads out of the machine.
func isolated(r maru.Release) bool {
	if r.Spec.Container.Host.HostNetwork {
		return false
	}
	for key := range r.Spec.Networks {
		if !r.Networks[key].Internal {
			return false
		}
	}
	return true
}

// Ports are those that a service declares, in the order to prefer: exposed, published, routed to.
// What it says of a port in one place counts in all.
func Ports(s maru.Service) []maru.Port {
	var out []maru.Port
	add := func(p maru.Port) {
		if p.Port == 0 {
			return
		}
		if p.Protocol == "" {
			p.Protocol = maru.TCP
		}
		for i := range out {
			if out[i].Port == p.Port && out[i].Protocol == p.Protocol {
				out[i].App = first(out[i].App, p.App)
				out[i].ProxyProtocol = max(out[i].ProxyProtocol, p.ProxyProtocol)
				return
			}
		}
		out = append(out, p)
	}
	for _, p := range s.Expose {
		add(p)
	}
	for _, p := range s.Publish {
		add(p.Target)
	}
	for _, r := range s.Routes {
		add(maru.Port{Port: r.Port, Protocol: maru.TCP})
	}
	return out
}

// WithImagePorts adds the ports that an image says it listens on to those that a service declares,
// where they can be believed: when it runs the image's own program and declares none, or routes
// to a port it does not name. Without a route they are assumed only.
func WithImagePorts(s maru.Service, image maru.ImageConfig) maru.Service {
	declared := Ports(s)
	own := s.Container.Entrypoint == nil && s.Container.Command == nil
	unnamed := slices.ContainsFunc(s.Routes, func(r maru.Route) bool { return r.Port == 0 })
	if len(declared) > 0 || !own && !unnamed {
		return s
	}
	s.Expose = slices.Clone(image.Ports)
	for i := range s.Expose {
		s.Expose[i].Assumed = !unnamed
	}
	return s
}

// writable are the volumes that the release's instances may write to.
func writable(r maru.Release) map[maru.VolumeID]bool {
	var out map[maru.VolumeID]bool
	for _, m := range r.Spec.Container.Mounts {
		if m.Kind != maru.VolumeMount || m.Source == "" || m.ReadOnly || m.Shared {
			continue
		}
		if out == nil {
			out = map[maru.VolumeID]bool{}
		}
		out[VolumeOf(r.Service.Scope, m.Source, r.Volumes[m.Source])] = true
	}
	return out
}
