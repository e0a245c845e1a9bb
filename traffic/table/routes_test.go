package table

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// reference finds a route the slow way, over a plain list, the oldest service's first.
func reference(list []Match, hostname string, r *message.Request) string {
	best := ""
	var rank []int
	for _, m := range list {
		if now := rankOf(m.Route, hostname, r); now != nil && slices.Compare(now, rank) > 0 {
			best, rank = m.Service.ID.Service, now
		}
	}
	return best
}

// rankOf says how specific a route is for a request, by what counts most; nil when it does not fit.
func rankOf(route maru.Route, hostname string, r *message.Request) []int {
	host := 0
	switch {
	case route.Host == hostname && hostname != "":
		host = 1000
	case strings.HasPrefix(route.Host, "*."):
		if suffix := route.Host[1:]; !strings.HasSuffix(hostname, suffix) || hostname == suffix {
			return nil
		}
		host = len(route.Host)
	case route.Host != "":
		return nil
	}
	path, exact := strings.TrimRight(route.Path, "/"), 0
	switch {
	case route.Exact && r.Path == route.Path:
		path, exact = route.Path, 1
	case route.Exact:
		return nil
	case r.Path != path && !strings.HasPrefix(r.Path, path+"/") && path != "":
		return nil
	}
	method, match := 0, route.Match
	if match == nil {
		match = &maru.RouteMatch{}
	}
	if len(match.Methods) > 0 {
		if method = 1; !slices.Contains(match.Methods, r.Method) {
			return nil
		}
	}
	for name, value := range match.Headers {
		if r.Header.Get(name) != value {
			return nil
		}
	}
	_, query, _ := strings.Cut(r.Target, "?")
	values, _ := url.ParseQuery(query)
	for name, value := range match.Query {
		if !values.Has(name) || values.Get(name) != value {
			return nil
		}
	}
	return []int{host + 1, exact, len(path), method, len(match.Headers), len(match.Query)}
}

var matches = []*maru.RouteMatch{
	nil, nil, nil,
	{Methods: []string{"GET"}},
	{Methods: []string{"POST"}},
	{Headers: map[string]string{"X-A": "1"}},
	{Headers: map[string]string{"x-a": "1", "X-B": "2"}},
	{Query: map[string]string{"q": "a b"}},
	{Methods: []string{"GET"}, Query: map[string]string{"q": "a b"}},
	{Methods: []string{"GET"}, Headers: map[string]string{"X-B": "2"}},
	{Query: map[string]string{"q": "a b", "r": ""}},
}

func mapOf(h message.Header) map[string]string {
	m := map[string]string{}
	for _, f := range h {
		m[f.Name] = f.Value
	}
	return m
}

func sameClaims(a, b maru.Route) bool { return slices.Equal(a.Claims(), b.Claims()) }

