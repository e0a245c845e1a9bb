package table

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

// reference finds a route the slow way, over a plain list in the order in which services asked.
func reference(list []Match, hostname, path string) string {
	best, bestHost, bestPath := "", -1, -1
	for _, m := range list {
		host := 0
		switch {
		case m.Route.Host == hostname && hostname != "":
			host = 1000
		case strings.HasPrefix(m.Route.Host, "*."):
			if suffix := m.Route.Host[1:]; !strings.HasSuffix(hostname, suffix) || hostname == suffix {
				continue
			}
			host = len(m.Route.Host)
		case m.Route.Host != "":
			continue
		}
		p := strings.TrimRight(m.Route.Path, "/")
		if path != p && !strings.HasPrefix(path, p+"/") && p != "" {
			continue
		}
		if host > bestHost || host == bestHost && len(p) > bestPath {
			best, bestHost, bestPath = m.Service.ID.Service, host, len(p)
		}
	}
	return best
}

// TestRoutesAgreeWithReference changes routes at random and asks at random.
func TestRoutesAgreeWithReference(t *testing.T) {
	hosts := rapid.SampledFrom([]string{"", "a.test", "b.a.test", "*.a.test", "*.test", "*.b.a.test", "c.b.a.test"})
	paths := rapid.SampledFrom([]string{"", "/", "/x", "/x/", "/x/y", "/x/y/z", "/xy", "/y"})
	rapid.Check(t, func(t *rapid.T) {
		x := New()
		state := map[maru.ServiceID][]maru.Route{}
		var list []Match
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			id := shop.Service(fmt.Sprint("s", rapid.IntRange(0, 4).Draw(t, "service")))
			if rapid.IntRange(0, 4).Draw(t, "remove") == 0 {
				if err := x.Update(maru.TrafficUpdate{Removed: []maru.ServiceID{id}}); err != nil {
					t.Fatal(err)
				}
				delete(state, id)
				list = slices.DeleteFunc(list, func(m Match) bool { return m.Service.ID == id })
				continue
			}
			var routes []maru.Route
			for range rapid.IntRange(0, 3).Draw(t, "routes") {
				r := maru.Route{Host: hosts.Draw(t, "host"), Path: paths.Draw(t, "path")}
				if !slices.ContainsFunc(routes, func(o maru.Route) bool { return o.Host == r.Host && prefix(o.Path) == prefix(r.Path) }) {
					routes = append(routes, r)
				}
			}
			if err := x.Update(maru.TrafficUpdate{Services: []maru.ServiceTraffic{{Service: id, Routes: routes}}}); err != nil {
				t.Fatal(err)
			}
			svc := &Service{ID: id}
			list = slices.DeleteFunc(list, func(m Match) bool {
				return m.Service.ID == id && !slices.ContainsFunc(routes, func(r maru.Route) bool {
					return r.Host == m.Route.Host && prefix(r.Path) == prefix(m.Route.Path)
				})
			})
			for _, r := range routes {
				if !slices.ContainsFunc(list, func(m Match) bool {
					return m.Service.ID == id && m.Route.Host == r.Host && prefix(m.Route.Path) == prefix(r.Path)
				}) {
					list = append(list, Match{svc, r})
				}
			}
			state[id] = routes
		}
		for range 20 {
			host := rapid.SampledFrom([]string{"a.test", "b.a.test", "c.b.a.test", "z.a.test", "z.b.a.test", "q", "", "test"}).Draw(t, "asked host")
			path := rapid.SampledFrom([]string{"/", "/x", "/x/", "/x/y", "/x/yz", "/xy/z", "/x/y/z/q", "/y/x", "*"}).Draw(t, "asked path")
			got := ""
			if m, ok := x.Route(host, path); ok {
				got = m.Service.ID.Service
			}
			if want := reference(list, host, path); got != want {
				t.Fatalf("%s%s leads to %q, not %q; %v", host, path, got, want, list)
			}
		}
		for id := range state {
			if err := x.Update(maru.TrafficUpdate{Removed: []maru.ServiceID{id}}); err != nil {
				t.Fatal(err)
			}
		}
		for name := range x.hosts.each {
			t.Fatalf("host %q is left", name)
		}
		if p := x.Report().Problems; len(p) != 0 {
			t.Fatalf("problems are left: %v", p)
		}
	})
}
