package control

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// claimIndex is what services have alone on this machine: routes and host ports of what serves, and of
// what is on its way to. It is brought up to date app by app when somebody asks, so that its cost
// does not grow with what did not change. Whoever uses it holds Controller.deciding.
type claimIndex struct {
	routes map[string][]maru.ServiceID // by what they ask for: [maru.Route.Claims]
	ports  map[string][]portClaim      // by port and protocol
	apps   map[maru.Scope]appClaims
}

type portClaim struct {
	ip      string
	service maru.ServiceID
}

// appClaims are the keys under which an app is in the index.
type appClaims struct{ routes, ports []string }

func newClaimIndex() *claimIndex {
	return &claimIndex{routes: map[string][]maru.ServiceID{}, ports: map[string][]portClaim{}, apps: map[maru.Scope]appClaims{}}
}

// claims gives what a submission of an app has to respect: the claims of all other apps, and those
// that it makes itself.
func (c *Controller) claims(scope maru.Scope) *claims {
	for stale, services := range c.view.takeStale() {
		c.index.put(stale, services)
	}
	return &claims{index: c.index, view: c.view, scope: scope,
		addresses: map[netip.Addr]bool{}, routes: map[string]maru.ServiceID{}, ports: map[string][]portClaim{}}
}

// claimant is a service with a release that it claims something for.
type claimant struct {
	state   maru.ServiceState
	release maru.Release
}

// takeStale gives the apps that changed since the last call, with all that they claim for.
func (v *view) takeStale() map[maru.Scope][]claimant {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[maru.Scope][]claimant, len(v.stale))
	for scope := range v.stale {
		out[scope] = nil
		a := v.apps[scope]
		if a == nil {
			continue
		}
		for name, st := range a.services {
			out[scope] = append(out[scope], claimant{st, a.releases[name][st.Release]})
			if a.newest != nil && !a.newest.Phase.Final() {
				out[scope] = append(out[scope], claimant{st, a.releases[name][a.newest.Services[name].To]})
			}
		}
	}
	clear(v.stale)
	return out
}

// put takes an app's claims in place of its earlier ones.
func (x *claimIndex) put(scope maru.Scope, all []claimant) {
	before := x.apps[scope]
	for _, key := range before.routes {
		drop(x.routes, key, func(id maru.ServiceID) bool { return id.Scope == scope })
	}
	for _, key := range before.ports {
		drop(x.ports, key, func(p portClaim) bool { return p.service.Scope == scope })
	}
	var now appClaims
	for _, c := range all {
		for _, route := range c.release.Spec.Routes {
			for _, key := range route.Claims() {
				x.routes[key] = append(x.routes[key], c.state.Service)
				now.routes = append(now.routes, key)
			}
		}
		for _, p := range plan.Published(c.release.Spec, c.state) {
			key := portKey(p.HostPort, p.Target.Protocol)
			x.ports[key] = append(x.ports[key], portClaim{p.HostIP, c.state.Service})
			now.ports = append(now.ports, key)
		}
	}
	delete(x.apps, scope)
	if len(now.routes)+len(now.ports) > 0 {
		x.apps[scope] = now
	}
}

func drop[V any](m map[string][]V, key string, which func(V) bool) {
	m[key] = slices.DeleteFunc(m[key], which)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// claims are what one submission claims, beside what others have.
type claims struct {
	index *claimIndex
	view  *view
	scope maru.Scope

	addresses map[netip.Addr]bool
	routes    map[string]maru.ServiceID
	ports     map[string][]portClaim
}

func portKey(port uint16, protocol maru.Protocol) string { return fmt.Sprintf("%d/%s", port, protocol) }

// address claims a virtual address, if it is free.
func (c *claims) address(a netip.Addr, id maru.ServiceID) bool {
	if c.addresses[a] || c.view.hasAddress(a, id) {
		return false
	}
	c.addresses[a] = true
	return true
}

// hasAddress tells whether another service has the address.
func (v *view) hasAddress(a netip.Addr, but maru.ServiceID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	owner, has := v.addresses[a]
	return has && owner != but
}

// route claims a route; Conflict.
func (c *claims) route(id maru.ServiceID, r maru.Route) error {
	for _, key := range r.Claims() {
		owner, has := c.routes[key]
		for _, other := range c.index.routes[key] {
			if other.Scope != c.scope {
				owner, has = other, true
			}
		}
		if has && owner != id {
			return maru.WithHint(maru.Errorf(maru.Conflict, "%s: route %s is %s's", id.Service, key, owner), "pick another host or path, or remove it there")
		}
		c.routes[key] = id
	}
	return nil
}

// port claims a host port; Conflict.
func (c *claims) port(id maru.ServiceID, ip string, port uint16, protocol maru.Protocol) error {
	key := portKey(port, protocol)
	for _, claim := range slices.Concat(c.ports[key], c.index.ports[key]) {
		mine := claim.service.Scope == c.scope && !slices.Contains(c.ports[key], claim)
		if claim.service != id && !mine && overlap(claim.ip, ip) {
			return maru.WithHint(maru.Errorf(maru.Conflict, "%s: host port %s is %s's", id.Service, key, claim.service),
				"publish another port, or none: services reach each other without")
		}
	}
	c.ports[key] = append(c.ports[key], portClaim{ip, id})
	return nil
}

// overlap tells whether two host addresses have one in common.
func overlap(a, b string) bool {
	every := func(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
	return a == b || every(a) || every(b)
}
