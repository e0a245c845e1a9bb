package table

import "github.com/marucloud/maru"

func passing(routes []maru.Route) (n int32) {
	for _, r := range routes {
		if r.PassesThrough() {
			n++
		}
	}
	return n
}

// Passing tells whether the TLS of any route is ended by its service.
func (t *Table) Passing() bool { return t.passing.Load() > 0 }

// Passthrough finds the route that connections with TLS for a host are led by as they are; nil: their TLS is ended
// here. The most specific host that has any routes decides.
func (t *Table) Passthrough(hostname string) *Match {
	ended := &Match{}
	found := t.hostsOf(hostname, func(h *host) *Match {
		h.mu.RLock()
		defer h.mu.RUnlock()
		for _, u := range h.prefixes[""] {
			if r := u.match.Route; r.PassesThrough() && r.Policy == nil && r.Unknown == nil {
				return u.match
			}
		}
		if len(h.prefixes)+len(h.exact) > 0 {
			return ended
		}
		return nil
	})
	if found == ended {
		return nil
	}
	return found
}
