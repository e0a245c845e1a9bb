package server

import (
	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func (s *Server) appProto(a maru.AppStatus) *maruv1.AppStatus {
	p := &maruv1.AppStatus{Scope: scopeProto(a.Scope), State: string(a.State), Services: s.servicesProto(a.Services)}
	if a.Rollout != nil {
		p.Rollout = rolloutProto(*a.Rollout)
	}
	return p
}

func (s *Server) servicesProto(services []maru.ServiceStatus) []*maruv1.ServiceStatus {
	out := make([]*maruv1.ServiceStatus, len(services))
	for i, service := range services {
		out[i] = s.serviceProto(service)
	}
	return out
}

func (s *Server) serviceProto(v maru.ServiceStatus) *maruv1.ServiceStatus {
	p := &maruv1.ServiceStatus{
		Name: v.Name, Kind: string(v.Kind), Release: int32(v.Release), Image: v.Image,
		Wanted: int32(v.Wanted), Ready: int32(v.Ready), Scaled: v.Scaled, Stopped: v.Stopped,
		State: string(v.State), Message: valid(v.Message),
		Addresses: append(s.routeAddresses(v.Routes), publishAddresses(v.Publish)...),
		VirtualV4: addressText(v.VirtualAddress.V4), VirtualV6: addressText(v.VirtualAddress.V6),
		Updated: timeProto(v.Updated),
	}
	for _, w := range v.Serving {
		p.Serving = append(p.Serving, &maruv1.Share{Release: int32(w.Release), Weight: int32(w.Weight)})
	}
	for _, i := range v.Instances {
		id := maru.WorkloadID{ServiceID: maru.ServiceID{Service: v.Name}, Name: i.Workload}
		instance := instanceProto(id, i.Instance)
		instance.Why = valid(i.Why)
		p.Instances = append(p.Instances, instance)
	}
	return p
}

func (s *Server) summaryProto(a maru.AppSummary) *maruv1.AppSummary {
	return &maruv1.AppSummary{
		Scope: scopeProto(a.Scope), Services: int32(a.Services), Ready: int32(a.Ready), Wanted: int32(a.Wanted),
		State: string(a.State), Rollout: int32(a.Rollout), Updated: timeProto(a.Updated), Addresses: s.routeAddresses(a.Routes),
	}
}

func changeProto(c maru.ServiceChange) *maruv1.Change {
	p := &maruv1.Change{Service: c.Service, Action: string(c.Action), Strategy: string(c.Strategy), Note: c.Note}
	for _, d := range c.Differences {
		p.Differences = append(p.Differences, &maruv1.Difference{Path: d.Path, From: valid(d.From), To: valid(d.To)})
	}
	return p
}
