package table

import (
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/policy"
)

// Match is what a request at the gateway leads to. It is immutable.
type Match struct {
	Service *Service
	Route   maru.Route
	Policy  *policy.Chain // nil: none
}

// errAmbiguous refuses what one policy would let through where another one might be meant.
const errAmbiguous message.PathError = "The request's path leads to different places depending on whether an encoded slash ends a segment."

// Route finds where a request leads to, in the order that [maru.Route] says; nil for nowhere. It gives the
// request the path that it went by ([message.CleanPath]). An error says why the request is to be refused.
func (t *Table) Route(hostname string, r *message.Request) (*Match, error) {
	clean, path, encoded, err := message.CleanPath(r.Target, r.Path)
	if err != nil {
		return nil, err
	}
	r.Target, r.Path = clean, path
	m := t.find(hostname, r)
	if encoded {
		other := *r
		if other.Path = message.Segments(clean); t.find(hostname, &other) != m {
			return nil, errAmbiguous
		}
	}
	return m, nil
}

// find gives the first route that takes the request. Hosts are in lower case and without port.
func (t *Table) find(hostname string, r *message.Request) *Match {
	return t.hostsOf(hostname, func(h *host) *Match {
		return h.walk(r.Path, func(list []rule) *Match {
			for i := range list {
				if list[i].takes(r) {
					return list[i].match
				}
			}
			return nil
		})
	})
}

// hostsOf visits what leads on from a host name, the most specific first, until one visit gives a match.
func (t *Table) hostsOf(hostname string, visit func(*host) *Match) *Match {
	hostname = strings.TrimSuffix(hostname, ".")
	if len(hostname) <= 253 && hostname != "" {
		if h, ok := t.hosts.get(hostname); ok {
			if m := visit(h); m != nil {
				return m
			}
		}
		for rest := hostname; ; {
			_, parent, ok := strings.Cut(rest, ".")
			if !ok || parent == "" {
				break
			}
			if h, ok := t.hosts.get("*." + parent); ok {
				if m := visit(h); m != nil {
					return m
				}
			}
			rest = parent
		}
	}
	if h, ok := t.hosts.get(""); ok {
		return visit(h)
	}
	return nil
}

// cut gives the end of the path's first n segments, without a slash at the end.
func cut(path string, n int) int {
	end := 0
	for ; n > 0 && end < len(path); n-- {
		i := strings.IndexByte(path[end+1:], '/')
		if i < 0 {
			end = len(path)
			break
		}
		end += 1 + i
	}
	for end > 0 && path[end-1] == '/' {
		end--
	}
	return end
}

// addRoutes puts a service's routes in force. Of several that ask for the same the first one counts, but one
// that is not understood before all others: it may ask for something else yet.
func (t *Table) addRoutes(s *State) {
	seen := map[string]bool{}
	for _, known := range []bool{false, true} {
		for i, m := range s.matches {
			if (m.Route.Unknown == nil) == known {
				t.addRoute(slices.DeleteFunc(rulesOf(m, s.Since, i), func(u rule) bool {
					again := seen[u.claim]
					seen[u.claim] = true
					return again
				}))
			}
		}
	}
}

func (t *Table) addRoute(rules []rule) {
	if len(rules) == 0 {
		return
	}
	t.hosts.change(rules[0].match.Route.HostName(), func(h *host, ok bool) (*host, bool) {
		if !ok {
			h = &host{exact: map[string][]rule{}, prefixes: map[string][]rule{}}
		}
		h.put(rules)
		return h, true
	})
}

// dropClaim takes a route's claim away from svc, and gives the one that has it instead from now on, if
// it is another one than before.
func (t *Table) dropClaim(svc *Service, r maru.Route, claim string) (heir *Service) {
	t.hosts.change(r.HostName(), func(h *host, ok bool) (*host, bool) {
		if !ok {
			return nil, false
		}
		heir = h.drop(svc, r, claim)
		return h, len(h.exact)+len(h.prefixes) > 0
	})
	return heir
}

// holder tells who has what svc asked for, when it is somebody else.
func (t *Table) holder(svc *Service, r maru.Route, claim string) *Service {
	h, ok := t.hosts.get(r.HostName())
	if !ok {
		return nil
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	list := h.paths(r)[r.PathName()]
	i := slices.IndexFunc(list, func(u rule) bool { return u.claim == claim })
	if i < 0 || list[i].match.Service == svc {
		return nil
	}
	return list[i].match.Service
}
