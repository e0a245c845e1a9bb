package plan_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

const long = time.Hour

func TestFirstDeploy(t *testing.T) {
	s := newSim(t)
	s.check = s.invariants
	sub := s.deploy(app(map[string]maru.Service{
		"web": web("web:1", after("db", maru.Healthy), after("init", maru.Completed)), "db": database("db:1"), "init": job("init:1", after("db", maru.Healthy))}))
	if !sub.Changed || sub.Rollout.Number != 1 {
		t.Fatalf("submission %+v", sub)
	}
	s.plan()
	wantRuns(t, s, map[string]int{})
	if ids := s.ids(); len(ids) != 1 || ids[0].Service != "db" {
		t.Fatalf("started %v before db was ready", ids)
	}
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	wantRuns(t, s, map[string]int{"web/1": 3, "db/1": 1})
	if p := plan.App(s.now.Add(long), s.observe()); !p.Empty() {
		t.Errorf("not at rest: %+v", p.Actions)
	}
	if got := s.state.Rollout.After; got["web"] != 1 || got["init"] != 1 {
		t.Errorf("after %v", got)
	}
	again := s.deploy(app(map[string]maru.Service{
		"web": web("web:1", after("db", maru.Healthy), after("init", maru.Completed)), "db": database("db:1"), "init": job("init:1", after("db", maru.Healthy))}))
	if again.Changed || len(again.Actions) > 0 {
		t.Errorf("a deploy without changes: %+v", again)
	}
}

func TestRollingUpdate(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   func(*maru.Service)
		least int // ready endpoints at any time
		most  int // instances at any time
	}{
		{"all at once", func(*maru.Service) {}, 3, 6},
		{"one by one", func(s *maru.Service) { s.Update.Parallel = 1 }, 3, 5},
		{"two by two", func(s *maru.Service) { s.Update.Parallel = 2; s.Update.Delay = time.Minute }, 3, 7},
		{"stop first", func(s *maru.Service) { s.Update.Parallel = 1; s.Update.StopFirst = true }, 2, 3},
		{"stop first, all", func(s *maru.Service) { s.Update.StopFirst = true }, 0, 3},
		{"recreate", func(s *maru.Service) { s.Update.Strategy = maru.Recreate }, 0, 3},
		{"fewer", func(s *maru.Service) { s.Replicas = 2; s.Update.Parallel = 1 }, 2, 5},
		{"more", func(s *maru.Service) { s.Replicas = 5; s.Update.Parallel = 1 }, 3, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t)
			s.deploy(app(map[string]maru.Service{"web": web("web:1")}))
			s.settle(long)
			next := web("web:2", c.set)
			s.deploy(app(map[string]maru.Service{"web": next}))
			least, most := 99, 0
			s.check = func() {
				n := 0
				for _, w := range s.engine {
					n += len(w.instances)
				}
				least, most = min(least, s.serving("web")), max(most, n)
			}
			s.settle(long)
			wantPhase(t, s, maru.Succeeded)
			wantRuns(t, s, map[string]int{"web/2": next.Replicas})
			if least < c.least || most > c.most {
				t.Errorf("between %d ready and %d there, want at least %d and at most %d", least, most, c.least, c.most)
			}
		})
	}
}

