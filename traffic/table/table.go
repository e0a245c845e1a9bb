package table

import (
	"bytes"
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/policy"
)

// Table is the state of a data plane. Update has one caller at a time; all else is for many.
type Table struct {
	services  *index[maru.ServiceID, *Service]
	virtual   *index[netip.Addr, *Service]
	callers   *index[netip.Addr, *Endpoint]
	instances *index[string, *Endpoint]
	hosts     *index[string, *host]
	names     *index[nameKey, []*Service]

	certificates atomic.Pointer[[]maru.Certificate]
	resolvers    atomic.Pointer[[]netip.AddrPort]
	challenges   atomic.Pointer[[]maru.Challenge] // nil: none
	version      atomic.Uint64
	passing      atomic.Int32 // routes whose TLS services end

	updating  sync.Mutex
	observers []Observer

	awaiting awaited

	mu       sync.Mutex
	draining map[*Endpoint]struct{}
	problems map[problemKey]maru.TrafficProblem
	news     chan struct{}
}

// Observer is told of each service that changed, after it did: before or after is nil for one that
// came or went.
type Observer func(svc *Service, before, after *State)

// New makes an empty table.
func New(observers ...Observer) *Table {
	return &Table{
		services:  newIndex[maru.ServiceID, *Service](),
		virtual:   newIndex[netip.Addr, *Service](),
		callers:   newIndex[netip.Addr, *Endpoint](),
		instances: newIndex[string, *Endpoint](),
		hosts:     newIndex[string, *host](),
		names:     newIndex[nameKey, []*Service](),
		observers: observers,
		draining:  map[*Endpoint]struct{}{},
		problems:  map[problemKey]maru.TrafficProblem{},
		news:      make(chan struct{}, 1),
	}
}

// Observe adds an observer. Call it before the first Update.
func (t *Table) Observe(o Observer) { t.observers = append(t.observers, o) }

// Update puts a step in force.
func (t *Table) Update(u maru.TrafficUpdate) error {
	t.updating.Lock()
	defer t.updating.Unlock()
	now := time.Now()
	removed := u.Removed
	if u.Full {
		removed = t.unnamed(u.Services)
	}
	for _, s := range u.Services {
		t.put(s, now)
	}
	for _, id := range removed {
		t.remove(id, now)
	}
	if len(u.Certificates) > 0 {
		t.certificates.Store(&u.Certificates)
	}
	if len(u.Resolvers) > 0 || u.Full {
		t.resolvers.Store(&u.Resolvers)
	}
	if u.Challenges != nil && len(*u.Challenges) > 0 {
		t.challenges.Store(u.Challenges)
	} else if u.Challenges != nil || u.Full {
		t.challenges.Store(nil)
	}
	t.version.Store(u.Version)
	t.tell()
	return nil
}

func (t *Table) unnamed(services []maru.ServiceTraffic) []maru.ServiceID {
	named := make(map[maru.ServiceID]struct{}, len(services))
	for _, s := range services {
		named[s.Service] = struct{}{}
	}
	var gone []maru.ServiceID
	for id := range t.services.each {
		if _, ok := named[id]; !ok {
			gone = append(gone, id)
		}
	}
	return gone
}

func (t *Table) put(traffic maru.ServiceTraffic, now time.Time) {
	svc, known := t.services.get(traffic.Service)
	if !known {
		svc = &Service{ID: traffic.Service}
	}
	before := svc.State()
	after, fresh, gone := newState(svc, before, traffic, t.idle)
	for i, e := range after.all {
		t.follow(e, traffic.Endpoints[i])
		e.put(traffic.Endpoints[i], now, before != nil && others(before.Ready(), e))
	}
	t.prepare(svc, before, after)
	svc.swap(after, now)
	if !known {
		t.services.set(svc.ID, svc)
	}
	t.reindex(svc, before, after)
	for _, e := range gone {
		t.retire(e)
	}
	for _, e := range fresh {
		t.admit(e)
	}
	if before != nil && len(gone) > 0 {
		svc.Stats.forget(func(release int) bool {
			return release == 0 || slices.ContainsFunc(after.all, func(e *Endpoint) bool { return e.Release == release })
		})
	}
	for _, o := range t.observers {
		o(svc, before, after)
	}
}

// others tells whether anybody else serves.
func others(ready []*Endpoint, e *Endpoint) bool {
	return len(ready) > 1 || len(ready) == 1 && ready[0] != e
}

func (t *Table) remove(id maru.ServiceID, now time.Time) {
	svc, ok := t.services.get(id)
	if !ok {
		return
	}
	before := svc.State()
	none := &State{ServiceTraffic: maru.ServiceTraffic{Service: id, Empty: "It was removed."}, Removed: true, whole: &group{}}
	t.reindex(svc, before, none)
	t.services.change(id, func(*Service, bool) (*Service, bool) { return nil, false })
	svc.swap(none, now)
	for _, e := range before.all {
		t.retire(e)
	}
	t.Solved(id, "")
	for _, o := range t.observers {
		o(svc, before, nil)
	}
}

