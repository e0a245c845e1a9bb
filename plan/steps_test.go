package plan_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// order is in which order steps are begun, and releases served, of a service.
func (s *sim) order(service string) *[]string {
	var order []string
	s.check = func() {
		for _, id := range s.ids() {
			name := id.Name
			if id.Service == service && !slices.Contains(order, name) {
				order = append(order, name)
			}
		}
	}
	return &order
}

func TestSeedRunsOnce(t *testing.T) {
	for _, kind := range []func(string, ...func(*maru.Service)) maru.Service{web, database} {
		s := newSim(t)
		steps := func(sv *maru.Service) {
			sv.Release, sv.Seed = &maru.ReleaseStep{Command: []string{"migrate"}}, &maru.ReleaseStep{Command: []string{"fill"}}
		}
		order := s.order("web")
		for n := range 3 {
			s.deploy(app(map[string]maru.Service{"web": kind(fmt.Sprint("web:", n), steps)}))
			s.settle(long)
			wantPhase(t, s, maru.Succeeded)
		}
		if got := fmt.Sprint(*order); got != "[1.release 1.seed 1 2.release 2 3.release 3]" {
			t.Errorf("what ran: %s", got)
		}
		if !s.state.Services["web"].Seeded {
			t.Error("it is not known to be seeded")
		}
	}
}

func TestSeedThatFailsRunsAgain(t *testing.T) {
	s := newSim(t)
	seed := func(sv *maru.Service) { sv.Seed = &maru.ReleaseStep{Command: []string{"fill"}} }
	s.sick["web:1@sha256:web:1"] = "exit-7"
	s.deploy(app(map[string]maru.Service{"web": web("web:1", seed)}))
	s.settle(long)
	wantPhase(t, s, maru.RolledBackPhase)
	if got := s.state.Rollout.Reason; got != "web: the seed of release 1 failed: exited with code 7; it wrote last: cannot go on" && len(got) < 30 {
		t.Errorf("the reason is %q", got)
	}
	order := s.order("web")
	s.deploy(app(map[string]maru.Service{"web": web("web:2", seed)}))
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	if got := fmt.Sprint(*order); got != "[2.seed 2]" {
		t.Errorf("what ran: %s", got)
	}
}

func TestNoSeedWhereNoneIsWanted(t *testing.T) {
	s := newSim(t)
	d := deployment(app(map[string]maru.Service{"web": web("web:1", func(sv *maru.Service) { sv.Seed = &maru.ReleaseStep{Command: []string{"fill"}} })}))
	d.Seed = false
	order := s.order("web")
	s.submit(plan.Deploy(s.now, s.observe(), d))
	s.settle(long)
	if got := fmt.Sprint(*order); got != "[1]" {
		t.Errorf("what ran: %s", got)
	}
}

func TestAfterStep(t *testing.T) {
	s := newSim(t)
	after := func(sv *maru.Service) { sv.After = &maru.ReleaseStep{Command: []string{"tell"}} }
	order := s.order("web")
	for n := 1; n <= 2; n++ {
		s.deploy(app(map[string]maru.Service{"web": web(fmt.Sprint("web:", n), after)}))
		s.settle(long)
		wantPhase(t, s, maru.Succeeded)
		if e := s.state.Rollout.Services["web"]; e.After != maru.AfterDone {
			t.Errorf("the step of rollout %d is %q: %s", n, e.After, e.AfterReason)
		}
	}
	if got := fmt.Sprint(*order); got != "[1 1.after 2 2.after]" {
		t.Errorf("what ran: %s", got)
	}
	wantRuns(t, s, map[string]int{"web/2": 3})
}

func TestAfterStepThatFails(t *testing.T) {
	s := newSim(t)
	s.failures[shop.Service("web").Workload("1.after")] = "its program is not there"
	s.deploy(app(map[string]maru.Service{"web": web("web:1", func(sv *maru.Service) { sv.After = &maru.ReleaseStep{Command: []string{"tell"}} })}))
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	if e := s.state.Rollout.Services["web"]; e.After != maru.AfterFailed || e.AfterReason != "the step after release 1 can't be run: its program is not there" {
		t.Errorf("the step is %q: %s", e.After, e.AfterReason)
	}
	wantRuns(t, s, map[string]int{"web/1": 3})
}
