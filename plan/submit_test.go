package plan_test

import (
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

func TestRollback(t *testing.T) {
	s := newSim(t)
	s.deploy(app(map[string]maru.Service{"web": web("web:1"), "old": web("old:1"), "init": job("init:1")}))
	s.settle(long)
	s.deploy(app(map[string]maru.Service{"web": web("web:2"), "new": web("new:1"), "init": job("init:2")}))
	s.settle(long)
	wantRuns(t, s, map[string]int{"web/2": 3, "new/2": 3})
	sub := s.submit(plan.Rollback(s.now, s.observe(), 0, "bob"))
	if sub.Rollout.Of != 1 || sub.Rollout.Cause != plan.CauseRollback {
		t.Fatalf("rollout %+v", sub.Rollout)
	}
	jobs := 0
	s.check = func() {
		for id := range s.engine {
			if id.Service == "init" && id.Name == "1" {
				jobs++
			}
		}
	}
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	wantRuns(t, s, map[string]int{"web/1": 3, "old/1": 3})
	if jobs > 0 {
		t.Error("the job of the older release ran again")
	}
	if got := s.state.Services["init"].Release; got != 1 {
		t.Errorf("init is at release %d", got)
	}
	sub = s.submit(plan.Rollback(s.now, s.observe(), 0, "bob"))
	if sub.Rollout.Of != 2 {
		t.Errorf("the second goes to the state after %d", sub.Rollout.Of)
	}
	if _, err := plan.Rollback(s.now, s.observe(), 9, "bob"); maru.KindOf(err) != maru.NotFound {
		t.Errorf("to a rollout that never was: %v", err)
	}
}

func TestRollbackDuringARolloutGoesToTheLastGoodState(t *testing.T) {
	s := newSim(t)
	s.deploy(app(map[string]maru.Service{"web": web("web:1")}))
	s.settle(long)
	s.sick["web:2@sha256:web:2"] = "never-ready"
	s.deploy(app(map[string]maru.Service{"web": web("web:2")}))
	s.settle(time.Minute)
	sub := s.submit(plan.Rollback(s.now, s.observe(), 0, "ann"))
	if !sub.Changed || sub.Rollout.Of != 1 {
		t.Fatalf("submission %+v", sub)
	}
	s.settle(time.Minute)
	wantPhase(t, s, maru.Succeeded)
	wantRuns(t, s, map[string]int{"web/1": 3})
	if s.state.History[2].Phase != maru.Superseded {
		t.Errorf("rollout 2 is %s", s.state.History[2].Phase)
	}
}

func TestRestartScaleStopStart(t *testing.T) {
	s := newSim(t)
	a := app(map[string]maru.Service{"web": web("web:1"), "init": job("init:1"), "db": database("db:1")})
	s.deploy(a)
	s.settle(long)
	s.submit(plan.Restart(s.now, s.observe(), []string{"web"}, "ann"))
	s.settle(long)
	wantRuns(t, s, map[string]int{"web/2": 3, "db/1": 1})
	s.submit(plan.Scale(s.now, s.observe(), map[string]int{"web": 5}, "ann"))
	s.settle(long)
	wantRuns(t, s, map[string]int{"web/2": 5, "db/1": 1})
	if sub := s.deploy(a); sub.Changed {
		t.Errorf("a deploy undid the scale: %+v", sub.Actions)
	}
	if _, err := plan.Scale(s.now, s.observe(), map[string]int{"db": 2}, "ann"); maru.KindOf(err) != maru.Conflict {
		t.Errorf("scaling what holds a volume: %v", err)
	}
	s.submit(plan.Stop(s.now, s.observe(), nil, "ann"))
	s.settle(long)
	wantRuns(t, s, map[string]int{})
	s.submit(plan.Start(s.now, s.observe(), []string{"db"}, "ann"))
	s.settle(long)
	wantRuns(t, s, map[string]int{"db/1": 1})
	sub := s.deploy(a)
	if !sub.Changed {
		t.Error("a deploy did not start what was stopped")
	}
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	wantRuns(t, s, map[string]int{"web/2": 5, "db/1": 1})
	s.submit(plan.Scale(s.now, s.observe(), map[string]int{"web": -1}, "ann"))
	s.settle(long)
	wantRuns(t, s, map[string]int{"web/2": 3, "db/1": 1})
	more := web("web:1")
	more.Replicas = 4
	a.Services["web"] = more
	sub = s.deploy(a)
	if len(sub.Rollout.Services) != 1 || sub.Rollout.Services["web"].To != 2 {
		t.Errorf("another number of instances made %+v", sub.Rollout.Services)
	}
	s.settle(long)
	wantRuns(t, s, map[string]int{"web/2": 4, "db/1": 1})
}

func TestStopDuringARollout(t *testing.T) {
	s := newSim(t)
	s.deploy(app(map[string]maru.Service{"web": web("web:1"), "db": database("db:1")}))
	s.settle(long)
	s.sick["web:2@sha256:web:2"] = "never-ready"
	s.deploy(app(map[string]maru.Service{"web": web("web:2"), "db": database("db:2")}))
	s.settle(time.Minute)
	s.submit(plan.Stop(s.now, s.observe(), []string{"web"}, "ann"))
	s.settle(time.Minute)
	wantPhase(t, s, maru.Succeeded)
	wantRuns(t, s, map[string]int{"db/2": 1})
	s.submit(plan.Start(s.now, s.observe(), nil, "ann"))
	s.settle(time.Minute)
	wantRuns(t, s, map[string]int{"web/1": 3, "db/2": 1})
}

func TestDeployDuringRemoval(t *testing.T) {
	for steps := range 6 {
		s := newSim(t)
		a := app(map[string]maru.Service{"web": web("web:1", after("db", maru.Healthy)), "db": database("db:1")})
		s.deploy(a)
		s.settle(long)
		s.submit(plan.Remove(s.now, s.observe(), "ann"))
		for range steps {
			s.plan()
			for _, id := range s.ids() {
				s.step(id)
			}
		}
		if _, err := plan.Restart(s.now, s.observe(), nil, "ann"); err == nil {
			t.Error("restarted what is being removed")
		}
		s.deploy(a)
		s.settle(long)
		wantPhase(t, s, maru.Succeeded)
		if s.serving("web") != 3 || s.serving("db") != 1 || s.state.Spec == nil {
			t.Errorf("after %d steps: %v", steps, s.runs())
		}
	}
}