func TestFailureGoesBackAsAWhole(t *testing.T) {
	for _, c := range []struct {
		name, sick string
		set        func(*maru.Service)
		reason     []string
	}{
		{"never ready", "never-ready", func(*maru.Service) {}, []string{"release 2 did not become ready within 5m", "runs but is not ready"}},
		{"deadline of its own", "never-ready", func(s *maru.Service) { s.Update.Deadline = time.Minute }, []string{"within 1m"}},
		{"crashes", "crash", func(*maru.Service) {}, []string{"release 2 does not start", "exited with code 3"}},
		{"one by one", "crash", func(s *maru.Service) { s.Update.Parallel = 1 }, []string{"exited with code 3"}},
		{"recreate", "crash", func(s *maru.Service) { s.Update.Strategy = maru.Recreate }, []string{"exited with code 3"}},
		{"stop first", "crash", func(s *maru.Service) { s.Update.StopFirst = true }, []string{"exited with code 3"}},
		{"volume", "never-ready", func(s *maru.Service) { *s = database(s.Image) }, []string{"did not become ready"}},
		{"release step", "exit-7", func(s *maru.Service) { s.Release = &maru.ReleaseStep{Command: []string{"migrate"}} },
			[]string{"the release step of release 2 failed", "exited with code 7", "cannot go on"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t)
			s.check = s.invariants
			bad, one := web("bad:1", c.set), app(map[string]maru.Service{"other": web("other:1"), "db": database("db:1")})
			bad.Release = nil
			one.Services["bad"] = bad
			s.deploy(one)
			s.settle(long)
			before, states := s.runs(), cloneStates(s)
			s.sick["bad:2@sha256:bad:2"] = c.sick
			s.deploy(app(map[string]maru.Service{
				"other": web("other:2"), "db": database("db:2"), "bad": web("bad:2", c.set), "new": web("new:1")}))
			s.settle(long)
			wantPhase(t, s, maru.RolledBackPhase)
			wantRuns(t, s, before)
			if got := cloneStates(s); !slices.Equal(got, states) {
				t.Errorf("states\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(states, "\n"))
			}
			for _, part := range c.reason {
				if !strings.Contains(s.state.Rollout.Reason, part) {
					t.Errorf("reason %q lacks %q", s.state.Rollout.Reason, part)
				}
			}
			if p := plan.App(s.now.Add(long), s.observe()); !p.Empty() {
				t.Errorf("not at rest: %+v", p.Actions)
			}
		})
	}
}

// cloneStates gives the services' states, but for that they are seeded: what a seed wrote stays.
func cloneStates(s *sim) []string {
	var out []string
	for _, st := range s.state.Services {
		st.Seeded = false
		out = append(out, string(maru.Raw(st)))
	}
	slices.Sort(out)
	return out
}

func TestNoRollbackStays(t *testing.T) {
	for _, strategy := range []maru.Strategy{maru.Rolling, maru.Recreate} {
		s := newSim(t)
		s.deploy(app(map[string]maru.Service{"web": web("web:1")}))
		s.settle(long)
		s.sick["web:2@sha256:web:2"] = "never-ready"
		pause := func(sv *maru.Service) { sv.Update = maru.Update{Strategy: strategy, NoRollback: true} }
		s.deploy(app(map[string]maru.Service{"web": web("web:2", pause)}))
		s.settle(long)
		wantPhase(t, s, maru.Failed)
		want := map[string]int{"web/1": 3, "web/2": 3}
		if strategy == maru.Recreate {
			want = map[string]int{"web/2": 3}
		}
		wantRuns(t, s, want)
		s.settle(long)
		wantRuns(t, s, want)
		s.deploy(app(map[string]maru.Service{"web": web("web:3", pause)}))
		s.settle(long)
		wantPhase(t, s, maru.Succeeded)
		wantRuns(t, s, map[string]int{"web/3": 3})
	}
}

func TestMonitor(t *testing.T) {
	s := newSim(t)
	watch := func(sv *maru.Service) { sv.Update.Monitor = time.Minute }
	s.deploy(app(map[string]maru.Service{"web": web("web:1", watch)}))
	s.settle(long)
	s.deploy(app(map[string]maru.Service{"web": web("web:2", watch)}))
	s.settle(30 * time.Second)
	wantPhase(t, s, maru.Draining)
	s.now = s.now.Add(30 * time.Second)
	i := &s.engine[shop.Service("web").Workload("2")].instances[0]
	i.LastExit, i.Attempt = &maru.Exit{Signal: "SIGSEGV", At: s.now}, 2
	s.settle(long)
	wantPhase(t, s, maru.RolledBackPhase)
	wantRuns(t, s, map[string]int{"web/1": 3})
	if want := "became ready and crashed: "; !strings.Contains(s.state.Rollout.Reason, want) {
		t.Errorf("reason %q lacks %q", s.state.Rollout.Reason, want)
	}
}

