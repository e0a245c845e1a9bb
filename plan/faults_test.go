package plan_test

import (
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// TestFaultsLast: faults that are set while a service runs stay over a deploy until they are taken back.
func TestFaultsLast(t *testing.T) {
	s := newSim(t)
	a := app(map[string]maru.Service{"web": web("web:1")})
	s.deploy(a)
	s.settle(long)
	late := []maru.Fault{{Delay: 1, Percent: 10}}
	s.submit(plan.Faults(s.now, s.observe(), map[string][]maru.Fault{"web": late}, "ann"))
	s.settle(long)
	if got := s.observe().Services["web"].Faults; len(got) != 1 {
		t.Fatal(got)
	}
	s.deploy(app(map[string]maru.Service{"web": web("web:2")}))
	s.settle(long)
	if got := s.observe().Services["web"].Faults; len(got) != 1 {
		t.Errorf("after a deploy: %v", got)
	}
	for _, wrong := range []maru.Fault{{}, {Delay: -1}, {Status: 99}, {Cut: true, Percent: 101}, {Cut: true, Corrupt: true}} {
		if _, err := plan.Faults(s.now, s.observe(), map[string][]maru.Fault{"web": {wrong}}, "ann"); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	if _, err := plan.Faults(s.now, s.observe(), map[string][]maru.Fault{"nobody": nil}, "ann"); maru.KindOf(err) != maru.NotFound {
		t.Error(err)
	}
	s.submit(plan.Faults(s.now, s.observe(), map[string][]maru.Fault{"web": nil}, "ann"))
	s.settle(long)
	if got := s.observe().Services["web"].Faults; len(got) != 0 {
		t.Error(got)
	}
}

func TestTrafficHasFaultsOfBoth(t *testing.T) {
	spec := web("web:1")
	spec.Faults = []maru.Fault{{Cut: true}}
	got := plan.Traffic(plan.ServiceView{
		State:    maru.ServiceState{Release: 1, Faults: []maru.Fault{{Status: 500}}},
		Releases: map[int]maru.Release{1: {Spec: spec}},
	})
	if len(got.Faults) != 2 {
		t.Error(got.Faults)
	}
}