// reindex adds first what the service gets and then takes away what it had, so that nothing is
// missing in between.
func (t *Table) reindex(svc *Service, before, after *State) {
	var old maru.ServiceTraffic
	if before != nil {
		old = before.ServiceTraffic
	}
	t.reindexRoutes(svc, old.Routes, after)
	t.reindexNames(svc, old.Networks, after.Networks)
	if old.VirtualAddress != after.VirtualAddress {
		claim(t.virtual, after.VirtualAddress, svc)
		release(t.virtual, old.VirtualAddress, after.VirtualAddress, svc)
	}
}

// prepare makes the state's routes ready. A policy that stayed as it was goes on with what it has counted.
func (t *Table) prepare(svc *Service, before, after *State) {
	for _, r := range after.Routes {
		m := &Match{Service: svc, Route: r}
		if old := before.match(r); old != nil && reflect.DeepEqual(old.Route.Policy, r.Policy) && bytes.Equal(old.Route.Unknown, r.Unknown) {
			m.Policy = old.Policy
		} else {
			var err error
			if m.Policy, err = policy.New(r); err != nil {
				t.Problem(svc.ID, policyName(r), err.Error())
			} else {
				t.Solved(svc.ID, policyName(r))
			}
		}
		after.matches = append(after.matches, m)
	}
}

// match gives what was made ready of a route that asks for the same.
func (s *State) match(r maru.Route) *Match {
	if s == nil {
		return nil
	}
	claims := r.Claims()
	for _, m := range s.matches {
		if slices.Equal(m.Route.Claims(), claims) {
			return m
		}
	}
	return nil
}

func (t *Table) reindexRoutes(svc *Service, old []maru.Route, now *State) {
	t.passing.Add(passing(now.Routes) - passing(old))
	wanted := claimsOf(now.Routes)
	t.addRoutes(now)
	for _, c := range wanted {
		if other := t.holder(svc, c.route, c.name); other != nil {
			t.Problem(svc.ID, routeName(c.name), other.ID.String()+" has it already")
		} else {
			t.Solved(svc.ID, routeName(c.name))
		}
	}
	for _, c := range claimsOf(old) {
		if slices.ContainsFunc(wanted, func(w asked) bool { return w.name == c.name }) {
			continue
		}
		t.Solved(svc.ID, routeName(c.name))
		t.Solved(svc.ID, policyName(c.route))
		if heir := t.dropClaim(svc, c.route, c.name); heir != nil {
			t.Solved(heir.ID, routeName(c.name))
		}
	}
}

// policyName is how a route's policy is spoken of in a report.
func policyName(r maru.Route) string { return "policy of " + r.Claims()[0] }

// routeName is how what a route asks for is spoken of in a report.
func routeName(claim string) string { return "route " + claim }

func (t *Table) admit(e *Endpoint) {
	t.instances.set(e.Instance, e)
	claim(t.callers, e.Addresses, e)
	t.awaiting.arrived(e)
}

func (t *Table) retire(e *Endpoint) {
	e.retire()
	t.instances.change(e.Instance, func(now *Endpoint, ok bool) (*Endpoint, bool) { return now, ok && now != e })
	release(t.callers, e.Addresses, maru.Addresses{}, e)
	t.mu.Lock()
	delete(t.draining, e)
	t.mu.Unlock()
}

// claim writes v down for the addresses. The last one who was given an address has it.
func claim[V comparable](x *index[netip.Addr, V], a maru.Addresses, v V) {
	for _, addr := range []netip.Addr{a.V4, a.V6} {
		if addr.IsValid() {
			x.set(addr, v)
		}
	}
}

func release[V comparable](x *index[netip.Addr, V], a, but maru.Addresses, v V) {
	for _, addr := range []netip.Addr{a.V4, a.V6} {
		if addr.IsValid() && addr != but.V4 && addr != but.V6 {
			x.change(addr, func(now V, ok bool) (V, bool) { return now, ok && now != v })
		}
	}
}

// Service finds a service by its name.
func (t *Table) Service(id maru.ServiceID) (*Service, bool) { return t.services.get(id) }

// Virtual finds the service that has the virtual address.
func (t *Table) Virtual(a netip.Addr) (*Service, bool) { return t.virtual.get(a.Unmap()) }

// Instance finds an instance by its ID.
func (t *Table) Instance(id string) (*Endpoint, bool) { return t.instances.get(id) }

// Certificates gives the TLS certificates in force, or nil. Each set has its own address.
func (t *Table) Certificates() *[]maru.Certificate { return t.certificates.Load() }

// Challenges gives what authorities ask of the gateway just now, or nil.
func (t *Table) Challenges() *[]maru.Challenge { return t.challenges.Load() }

// Resolvers gives the name servers for foreign names.
func (t *Table) Resolvers() []netip.AddrPort {
	if r := t.resolvers.Load(); r != nil {
		return *r
	}
	return nil
}

// Services gives a moment's services.
func (t *Table) Services() iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		for _, s := range t.services.each {
			if !yield(s) {
				return
			}
		}
	}
}

// Traffic gives the state of all services as it was told.
func (t *Table) Traffic() iter.Seq[maru.ServiceTraffic] {
	return func(yield func(maru.ServiceTraffic) bool) {
		for _, s := range t.services.each {
			if !yield(s.State().ServiceTraffic) {
				return
			}
		}
	}
}
