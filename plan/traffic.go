package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// ServiceView is all that a service's traffic depends on.
type ServiceView struct {
	State    maru.ServiceState
	Releases map[int]maru.Release
	Observed map[string]maru.Observation // by the workload's name
}

// Traffic is what the data planes are told of a service. Until its first release serves, its names
// and networks are those of the newest one, so that it can be found.
func Traffic(v ServiceView) maru.ServiceTraffic {
	t := maru.ServiceTraffic{Service: v.State.Service, Since: v.State.Since, VirtualAddress: v.State.VirtualAddress}
	if r, ok := v.main(); ok {
		t.Networks = names(r)
		t.DNSRoundRobin = r.Spec.DNSRoundRobin
		t.Isolated = isolated(r)
		t.Ports = recognized(Ports(r.Spec), v.State.Protocols)
		t.Publish = Published(r.Spec, v.State)
		t.Routes = routes(r.Spec.Routes, t.Ports)
		t.Allow = r.Spec.Allow
		t.AllowCalls = r.Spec.AllowCalls
		t.Timeout = r.Spec.Timeout
		t.Retry = r.Spec.Retry
		t.Balance = r.Spec.Balance
		t.Limits = r.Spec.Limits
		t.Priority = priority(r.Spec)
		t.Faults = slices.Concat(r.Spec.Faults, v.State.Faults)
	}
	t.Serving = serving(v.State)
	t.Split = split(v)
	t.Replay = replay(v)
	ready := 0
	for _, name := range slices.Sorted(maps.Keys(v.Observed)) {
		for _, i := range v.Observed[name].Instances {
			if e, ok := endpoint(name, i, t); ok {
				t.Endpoints = append(t.Endpoints, e)
				if e.Ready {
					ready++
				}
			}
		}
	}
	slices.SortFunc(t.Endpoints, func(a, b maru.Endpoint) int { return strings.Compare(a.Instance, b.Instance) })
	if ready == 0 {
		t.Empty = v.empty()
	}
	return t
}

// main is the release whose file counts: the one that serves, else the newest.
func (v ServiceView) main() (maru.Release, bool) {
	if r, ok := v.Releases[v.State.Release]; ok {
		return r, true
	}
	newest := 0
	for n := range v.Releases {
		newest = max(newest, n)
	}
	r, ok := v.Releases[newest]
	return r, ok
}

// priority is that of the calls a service makes: nobody waits for what a job does.
func priority(s maru.Service) maru.Priority {
	if s.Priority == "" && s.Kind == maru.Job {
		return maru.LowPriority
	}
	return s.Priority
}

func serving(s maru.ServiceState) []maru.Weight {
	if len(s.Serving) > 0 || s.Release == 0 {
		return s.Serving
	}
	return []maru.Weight{{Release: s.Release, Weight: 1}}
}

// replay is how many requests are sent again: as the release says that traffic shifts to, and before as the one that
// serves does, so that there are some.
func replay(v ServiceView) int {
	for _, number := range []int{v.State.Shifting, v.State.Release} {
		if r, known := v.Releases[number]; known && shifts(r) {
			return shiftOf(r).Replay
		}
	}
	return 0
}

// split is how requests are shared out while traffic shifts to a release.
func split(v ServiceView) *maru.Split {
	r, known := v.Releases[v.State.Shifting]
	if !known {
		return nil
	}
	s := shiftOf(r)
	out := &maru.Split{Old: v.State.Release, New: r.Number, Match: s.Match, Sticky: s.Sticky, Judged: s.Judge != nil}
	out.Baseline = Compared(v.Releases[v.State.Release], r)
	if v.State.Mirroring && s.Mirror != nil {
		out.Match, out.Mirror = nil, s.Mirror.Percent
	}
	return out
}

// endpoint is an instance as the data planes see it. All that has an address is listed, because an
// address is an identity; ready are those that are to get traffic.
func endpoint(workload string, i maru.Instance, t maru.ServiceTraffic) (maru.Endpoint, bool) {
	if !i.Addresses.V4.IsValid() && !i.Addresses.V6.IsValid() {
		return maru.Endpoint{}, false
	}
	release, serves := ReleaseOf(workload)
	baseline := t.Split != nil && t.Split.Baseline && workload == maru.BaselineName(t.Split.Old, t.Split.New)
	has := slices.ContainsFunc(t.Serving, func(w maru.Weight) bool { return w.Release == release && (w.Weight > 0 || t.Split != nil) })
	return maru.Endpoint{
		Instance:  i.ID,
		Release:   release,
		Addresses: i.Addresses,
		Ready:     (serves || baseline) && has && takesTraffic(i),
		Draining:  i.Phase == maru.PhaseDraining,
		Baseline:  baseline,
	}, true
}

// recognized fills in what ports speak that the file says nothing of.
func recognized(ports []maru.Port, protocols map[uint16]string) []maru.Port {
	for i := range ports {
		if ports[i].App == "" && ports[i].Protocol == maru.TCP {
			ports[i].App = protocols[ports[i].Port]
		}
	}
	return ports
}

// Published are a service's host ports, with those that the server picked.
func Published(spec maru.Service, s maru.ServiceState) []maru.PublishedPort {
	if len(spec.Publish) == 0 {
		return nil
	}
	out := slices.Clone(spec.Publish)
	for i := range out {
		if out[i].HostPort == 0 {
			out[i].HostPort = s.HostPorts[HostPortKey(out[i].Target)]
		}
	}
	return out
}

// HostPortKey is the key of [maru.ServiceState.HostPorts] for a port of the service.
func HostPortKey(target maru.Port) string {
	return maru.Itoa(int(target.Port)) + "/" + string(target.Protocol)
}

// routes fills in the port of those that name none: the first that speaks HTTP, else the first.
func routes(all []maru.Route, ports []maru.Port) []maru.Route {
	if len(all) == 0 {
		return nil
	}
	out := slices.Clone(all)
	for i := range out {
		if out[i].Port == 0 {
			out[i].Port = httpPort(ports)
		}
	}
	return out
}

func httpPort(ports []maru.Port) uint16 {
	var any uint16
	for _, p := range ports {
		switch {
		case p.App == "http", p.App == "h2c", p.App == "grpc":
			return p.Port
		case any == 0 && p.Protocol == maru.TCP && p.App != "tcp":
			any = p.Port
		}
	}
	return any
}
