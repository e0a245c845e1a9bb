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

func (h *host) paths(r maru.Route) map[string][]rule {
	if r.Exact {
		return h.exact
	}
	return h.prefixes
}

// put adds the route's rules, or replaces those with the same claims of the same service. Lists are
// replaced, never changed.
func (h *host) put(m *Match) {
	h.mu.Lock()
	defer h.mu.Unlock()
	paths, path := h.paths(m.Route), m.Route.PathName()
	if !m.Route.Exact {
		h.depth = max(h.depth, strings.Count(path, "/"))
	}
	list := slices.Clone(paths[path])
	for _, u := range rulesOf(m) {
		if i := slices.IndexFunc(list, func(o rule) bool { return o.claim == u.claim && o.match.Service == m.Service }); i >= 0 {
			list[i] = u
			continue
		}
		at := slices.IndexFunc(list, func(o rule) bool { return o.rank < u.rank })
		if at < 0 {
			at = len(list)
		}
		list = slices.Insert(list, at, u)
	}
	paths[path] = list
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
