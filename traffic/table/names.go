package table

import (
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// nameKey is a name on a network.
type nameKey struct{ network, name string }

func (t *Table) reindexNames(svc *Service, before, after map[string][]string) {
	for network, names := range after {
		for _, name := range names {
			t.names.change(nameKey{network, strings.ToLower(name)}, func(have []*Service, _ bool) ([]*Service, bool) {
				if slices.Contains(have, svc) {
					return have, true
				}
				return append(slices.Clip(have), svc), true
			})
		}
	}
	for network, names := range before {
		for _, name := range names {
			if hasName(after[network], name) {
				continue
			}
			t.names.change(nameKey{network, strings.ToLower(name)}, func(have []*Service, _ bool) ([]*Service, bool) {
				have = slices.DeleteFunc(slices.Clone(have), func(s *Service) bool { return s == svc })
				return have, len(have) > 0
			})
		}
	}
}

func hasName(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// Lookup gives the services that have the name, in lower case, on a network that the caller is on:
// those of the app, or with app "" of the caller's own app if there are any, else of others.
func (t *Table) Lookup(caller *Service, name, app string) []*Service {
	var own, others []*Service
	for network := range caller.State().Networks {
		found, _ := t.names.get(nameKey{network, name})
		for _, s := range found {
			switch {
			case app == "" && s.ID.Scope == caller.ID.Scope, app != "" && strings.EqualFold(s.ID.App, app):
				own = appendNew(own, s)
			case app == "":
				others = appendNew(others, s)
			}
		}
	}
	if len(own) > 0 {
		return own
	}
	return others
}

func appendNew(list []*Service, s *Service) []*Service {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// Meet tells whether two services share a network.
func Meet(a, b *Service) bool {
	if a == b {
		return true
	}
	an, bn := a.State().Networks, b.State().Networks
	if len(bn) < len(an) {
		an, bn = bn, an
	}
	for network := range an {
		if _, ok := bn[network]; ok {
			return true
		}
	}
	return false
}

// Gateway is the caller that a service's Allow names for requests from outside.
const Gateway = "gateway"

// Allowed tells whether the caller may call the callee. Callers share a network with it; a callee
// that names its callers is called by no other one. A nil caller is the gateway.
func Allowed(caller, callee *Service) bool {
	state := callee.State()
	if caller == nil {
		return len(state.Allow) == 0 || slices.Contains(state.Allow, Gateway)
	}
	if caller == callee {
		return true
	}
	if !Meet(caller, callee) {
		return false
	}
	return len(state.Allow) == 0 || caller.ID.Scope == callee.ID.Scope && slices.Contains(state.Allow, caller.ID.Service)
}

// FullName gives the name of a service with its app's: NAME.APP.internal.
func FullName(id maru.ServiceID) string { return id.Service + "." + id.App + ".internal" }
