package table

import (
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// Match is what a request at the gateway leads to. It is immutable.
type Match struct {
	Service *Service
	Route   maru.Route
}

// Route finds the route for a request, in the order that [maru.Route] says. Hosts are in lower case and
// without port, the request's path is a clean one ([message.CleanPath]).
func (t *Table) Route(hostname string, r *message.Request) (*Match, bool) {
	m := t.walk(hostname, r.Path, func(list []rule) *Match {
		for i := range list {
			if list[i].takes(r) {
				return list[i].match
			}
		}
		return nil
	})
	return m, m != nil
}

// walk visits the rules for a host and path, the most specific first, until one visit gives a match.
func (t *Table) walk(hostname, path string, visit func([]rule) *Match) *Match {
	hostname = strings.TrimSuffix(hostname, ".")
	if len(hostname) <= 253 && hostname != "" {
		if m := t.walkHost(hostname, path, visit); m != nil {
			return m
		}
		for rest := hostname; ; {
			_, parent, ok := strings.Cut(rest, ".")
			if !ok || parent == "" {
				break
			}
			if m := t.walkHost("*."+parent, path, visit); m != nil {
				return m
			}
			rest = parent
		}
	}
	return t.walkHost("", path, visit)
}

func (t *Table) walkHost(name, path string, visit func([]rule) *Match) *Match {
	h, ok := t.hosts.get(name)
	if !ok {
		return nil
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	if list := h.exact[path]; len(list) > 0 {
		if m := visit(list); m != nil {
			return m
		}
	}
	for end := cut(path, h.depth); ; {
		if list := h.prefixes[path[:end]]; len(list) > 0 {
			if m := visit(list); m != nil {
				return m
			}
		}
		if end == 0 {
			return nil
		}
		end = max(0, strings.LastIndexByte(path[:end], '/'))
	}
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

func (t *Table) addRoute(svc *Service, r maru.Route) {
	t.hosts.change(r.HostName(), func(h *host, ok bool) (*host, bool) {
		if !ok {
			h = &host{exact: map[string][]rule{}, prefixes: map[string][]rule{}}
		}
		h.put(&Match{svc, r})
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
