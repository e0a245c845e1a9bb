package table

import (
	"slices"
	"strings"
	"sync"

	"github.com/marucloud/maru"
)

// Match is what a request at the gateway leads to.
type Match struct {
	Service *Service
	Route   maru.Route
}

// host holds what leads on from one host name, by path prefix without a slash at its end.
type host struct {
	mu    sync.RWMutex
	paths map[string][]Match // who asked for it, in that order: the first has it
	depth int                // most segments of a path that was ever there
}

// Route finds the route for a request: the most specific host first (exact, then the longest
// wildcard, then any), in it the longest path prefix by whole segments. Hosts are in lower case and
// without port. What it gives is not to be changed.
func (t *Table) Route(hostname, path string) (*Match, bool) {
	hostname = strings.TrimSuffix(hostname, ".")
	if len(hostname) <= 253 {
		if m, ok := t.routeAt(hostname, path); ok && hostname != "" {
			return m, true
		}
		for rest := hostname; ; {
			_, parent, ok := strings.Cut(rest, ".")
			if !ok || parent == "" {
				break
			}
			if m, ok := t.routeAt("*."+parent, path); ok {
				return m, true
			}
			rest = parent
		}
	}
	return t.routeAt("", path)
}

func (t *Table) routeAt(name, path string) (*Match, bool) {
	h, ok := t.hosts.get(name)
	if !ok {
		return nil, false
	}
	return h.match(path)
}

func (h *host) match(path string) (*Match, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for end := cut(path, h.depth); ; {
		if m := h.paths[path[:end]]; len(m) > 0 {
			return &m[0], true // lists are replaced, never changed
		}
		if end == 0 {
			return nil, false
		}
		end = strings.LastIndexByte(path[:end], '/')
		if end < 0 {
			end = 0
		}
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

func prefix(path string) string { return strings.TrimRight(path, "/") }

func routeHost(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

func (t *Table) addRoute(svc *Service, r maru.Route) {
	t.hosts.change(routeHost(r.Host), func(h *host, ok bool) (*host, bool) {
		if !ok {
			h = &host{paths: map[string][]Match{}}
		}
		h.put(svc, r)
		return h, true
	})
}

func (h *host) put(svc *Service, r maru.Route) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := prefix(r.Path)
	h.depth = max(h.depth, strings.Count(p, "/"))
	matches := slices.Clone(h.paths[p])
	if i := slices.IndexFunc(matches, func(m Match) bool { return m.Service == svc }); i >= 0 {
		matches[i].Route = r
	} else {
		matches = append(matches, Match{svc, r})
	}
	h.paths[p] = matches
}

// routeName is how a route is spoken of; a host in two spellings is one route.
func routeName(r maru.Route) string { return "route " + routeHost(r.Host) + prefix(r.Path) + "/" }

// dropRoute takes the route away from svc, and gives the one that has it instead from now on, if it
// is another one than before.
func (t *Table) dropRoute(svc *Service, r maru.Route) (heir *Service) {
	t.hosts.change(routeHost(r.Host), func(h *host, ok bool) (*host, bool) {
		if !ok {
			return nil, false
		}
		var left int
		heir, left = h.drop(svc, prefix(r.Path))
		return h, left > 0
	})
	return heir
}

func (h *host) drop(svc *Service, p string) (heir *Service, left int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	matches := slices.Clone(h.paths[p])
	had := len(matches) > 0 && matches[0].Service == svc
	matches = slices.DeleteFunc(matches, func(m Match) bool { return m.Service == svc })
	if len(matches) == 0 {
		delete(h.paths, p)
		return nil, len(h.paths)
	}
	h.paths[p] = matches
	if had {
		heir = matches[0].Service
	}
	return heir, len(h.paths)
}

// holder tells who has the route that svc asked for, when it is somebody else.
func (t *Table) holder(svc *Service, r maru.Route) *Service {
	h, ok := t.hosts.get(routeHost(r.Host))
	if !ok {
		return nil
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	if m := h.paths[prefix(r.Path)]; len(m) > 0 && m[0].Service != svc {
		return m[0].Service
	}
	return nil
}
