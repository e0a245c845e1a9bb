package table

import (
	"slices"
	"strings"
	"sync"

	"github.com/marucloud/maru"
)

// host holds what leads on from one host name.
type host struct {
	mu       sync.RWMutex
	exact    map[string][]rule // by whole path
	prefixes map[string][]rule // by path prefix without a slash at its end
	depth    int               // most segments of a prefix that was ever there
}

// walk visits the rules for a path, the most specific first, until one visit gives a match.
func (h *host) walk(path string, visit func([]rule) *Match) *Match {
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

func (h *host) paths(r maru.Route) map[string][]rule {
	if r.Exact {
		return h.exact
	}
	return h.prefixes
}

// put adds rules, or replaces those with the same claim of the same service. Lists are replaced, never
// changed.
func (h *host) put(rules []rule) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range rules {
		route := u.match.Route
		paths, path := h.paths(route), route.PathName()
		if !route.Exact {
			h.depth = max(h.depth, strings.Count(path, "/"))
		}
		list := slices.DeleteFunc(slices.Clone(paths[path]), func(o rule) bool { return o.claim == u.claim && o.match.Service == u.match.Service })
		at, _ := slices.BinarySearchFunc(list, u, order)
		paths[path] = slices.Insert(list, at, u)
	}
}

func (h *host) drop(svc *Service, r maru.Route, claim string) (heir *Service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	paths, path := h.paths(r), r.PathName()
	first := func(list []rule) *Service {
		if i := slices.IndexFunc(list, func(u rule) bool { return u.claim == claim }); i >= 0 {
			return list[i].match.Service
		}
		return nil
	}
	before := first(paths[path])
	list := slices.DeleteFunc(slices.Clone(paths[path]), func(u rule) bool { return u.claim == claim && u.match.Service == svc })
	if len(list) == 0 {
		delete(paths, path)
		return nil
	}
	paths[path] = list
	if now := first(list); now != before {
		return now
	}
	return nil
}
