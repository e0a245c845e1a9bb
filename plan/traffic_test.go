package plan_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

func at(id, address string, phase maru.Phase, ready bool) maru.Instance {
	i := maru.Instance{ID: id, Phase: phase, Ready: ready}
	if address != "" {
		i.Addresses.V4 = netip.MustParseAddr(address)
	}
	return i
}

func TestTraffic(t *testing.T) {
	one, two := fullRelease(), fullRelease()
	one.Number = 1
	two.Number, two.Spec.Routes = 2, nil
	v := plan.ServiceView{
		State: maru.ServiceState{Service: shop.Service("web"), Release: 1, Replicas: 2, VirtualAddress: virtual,
			Protocols: map[uint16]string{9090: "h2c"}, HostPorts: map[string]uint16{"53/udp": 20053}},
		Releases: map[int]maru.Release{1: one, 2: two},
		Observed: map[string]maru.Observation{
			"1": {Instances: []maru.Instance{
				at("web-1-b", "10.0.0.2", maru.PhaseRunning, true), at("web-1-c", "10.0.0.3", maru.PhaseRunning, false),
				at("web-1-d", "10.0.0.4", maru.PhaseDraining, true), at("web-1-e", "", maru.PhasePending, false)}},
			"2":         {Instances: []maru.Instance{at("web-2-a", "10.0.0.5", maru.PhaseRunning, true)}},
			"2.release": {Instances: []maru.Instance{at("web-2-release-a", "10.0.0.6", maru.PhaseRunning, true)}},
			"run.x":     {Instances: []maru.Instance{at("web-run-x", "10.0.0.7", maru.PhaseRunning, true)}},
		},
	}
	got := plan.Traffic(v)
	var endpoints []string
	for _, e := range got.Endpoints {
		text := e.Instance + " " + maru.Itoa(e.Release)
		if e.Ready {
			text += " ready"
		}
		if e.Draining {
			text += " draining"
		}
		endpoints = append(endpoints, text)
	}
	want := "web-1-b 1 ready, web-1-c 1, web-1-d 1 draining, web-2-a 2, web-2-release-a 2, web-run-x 0"
	if s := strings.Join(endpoints, ", "); s != want {
		t.Errorf("endpoints %s\nwant %s", s, want)
	}
	if got.Empty != "" || len(got.Serving) != 1 || got.Serving[0] != (maru.Weight{Release: 1, Weight: 1}) {
		t.Errorf("serving %+v, empty %q", got.Serving, got.Empty)
	}
	if got.Publish[1].HostPort != 20053 || got.Publish[0].HostPort != 80 {
		t.Errorf("published %+v", got.Publish)
	}
	if got.Ports[2].App != "h2c" || got.Routes[0].Port != 8080 || got.Routes[1].Port != 9090 {
		t.Errorf("ports %+v, routes %+v", got.Ports, got.Routes)
	}
	v.State.Serving = []maru.Weight{{Release: 1, Weight: 1}, {Release: 2, Weight: 3}}
	if got := plan.Traffic(v); len(got.Serving) != 2 || !got.Endpoints[3].Ready || got.Endpoints[4].Ready {
		t.Errorf("with weights: %+v", got.Endpoints)
	}
	if one.Spec.Publish[1].HostPort != 0 || one.Spec.Routes[0].Port != 0 {
		t.Error("telling of traffic changed the release")
	}
}

func TestTrafficSaysWhyItIsEmpty(t *testing.T) {
	r := fullRelease()
	r.Number = 1
	crash := at("web-1-a", "10.0.0.2", maru.PhaseBackoff, false)
	for _, c := range []struct {
		state    maru.ServiceState
		instance *maru.Instance
		want     string
	}{
		{maru.ServiceState{Release: 1, Replicas: 1, Stopped: true}, nil, "it is stopped"},
		{maru.ServiceState{Replicas: 1}, nil, "its first release is not ready yet"},
		{maru.ServiceState{Release: 1}, nil, "it is scaled to 0"},
		{maru.ServiceState{Release: 1, Replicas: 1}, &crash, "end as soon as they are started"},
		{maru.ServiceState{Release: 1, Replicas: 1}, nil, "release 1 has no instance that is ready"},
	} {
		v := plan.ServiceView{State: c.state, Releases: map[int]maru.Release{1: r}, Observed: map[string]maru.Observation{}}
		if c.instance != nil {
			v.Observed["1"] = maru.Observation{Instances: []maru.Instance{*c.instance}}
		}
		got := plan.Traffic(v)
		if !strings.Contains(got.Empty, c.want) {
			t.Errorf("empty %q, want %q", got.Empty, c.want)
		}
		if len(got.Networks) != 2 {
			t.Errorf("%s: it can't be found: %+v", c.want, got.Networks)
		}
	}
}
