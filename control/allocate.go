package control

import (
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// allocate gives the services of a new rollout what each has alone on this machine: its virtual
// address, host ports that the server picks, and the host ports and routes that its file names.
// The caller holds deciding until the result is stored.
func (c *Controller) allocate(state plan.AppState, sub *plan.Submission) error {
	states, releases := map[string]maru.ServiceState{}, map[string]maru.Release{}
	for _, a := range sub.Actions {
		switch a := a.(type) {
		case plan.PutService:
			states[a.State.Service.Service] = a.State
		case plan.PutRelease:
			releases[a.Release.Service.Service] = a.Release
		}
	}
	taken := c.claims(state.Scope)
	for _, name := range slices.Sorted(maps.Keys(sub.Rollout.After)) {
		release, fresh := releases[name]
		if number := sub.Rollout.After[name]; !fresh || release.Number != number {
			release = state.Releases[name][number]
		}
		st, changed := states[name]
		if !changed {
			st = state.Services[name]
		}
		next, err := c.place(taken, release, st)
		if err != nil {
			return err
		}
		if string(maru.Raw(next)) != string(maru.Raw(st)) {
			states[name] = next
		}
	}
	sub.Actions = slices.DeleteFunc(sub.Actions, func(a plan.Action) bool { _, is := a.(plan.PutService); return is })
	for _, name := range slices.Sorted(maps.Keys(states)) {
		sub.Actions = append(sub.Actions, plan.PutService{State: states[name]})
	}
	return nil
}

func (c *Controller) place(taken *claims, r maru.Release, st maru.ServiceState) (maru.ServiceState, error) {
	if !st.VirtualAddress.V4.IsValid() {
		address, err := c.address(taken, st.Service)
		if err != nil {
			return st, err
		}
		st.VirtualAddress = address
	}
	for _, route := range r.Spec.Routes {
		if err := taken.route(st.Service, route); err != nil {
			return st, err
		}
	}
	for _, p := range r.Spec.Publish {
		if p.HostPort != 0 {
			if err := taken.port(st.Service, p.HostIP, p.HostPort, p.Target.Protocol); err != nil {
				return st, err
			}
			continue
		}
		key := plan.HostPortKey(p.Target)
		if have := st.HostPorts[key]; have != 0 && taken.port(st.Service, p.HostIP, have, p.Target.Protocol) == nil {
			continue
		}
		port, err := c.hostPort(taken, st.Service, p)
		if err != nil {
			return st, err
		}
		st.HostPorts = with(st.HostPorts, key, port)
	}
	return st, nil
}

// address takes a free virtual address: where in the range the search begins follows from the name,
// so that a service that comes back tends to have the one it had.
func (c *Controller) address(taken *claims, id maru.ServiceID) (maru.Addresses, error) {
	v4 := c.cfg.Ranges.VirtualV4.Masked()
	const reserved = 3 // the network's, the host's and the last
	count := 1<<(32-v4.Bits()) - reserved
	begin := int(hash(id.String()) % uint64(count))
	for k := range count {
		offset := 2 + (begin+k)%count
		a := plus(v4.Addr(), offset)
		if !taken.address(a, id) {
			continue
		}
		out := maru.Addresses{V4: a}
		if v6 := c.cfg.Ranges.VirtualV6; v6.IsValid() {
			out.V6 = plus(v6.Masked().Addr(), offset)
		}
		return out, nil
	}
	return maru.Addresses{}, maru.WithHint(maru.Errorf(maru.Exhausted, "all virtual addresses of %s are taken", v4), "give maru start a larger range")
}

// plus adds to the low 32 bits of an address.
func plus(a netip.Addr, n int) netip.Addr {
	b := a.AsSlice()
	for k, carry := len(b)-1, uint64(n); carry > 0 && k >= 0; k-- { //nolint:gosec // n is no negative number
		carry += uint64(b[k])
		b[k] = byte(carry)
		carry >>= 8
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}

func (c *Controller) hostPort(taken *claims, id maru.ServiceID, p maru.PublishedPort) (uint16, error) {
	low, high := c.cfg.HostPorts[0], c.cfg.HostPorts[1]
	count := int(high-low) + 1
	begin := int(hash(id.String()+" "+plan.HostPortKey(p.Target)) % uint64(count))
	for k := range count {
		port := low + uint16((begin+k)%count) //nolint:gosec // below 65536
		if taken.port(id, p.HostIP, port, p.Target.Protocol) == nil {
			return port, nil
		}
	}
	return 0, maru.Errorf(maru.Exhausted, "all host ports from %d to %d are taken", low, high)
}
