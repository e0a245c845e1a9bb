package server

import (
	"context"
	"strings"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// routeService tells where requests at the gateway go.
type routeService struct{ *Server }

var errNoRoutes = maru.Errorf(maru.Unsupported, "this server has no gateway")

func (s routeService) ListRoutes(ctx context.Context, req *maruv1.ListRoutesRequest) (*maruv1.ListRoutesResponse, error) {
	if s.deps.Routes == nil {
		return nil, errNoRoutes
	}
	all, err := s.deps.Routes.Routes(ctx)
	res := &maruv1.ListRoutesResponse{}
	for _, r := range all {
		if fromScope(req.Scope).Covers(r.Service.Scope) {
			res.Routes = append(res.Routes, routeProto(r))
		}
	}
	return res, err
}

func (s routeService) ExplainRoute(ctx context.Context, req *maruv1.ExplainRouteRequest) (*maruv1.ExplainRouteResponse, error) {
	if s.deps.Routes == nil {
		return nil, errNoRoutes
	}
	if !strings.HasPrefix(req.Target, "/") || req.Host == "" || req.Method == "" {
		return nil, maru.Errorf(maru.Invalid, "a request has a method, a host, and a target that begins with a slash")
	}
	a, err := s.deps.Routes.Explain(ctx, maru.RouteQuestion{Method: req.Method, Host: req.Host, Target: req.Target, Header: req.Headers})
	if err != nil {
		return nil, err
	}
	sees := fromScope(req.Scope)
	res := &maruv1.ExplainRouteResponse{Path: valid(a.Path), Refused: valid(a.Refused), More: int32(a.More)}
	for _, beside := range a.Others {
		if sees.Covers(beside.Service.Scope) {
			res.Others = append(res.Others, &maruv1.RouteBeside{Route: routeProto(beside.RouteStatus), Why: beside.Why})
		}
	}
	switch {
	case a.Found == nil:
	case !sees.Covers(a.Found.Service.Scope):
		res.Refused = "a route of an app outside this scope has the request"
	default:
		answerProto(res, a)
	}
	return res, nil
}

func answerProto(res *maruv1.ExplainRouteResponse, a maru.RouteAnswer) {
	res.Route, res.Port = routeProto(*a.Found), uint32(a.Port)
	for _, w := range a.Serving {
		res.Releases = append(res.Releases, &maruv1.RouteRelease{Number: int32(w.Release), Weight: int32(w.Weight)})
	}
	for _, e := range a.Endpoints {
		state := "starting"
		switch {
		case e.Draining:
			state = "draining"
		case e.Ready:
			state = "ready"
		}
		address := e.Addresses.V4
		if !address.IsValid() {
			address = e.Addresses.V6
		}
		res.Endpoints = append(res.Endpoints, &maruv1.RouteEndpoint{
			Instance: e.Instance, Release: int32(e.Release), State: state, Address: addressText(address),
		})
	}
}

func routeProto(r maru.RouteStatus) *maruv1.Route {
	p := &maruv1.Route{
		Scope: scopeProto(r.Service.Scope), Service: r.Service.Service, Host: r.Route.Host, Path: r.Route.PathName(), Exact: r.Route.Exact,
		Port: uint32(r.Route.Port), Policies: r.Route.Policies(), Problem: valid(r.Problem),
	}
	if m := r.Route.Match; m != nil {
		p.Methods, p.Headers, p.Query = m.Methods, m.Headers, m.Query
	}
	return p
}
