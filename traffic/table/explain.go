package table

import (
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// mostBeside bounds how many routes that don't fit an explanation lists.
const mostBeside = 100

// Explain tells what the gateway would do with a request. It finds the route as [Table.Route] does.
func (t *Table) Explain(q maru.RouteQuestion) maru.RouteAnswer {
	r := &message.Request{Method: q.Method, Host: q.Host, Target: q.Target, Header: fieldsOf(q.Header)}
	r.Path, _, _ = strings.Cut(q.Target, "?")
	hostname := message.HostName(q.Host)
	m, err := t.Route(hostname, r)
	a := maru.RouteAnswer{Path: r.Path}
	t.beside(&a, hostname, r, m)
	switch {
	case err != nil:
		a.Refused = err.Error()
	case m == nil:
		a.Refused = "no route fits"
	default:
		t.found(&a, m)
	}
	return a
}

func (t *Table) found(a *maru.RouteAnswer, m *Match) {
	state := m.Service.State()
	a.Found = &maru.RouteStatus{Service: m.Service.ID, Route: m.Route, Problem: t.routeProblem(m)}
	if a.Port = m.Route.Port; a.Port == 0 {
		a.Port = state.HTTPPort()
	}
	a.Serving, a.Endpoints = state.Serving, state.ServiceTraffic.Endpoints
	switch {
	case !Allowed(nil, m.Service):
		a.Refused = "the service does not accept calls from the gateway (x-maru.allow)"
	case m.Policy.Fault() != nil:
		a.Refused = "the route's policy is not in force: " + m.Policy.Fault().Error()
	case a.Port == 0:
		a.Refused = "nothing says on which port the service listens"
	case len(state.Ready()) == 0:
		a.Refused = "the service has no instance that is ready"
		if state.Empty != "" {
			a.Refused += ": " + state.Empty
		}
	}
}

// beside lists the other routes of the hosts that fit: those for the path in the order in which they were
// looked at, then the rest.
func (t *Table) beside(a *maru.RouteAnswer, hostname string, r *message.Request, found *Match) {
	listed := map[string]bool{}
	add := func(u *rule, why string) {
		switch {
		case u.match == found || listed[u.claim+"\x00"+u.match.Service.ID.String()]:
			return
		case len(a.Others) == mostBeside:
			a.More++
			return
		}
		listed[u.claim+"\x00"+u.match.Service.ID.String()] = true
		status := maru.RouteStatus{Service: u.match.Service.ID, Route: u.match.Route, Problem: t.routeProblem(u.match)}
		a.Others = append(a.Others, maru.RouteBeside{RouteStatus: status, Why: why})
	}
	passed := false
	t.hostsOf(hostname, func(h *host) *Match {
		return h.walk(r.Path, func(list []rule) *Match {
			for i := range list {
				why := list[i].lacks(r)
				if why == "" && passed {
					why = "a route that comes first fits"
				}
				passed = passed || list[i].match == found
				add(&list[i], why)
			}
			return nil
		})
	})
	t.hostsOf(hostname, func(h *host) *Match {
		for _, u := range h.all() {
			why := "the path is not below " + u.match.Route.PathName()
			if u.match.Route.Exact {
				why = "the path is not " + u.match.Route.Path
			}
			add(&u, why)
		}
		return nil
	})
}

// all gives every rule of the host, by what it asks for.
func (h *host) all() []rule {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var all []rule
	for _, paths := range []map[string][]rule{h.exact, h.prefixes} {
		for _, list := range paths {
			all = append(all, list...)
		}
	}
	slices.SortFunc(all, func(a, b rule) int { return strings.Compare(a.claim, b.claim) })
	return all
}

// Routes gives the routes of all services, by service.
func (t *Table) Routes() []maru.RouteStatus {
	var all []maru.RouteStatus
	for s := range t.Services() {
		for _, r := range s.State().Routes {
			all = append(all, maru.RouteStatus{Service: s.ID, Route: r, Problem: t.routeProblem(&Match{Service: s, Route: r})})
		}
	}
	slices.SortStableFunc(all, func(a, b maru.RouteStatus) int { return strings.Compare(a.Service.String(), b.Service.String()) })
	return all
}

// routeProblem says why a route is not in force, or not all of it.
func (t *Table) routeProblem(m *Match) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.problems[problemKey{m.Service.ID, policyName(m.Route)}]; ok {
		return p.Why
	}
	for _, claim := range m.Route.Claims() {
		if p, ok := t.problems[problemKey{m.Service.ID, routeName(claim)}]; ok {
			return p.Why
		}
	}
	return ""
}
