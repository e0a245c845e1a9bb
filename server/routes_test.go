package server_test

import (
	"context"
	"testing"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/traffic/table"
)

// routed is what the world's gateway knows.
func routed() *table.Table {
	t := table.New()
	service := func(app, name string, routes ...maru.Route) maru.ServiceTraffic {
		scope := maru.Scope{Project: "default", Environment: "production", App: app}
		return maru.ServiceTraffic{Service: scope.Service(name), Routes: routes, Endpoints: []maru.Endpoint{{Instance: name + "-1", Release: 1, Ready: true}},
			Ports: []maru.Port{{Port: 8080, Protocol: maru.TCP, App: "http"}}, Serving: []maru.Weight{{Release: 1, Weight: 1}}}
	}
	_ = t.Update(maru.TrafficUpdate{Full: true, Services: []maru.ServiceTraffic{
		service("shop", "web", maru.Route{Host: "a.test"}),
		service("shop", "api", maru.Route{Host: "a.test", Path: "/api", StripPrefix: true, Match: &maru.RouteMatch{Methods: []string{"POST"}}}),
		service("other", "secret", maru.Route{Host: "a.test", Path: "/secret"}),
	}})
	return t
}

func (w *world) Routes(context.Context) ([]maru.RouteStatus, error) { return routed().Routes(), nil }

func (w *world) Explain(_ context.Context, q maru.RouteQuestion) (maru.RouteAnswer, error) {
	return routed().Explain(q), nil
}

func TestRoutes(t *testing.T) {
	r := start(t)
	reader := r.as("reader", maru.RoleRead, shop)
	list, err := reader.Routes.ListRoutes(t.Context(), &maruv1.ListRoutesRequest{Scope: &maruv1.Scope{}})
	wantNil(t, err)
	if len(list.Routes) != 2 || list.Routes[0].Service != "api" || list.Routes[0].Methods[0] != "POST" || list.Routes[0].Policies[0] != "strip /api" {
		t.Fatal(list)
	}
	ask := func(target string) *maruv1.ExplainRouteResponse {
		answer, err := reader.Routes.ExplainRoute(t.Context(), &maruv1.ExplainRouteRequest{Method: "POST", Host: "A.test:80", Target: target})
		wantNil(t, err)
		return answer
	}
	answer := ask("/x/../api/y?q")
	if answer.Path != "/api/y" || answer.Route.GetService() != "api" || answer.Port != 8080 || answer.Releases[0].Number != 1 ||
		answer.Endpoints[0].State != "ready" || answer.Refused != "" || len(answer.Others) != 1 || answer.Others[0].Route.Service != "web" ||
		answer.Others[0].Why != "a route that comes first fits" {
		t.Fatal(answer)
	}
	if answer := ask("/secret"); answer.Route != nil || answer.Endpoints != nil || answer.Refused != "a route of an app outside this scope has the request" {
		t.Fatal(answer)
	}
	if answer := ask("/x/..%2fapi"); answer.Route != nil || answer.Refused == "" {
		t.Fatal(answer)
	}
	_, err = reader.Routes.ExplainRoute(t.Context(), &maruv1.ExplainRouteRequest{Method: "GET", Host: "a.test", Target: "x"})
	wantKind(t, err, maru.Invalid)
}