func TestSupersede(t *testing.T) {
	for _, parallel := range []int{0, 1} {
		for _, strategy := range []maru.Strategy{maru.Rolling, maru.Recreate} {
			for steps := range 12 {
				one := func(sv *maru.Service) { sv.Update = maru.Update{Strategy: strategy, Parallel: parallel} }
				for _, last := range []string{"web:1", "web:3"} {
					s := newSim(t)
					s.deploy(app(map[string]maru.Service{"web": web("web:1", one)}))
					s.settle(long)
					s.deploy(app(map[string]maru.Service{"web": web("web:2", one)}))
					for range steps {
						s.plan()
						for _, id := range s.ids() {
							s.step(id)
						}
					}
					if strategy == maru.Rolling {
						s.check = func() {
							if n := s.serving("web"); n < 3 {
								t.Errorf("%d ready after %d steps", n, steps)
							}
						}
					}
					s.deploy(app(map[string]maru.Service{"web": web(last, one)}))
					s.settle(long)
					wantPhase(t, s, maru.Succeeded)
					runs := s.runs()
					if len(runs) != 1 || s.serving("web") != 3 {
						t.Fatalf("to %s after %d steps: %v", last, steps, runs)
					}
					release := s.state.Releases["web"][s.state.Services["web"].Release]
					if !strings.HasPrefix(release.Image, last) {
						t.Fatalf("to %s after %d steps: %s serves", last, steps, release.Image)
					}
				}
			}
		}
	}
}

func TestSupersededFailureGoesBackToTheLastGood(t *testing.T) {
	for steps := range 10 {
		s := newSim(t)
		s.check = s.invariants
		s.deploy(app(map[string]maru.Service{"db": database("db:1")}))
		s.settle(long)
		s.sick["db:2@sha256:db:2"], s.sick["db:3@sha256:db:3"] = "never-ready", "never-ready"
		s.deploy(app(map[string]maru.Service{"db": database("db:2")}))
		for range steps {
			s.plan()
			for _, id := range s.ids() {
				s.step(id)
			}
		}
		s.deploy(app(map[string]maru.Service{"db": database("db:3")}))
		s.settle(long)
		wantPhase(t, s, maru.RolledBackPhase)
		wantRuns(t, s, map[string]int{"db/1": 1})
	}
}

func TestReleaseStep(t *testing.T) {
	for _, kind := range []func(string, ...func(*maru.Service)) maru.Service{web, database} {
		s := newSim(t)
		s.check = s.invariants
		step := func(sv *maru.Service) { sv.Release = &maru.ReleaseStep{Command: []string{"migrate"}} }
		ran := 0
		count := func(p plan.Plan) {
			for _, a := range p.Actions {
				if a, ok := a.(plan.ApplyWorkload); ok && a.Step != "" {
					ran++
				}
			}
		}
		settle := func() {
			for range 30 {
				count(s.plan())
				for _, id := range s.ids() {
					s.step(id)
				}
			}
			s.settle(long)
			wantPhase(t, s, maru.Succeeded)
		}
		s.deploy(app(map[string]maru.Service{"web": kind("web:1", step)}))
		settle()
		s.deploy(app(map[string]maru.Service{"web": kind("web:2", step)}))
		settle()
		if ran != 2 {
			t.Errorf("the step ran %d times for two releases", ran)
		}
		s.submit(plan.Rollback(s.now, s.observe(), 1, "ann"))
		settle()
		s.submit(plan.Restart(s.now, s.observe(), nil, "ann"))
		settle()
		if ran != 2 {
			t.Errorf("the step ran again on rollback or restart: %d times", ran)
		}
		if n := len(s.engine); n != 1 {
			t.Errorf("%d workloads are left: %v", n, s.ids())
		}
	}
}

func TestRemovedServicesAndApps(t *testing.T) {
	s := newSim(t)
	s.deploy(app(map[string]maru.Service{"web": web("web:1", after("db", maru.Healthy)), "db": database("db:1")}))
	s.settle(long)
	var order []string
	s.submit(plan.Remove(s.now, s.observe(), "ann"))
	s.check = func() {
		for _, name := range []string{"web", "db"} {
			if _, there := s.state.Services[name]; !there && !slices.Contains(order, name) {
				order = append(order, name)
			}
		}
		if _, db := s.engine[shop.Service("db").Workload("1")]; !db && s.serving("web") > 0 {
			t.Error("db went while web was there")
		}
	}
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	if len(s.engine) > 0 || s.state.Spec != nil || len(s.state.Services) > 0 {
		t.Errorf("left: %v %v", s.ids(), s.state.Services)
	}
	if _, err := plan.Remove(s.now, s.observe(), "ann"); maru.KindOf(err) != maru.NotFound {
		t.Errorf("removing it again: %v", err)
	}
	sub := s.deploy(app(map[string]maru.Service{"web": web("web:1")}))
	if sub.Rollout.Number != 3 {
		t.Errorf("numbers start again: %d", sub.Rollout.Number)
	}
}