// TestRoutesAgreeWithReference changes routes at random and asks at random.
func TestRoutesAgreeWithReference(t *testing.T) {
	hosts := rapid.SampledFrom([]string{"", "a.test", "b.a.test", "*.a.test", "*.test", "*.b.a.test", "c.b.a.test"})
	paths := rapid.SampledFrom([]string{"", "/", "/x", "/x/", "/x/y", "/x/y/z", "/xy", "/y"})
	rapid.Check(t, func(t *rapid.T) {
		x := New()
		state := map[maru.ServiceID][]maru.Route{}
		since := map[maru.ServiceID]time.Time{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			id := shop.Service(fmt.Sprint("s", rapid.IntRange(0, 4).Draw(t, "service")))
			if rapid.IntRange(0, 4).Draw(t, "remove") == 0 {
				if err := x.Update(maru.TrafficUpdate{Removed: []maru.ServiceID{id}}); err != nil {
					t.Fatal(err)
				}
				delete(state, id)
				continue
			}
			if _, known := state[id]; !known {
				since[id] = time.Unix(int64(rapid.IntRange(0, 2).Draw(t, "since")), 0)
			}
			var routes []maru.Route
			for range rapid.IntRange(0, 3).Draw(t, "routes") {
				r := maru.Route{
					Host: hosts.Draw(t, "host"), Path: paths.Draw(t, "path"), Exact: rapid.Bool().Draw(t, "exact"),
					Match: rapid.SampledFrom(matches).Draw(t, "match"),
				}
				r.Exact = r.Exact && r.Path != ""
				if !slices.ContainsFunc(routes, func(o maru.Route) bool { return sameClaims(o, r) }) {
					routes = append(routes, r)
				}
			}
			if err := x.Update(maru.TrafficUpdate{Services: []maru.ServiceTraffic{{Service: id, Since: since[id], Routes: routes}}}); err != nil {
				t.Fatal(err)
			}
			state[id] = routes
		}
		ids := slices.SortedFunc(maps.Keys(state), func(a, b maru.ServiceID) int {
			return cmp.Or(since[a].Compare(since[b]), cmp.Compare(a.String(), b.String()))
		})
		var list []Match
		for _, id := range ids {
			for _, r := range state[id] {
				list = append(list, Match{Service: &Service{ID: id}, Route: r})
			}
		}
		for range 20 {
			host := rapid.SampledFrom([]string{"a.test", "b.a.test", "c.b.a.test", "z.a.test", "z.b.a.test", "q", "", "test"}).Draw(t, "asked host")
			path := rapid.SampledFrom([]string{"/", "/x", "/x/", "/x/y", "/x/yz", "/xy/z", "/x/y/z/q", "/y/x", "/"}).Draw(t, "asked path")
			r := &message.Request{
				Method: rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method"), Path: path,
				Target: path + rapid.SampledFrom([]string{"", "?q=a+b", "?q=a%20b&r", "?q=b&q=a+b", "?x=1&%71=a+b"}).Draw(t, "query"),
				Header: rapid.SampledFrom([]message.Header{nil, {{Name: "X-A", Value: "1"}}, {{Name: "x-b", Value: "2"}, {Name: "X-a", Value: "1"}}}).Draw(t, "header"),
			}
			got := ""
			if m, _ := x.Route(host, r); m != nil {
				got = m.Service.ID.Service
			}
			explained := x.Explain(maru.RouteQuestion{Method: r.Method, Host: host, Target: r.Target, Header: mapOf(r.Header)})
			if e := explained.Found; (e == nil) != (got == "") || e != nil && e.Service.Service != got {
				t.Fatalf("%s %s%s %v leads to %q, but is explained as %+v", r.Method, host, r.Target, r.Header, got, explained)
			}
			if want := reference(list, host, r); got != want {
				t.Fatalf("%s %s%s %v leads to %q, not %q; %+v", r.Method, host, r.Target, r.Header, got, want, list)
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

// BenchmarkRoute finds the route of a request among many: the cost must not depend on how many there are.
func BenchmarkRoute(b *testing.B) {
	for name, route := range map[string]func(i int) maru.Route{
		"hosts": func(i int) maru.Route { return maru.Route{Host: fmt.Sprintf("s%d.test", i)} },
		"paths": func(i int) maru.Route { return maru.Route{Host: "a.test", Path: fmt.Sprintf("/api/s%d", i)} },
	} {
		for _, n := range []int{10, 10_000} {
			b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
				x := New()
				for i := range n {
					s := maru.ServiceTraffic{Service: shop.Service(fmt.Sprint("s", i)), Routes: []maru.Route{route(i)}}
					if err := x.Update(maru.TrafficUpdate{Services: []maru.ServiceTraffic{s}}); err != nil {
						b.Fatal(err)
					}
				}
				asked := route(n / 2)
				r := &message.Request{Method: "GET", Path: asked.Path + "/x/y", Target: asked.Path + "/x/y"}
				b.ReportAllocs()
				for b.Loop() {
					if m, _ := x.Route(asked.Host, r); m == nil {
						b.Fatal("no route")
					}
				}
			})
		}
	}
}

// TestExplainNewDoors: what a route does is told in words, also that it does nothing because it is not understood.
func TestExplainNewDoors(t *testing.T) {
	tbl := New()
	var later maru.Route
	if err := json.Unmarshal([]byte(`{"host":"later.test","policy":{"geofence":"kr"}}`), &later); err != nil {
		t.Fatal(err)
	}
	login := &maru.Auth{Kind: maru.LoginAuth, Issuer: "https://login.test", Login: &maru.Login{Client: "shop"}}
	gate := &maru.Auth{Kind: maru.ForwardedAuth, Forward: &maru.ForwardAuth{Service: "gate", User: "X-User"}}
	err := tbl.Update(maru.TrafficUpdate{Version: 1, Full: true, Services: []maru.ServiceTraffic{{
		Service: maru.Scope{Project: "p", Environment: "e", App: "a"}.Service("web"), Ports: []maru.Port{{Port: 80, Protocol: maru.TCP, App: "http"}},
		Routes: []maru.Route{
			later, {Host: "login.test", Policy: &maru.RoutePolicy{Auth: login, GRPCWeb: true}},
			{Host: "gate.test", Policy: &maru.RoutePolicy{Auth: gate, Quotas: []maru.Quota{{Requests: 5, Per: maru.DayQuota}}}},
			{Host: "own.test", Port: 443, TLS: &maru.RouteTLS{Passthrough: true}},
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"login.test": "auth by oidc, grpc-web", "gate.test": "auth by service gate, quota 5 in a day by user", "own.test": "TLS passed through", "later.test": "",
	} {
		a := tbl.Explain(maru.RouteQuestion{Method: "GET", Host: host, Target: "/"})
		if a.Found == nil {
			t.Fatalf("%s: %+v", host, a)
		}
		if got := strings.Join(a.Found.Route.Policies(), ", "); got != want {
			t.Errorf("%s: %s", host, got)
		}
		if refused := strings.Contains(a.Refused, `not in force: the route says more than this version knows: unknown field "geofence"`); refused != (host == "later.test") {
			t.Errorf("%s: %s", host, a.Refused)
		}
	}
	if m := tbl.Passthrough("own.test"); m == nil || tbl.Passthrough("login.test") != nil || tbl.Passthrough("else.test") != nil || !tbl.Passing() {
		t.Errorf("%+v", m)
	}
	if err := tbl.Update(maru.TrafficUpdate{Version: 2, Full: true}); err != nil || tbl.Passing() {
		t.Error("TLS is passed through to what is gone", err)
	}
}