func TestTheEngineLosesAndHasTooMuch(t *testing.T) {
	s := newSim(t)
	s.deploy(app(map[string]maru.Service{"web": web("web:1"), "init": job("init:1")}))
	s.settle(long)
	clear(s.engine)
	stray := shop.Service("gone").Workload("4")
	s.engine[stray] = &simWorkload{wanted: 1, instances: []maru.Instance{{ID: "x", Phase: maru.PhaseRunning, Ready: true}}}
	run := shop.Service("web").Workload("run.abc")
	s.engine[run] = &simWorkload{wanted: 1, release: s.state.Releases["web"][1], step: true,
		instances: []maru.Instance{{ID: "y", Phase: maru.PhaseDone, LastExit: &maru.Exit{At: s.now}}}}
	s.settle(time.Minute)
	wantRuns(t, s, map[string]int{"web/1": 3})
	if s.engine[run] == nil {
		t.Error("a one-off that just ended was removed")
	}
	s.settle(2 * long)
	if s.engine[run] != nil {
		t.Error("a one-off that ended long ago was not removed")
	}
}

func TestRefusedByTheEngine(t *testing.T) {
	s := newSim(t)
	s.deploy(app(map[string]maru.Service{"web": web("web:1")}))
	s.settle(long)
	s.failures[shop.Service("web").Workload("2")] = "image web:2 is not there"
	s.deploy(app(map[string]maru.Service{"web": web("web:2")}))
	s.settle(time.Minute)
	wantPhase(t, s, maru.RolledBackPhase)
	if want := "image web:2 is not there"; !strings.Contains(s.state.Rollout.Reason, want) {
		t.Errorf("reason %q lacks %q", s.state.Rollout.Reason, want)
	}
	wantRuns(t, s, map[string]int{"web/1": 3})
}

func TestRestartOfDependents(t *testing.T) {
	s := newSim(t)
	with := func(sv *maru.Service) {
		sv.DependsOn = []maru.Dependency{{Service: "db", Condition: maru.Healthy, Restart: true}}
	}
	s.deploy(app(map[string]maru.Service{"web": web("web:1", with), "db": database("db:1"), "other": web("other:1")}))
	s.settle(long)
	s.deploy(app(map[string]maru.Service{"web": web("web:1", with), "db": database("db:2"), "other": web("other:1")}))
	s.settle(long)
	wantRuns(t, s, map[string]int{"web/2": 3, "db/2": 1, "other/1": 3})
}

// TestProgramsThatMayEnd has services that are not to be kept running: exit code 0 is fine.
func TestProgramsThatMayEnd(t *testing.T) {
	ends := func(s *maru.Service) {
		s.Expose, s.Container.Restart.Policy = nil, maru.RestartOnFailure
	}
	s := newSim(t)
	s.sick["once:1@sha256:once:1"] = "ends"
	s.deploy(app(map[string]maru.Service{"once": web("once:1", ends), "web": web("web:1", after("once", maru.Started))}))
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	for _, st := range plan.Status(s.now, s.observe()).Services {
		if st.Name == "once" && (st.State != maru.StateDone || st.Message == "") {
			t.Errorf("once is %s: %s", st.State, st.Message)
		}
	}
	if p := plan.App(s.now.Add(long), s.observe()); !p.Empty() {
		t.Errorf("not at rest: %+v", p.Actions)
	}
}

// TestNobodyToAsk has a worker without a port or probe: it has to run for a moment before it counts.
func TestNobodyToAsk(t *testing.T) {
	silent := func(s *maru.Service) { s.Expose = nil }
	s := newSim(t)
	s.deploy(app(map[string]maru.Service{"worker": web("worker:1", silent)}))
	s.settle(long)
	s.sick["worker:2@sha256:worker:2"] = "crash-later"
	s.deploy(app(map[string]maru.Service{"worker": web("worker:2", silent)}))
	s.settle(long)
	wantPhase(t, s, maru.RolledBackPhase)
	wantRuns(t, s, map[string]int{"worker/1": 3})
}
