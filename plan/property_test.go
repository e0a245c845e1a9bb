package plan_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// world draws apps, wishes, failures and interleavings.
type world struct {
	*sim
	rt *rapid.T
}

func newWorld(rt *rapid.T) *world {
	w := &world{sim: newSim(rt), rt: rt}
	w.lag = rapid.Bool().Draw(rt, "lag")
	w.seen = map[maru.WorkloadID]maru.Observation{}
	w.check = w.invariants
	for _, name := range []string{"a", "b", "db"} {
		for v := 2; v <= 4; v++ {
			image := fmt.Sprintf("%s:%d", name, v)
			sick := rapid.SampledFrom([]string{"", "", "", "never-ready", "crash", "exit-7"}).Draw(rt, "sick "+image)
			if sick != "" {
				w.sick[image+"@sha256:"+image] = sick
			}
			if rapid.IntRange(0, 3).Draw(rt, "worse "+image) == 0 {
				w.judged[image+"@sha256:"+image] = maru.JudgedRegressed
			}
		}
	}
	return w
}

func (w *world) service(name string) maru.Service {
	rt := w.rt
	image := fmt.Sprintf("%s:%d", name, rapid.IntRange(1, 4).Draw(rt, "version"))
	var s maru.Service
	switch name {
	case "db":
		s = database(image)
		s.Update.Strategy = rapid.SampledFrom([]maru.Strategy{maru.Recreate, maru.Rolling}).Draw(rt, "strategy")
	case "init":
		s = job(image, after("db", maru.Healthy))
	default:
		s = web(image)
		s.Replicas = rapid.IntRange(0, 4).Draw(rt, "replicas")
		s.Update = maru.Update{
			Strategy:   rapid.SampledFrom([]maru.Strategy{maru.Rolling, maru.Recreate, maru.Canary, maru.BlueGreen}).Draw(rt, "strategy"),
			Shift:      w.shift(),
			Parallel:   rapid.IntRange(0, 3).Draw(rt, "parallel"),
			StopFirst:  rapid.Bool().Draw(rt, "stopFirst"),
			NoRollback: rapid.IntRange(0, 9).Draw(rt, "noRollback") == 0,
			Delay:      time.Duration(rapid.IntRange(0, 1).Draw(rt, "delay")) * time.Minute,
			Monitor:    time.Duration(rapid.IntRange(0, 1).Draw(rt, "monitor")) * time.Minute,
		}
		s.DependsOn = []maru.Dependency{{Service: "db",
			Condition: rapid.SampledFrom([]maru.Condition{maru.Started, maru.Healthy}).Draw(rt, "condition"),
			Restart:   rapid.Bool().Draw(rt, "restart")}}
		if rapid.Bool().Draw(rt, "volume") {
			s.Container.Mounts = []maru.Mount{{Kind: maru.VolumeMount, Source: "data", Target: "/data"}}
		}
	}
	if name != "init" && rapid.IntRange(0, 3).Draw(rt, "step") == 0 {
		s.Release = &maru.ReleaseStep{Command: []string{"migrate"}}
	}
	if name != "init" && rapid.IntRange(0, 3).Draw(rt, "seed") == 0 {
		s.Seed = &maru.ReleaseStep{Command: []string{"fill"}}
	}
	if name != "init" && len(s.Container.Mounts) == 0 && rapid.IntRange(0, 3).Draw(rt, "after") == 0 {
		s.After = &maru.ReleaseStep{Command: []string{"tell"}}
	}
	return s
}

func (w *world) shift() *maru.Shift {
	rt := w.rt
	s := &maru.Shift{Keep: time.Duration(rapid.IntRange(0, 1).Draw(rt, "keep")) * 10 * time.Minute}
	weight := 0
	for range rapid.IntRange(0, 3).Draw(rt, "steps") {
		weight += rapid.IntRange(1, 30).Draw(rt, "more")
		s.Steps = append(s.Steps, maru.ShiftStep{Weight: weight, Replicas: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(rt, "of the step")})
	}
	if rapid.Bool().Draw(rt, "mirror") {
		s.Mirror = &maru.Mirror{Percent: 10, For: time.Minute}
	}
	if rapid.Bool().Draw(rt, "judge") {
		s.Judge = &maru.JudgeLimits{}
	}
	return s
}

func (w *world) app() maru.App {
	services := map[string]maru.Service{}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "db", "init"}), 1, 4, rapid.ID[string]).Draw(w.rt, "services") {
		services[name] = w.service(name)
	}
	return app(services)
}

// wish draws something that a person asks for.
func (w *world) wish() {
	rt, now := w.rt, w.now
	state := w.observe()
	var names []string
	for name := range state.Services {
		names = append(names, name)
	}
	slices.Sort(names)
	pick := func() []string {
		if len(names) == 0 || rapid.Bool().Draw(rt, "all") {
			return nil
		}
		return []string{rapid.SampledFrom(names).Draw(rt, "service")}
	}
	var sub plan.Submission
	var err error
	what := rapid.IntRange(0, 12).Draw(rt, "wish")
	switch what {
	case 10:
		sub, err = plan.Abort(now, state, "ann")
	case 11:
		sub, err = plan.Promote(now, state, nil, rapid.Bool().Draw(rt, "full"), "ann")
	case 12:
		sub, err = plan.Pause(now, state, rapid.Bool().Draw(rt, "pause"), "ann")
	case 0:
		sub, err = plan.Rollback(now, state, 0, "ann")
	case 1:
		sub, err = plan.Restart(now, state, pick(), "ann")
	case 2:
		if len(names) > 0 {
			sub, err = plan.Scale(now, state, map[string]int{rapid.SampledFrom(names).Draw(rt, "service"): rapid.IntRange(-1, 4).Draw(rt, "n")}, "ann")
		}
	case 3:
		sub, err = plan.Stop(now, state, pick(), "ann")
	case 4:
		sub, err = plan.Start(now, state, pick(), "ann")
	case 5:
		if rapid.IntRange(0, 3).Draw(rt, "really") == 0 {
			sub, err = plan.Remove(now, state, "ann")
		}
	default:
		a := w.app()
		var only []string
		if rapid.IntRange(0, 3).Draw(rt, "only some") == 0 {
			for name := range a.Services {
				only = append(only, name)
			}
			slices.Sort(only)
			only = only[:1]
		}
		sub, err = plan.Deploy(now, state, deployment(a, only...))
	}
	if err != nil {
		if k := maru.KindOf(err); k != maru.NotFound && k != maru.Conflict && k != maru.Invalid {
			rt.Fatalf("wish %d: %v", what, err)
		}
		return
	}
	w.do(sub.Actions)
}

// crashing does a plan as far as some instant: stored objects are one commit.
func (w *world) crashing() {
	p := plan.App(w.now, w.observe())
	stored := 0
	for stored < len(p.Actions) {
		switch p.Actions[stored].(type) {
		case plan.ApplyWorkload, plan.RemoveWorkload:
		default:
			stored++
			continue
		}
		break
	}
	upTo := rapid.SampledFrom([]int{len(p.Actions), len(p.Actions), stored, 0}).Draw(w.rt, "until")
	if upTo == len(p.Actions) && len(p.Actions) > stored {
		upTo = rapid.IntRange(stored, len(p.Actions)).Draw(w.rt, "effects")
	}
	w.do(p.Actions[:upTo])
}

func (w *world) progress() {
	for range rapid.IntRange(0, 12).Draw(w.rt, "progress") {
		switch ids := w.ids(); {
		case rapid.IntRange(0, 2).Draw(w.rt, "plans") == 0 || len(ids) == 0:
			w.crashing()
		default:
			id := rapid.SampledFrom(ids).Draw(w.rt, "workload")
			w.step(id)
			w.check()
			if w.lag && rapid.Bool().Draw(w.rt, "look") {
				w.look(id)
			}
		}
		if rapid.IntRange(0, 9).Draw(w.rt, "time passes") == 0 {
			w.now = w.now.Add(20 * time.Second)
		}
		if w.lag && rapid.IntRange(0, 19).Draw(w.rt, "the server restarts") == 0 {
			w.state.Asked = map[maru.WorkloadID]int{}
			w.lookAtAll()
		}
	}
}

// TestConverges holds: whatever is wished, fails, is cut short or is seen late, in the end every
// rollout is final, a plan has nothing more to do, and exactly what is to run runs.
func TestConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		for range rapid.IntRange(1, 5).Draw(rt, "wishes") {
			w.wish()
			w.progress()
		}
		if sub, err := plan.Pause(w.now, w.observe(), false, "ann"); err == nil {
			w.do(sub.Actions)
		}
		w.settle(48 * time.Hour)
		if w.lag {
			w.lookAtAll()
		}
		if p := plan.App(w.now, w.observe()); !p.Empty() {
			rt.Fatalf("not at rest: %+v", p.Actions)
		}
		w.atRest()
	})
}

func (w *world) atRest() {
	r := w.state.Rollout
	if r != nil && !r.Phase.Final() {
		w.rt.Fatalf("rollout %d is %s: %+v", r.Number, r.Phase, r.Services)
	}
	for name, st := range w.state.Services {
		release := w.state.Releases[name][st.Release]
		left := 0
		if e := r.Services[name]; r.Phase == maru.Failed && e.Phase == maru.Failed {
			left = e.To
		}
		for id, wl := range w.engine {
			n, serving := plan.ReleaseOf(id.Name)
			if id.Service == name && (!serving || n != st.Release && n != left && !served(st, n)) {
				w.rt.Fatalf("%s is left: %+v", id, wl)
			}
		}
		if release.Spec.Kind == maru.Job || st.Release == 0 {
			continue
		}
		wl := w.engine[release.Workload()]
		switch {
		case st.Stopped || st.Replicas == 0:
			if wl != nil && left == 0 {
				w.rt.Fatalf("%s is stopped and runs", name)
			}
		case wl == nil || wl.wanted != st.Replicas || wl.removed:
			w.rt.Fatalf("%s is to run %d of release %d: %+v", name, st.Replicas, st.Release, wl)
		case left == 0 && !st.Scaled && w.sick[release.Image] == "" && w.serving(name) < st.Replicas:
			w.rt.Fatalf("%d of %d of %s are ready", w.serving(name), st.Replicas, name)
		}
	}
	for id := range w.engine {
		if _, known := w.state.Services[id.Service]; !known {
			w.rt.Fatalf("%s is left of a service that is gone", id)
		}
	}
}

func served(st maru.ServiceState, release int) bool {
	return slices.ContainsFunc(st.Serving, func(w maru.Weight) bool { return w.Release == release })
}

// TestRollingNeverServesFewer holds: while a rolling update goes on to a healthy release, no fewer
// endpoints take traffic than before, or than it is to have in the end.
func TestRollingNeverServesFewer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		clear(w.sick)
		set := func(s *maru.Service) {
			s.Replicas = rapid.IntRange(1, 6).Draw(rt, "replicas")
			s.Update = maru.Update{Strategy: maru.Rolling, Parallel: rapid.IntRange(0, 4).Draw(rt, "parallel"),
				Delay: time.Duration(rapid.IntRange(0, 1).Draw(rt, "delay")) * time.Minute}
		}
		w.deploy(app(map[string]maru.Service{"a": web("a:1", set)}))
		w.settle(time.Hour)
		least := w.serving("a")
		w.check = func() {
			if n := w.serving("a"); n < least {
				rt.Fatalf("%d of %d serve: %+v", n, least, w.state.Services["a"])
			}
		}
		for v := range rapid.IntRange(1, 3).Draw(rt, "updates") {
			next := app(map[string]maru.Service{"a": web(fmt.Sprintf("a:%d", v+2), set)})
			least = min(least, next.Services["a"].Replicas)
			w.deploy(next)
			w.progress()
		}
		w.settle(time.Hour)
		if p := w.state.Rollout.Phase; p != maru.Succeeded {
			rt.Fatalf("rollout is %s: %s", p, w.state.Rollout.Reason)
		}
	})
}

// TestGoingBackRestores holds: when a rollout goes back, the services are as they were before it.
func TestGoingBackRestores(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		sick := w.sick
		w.sick = map[string]string{}
		w.deploy(w.app())
		w.settle(time.Hour)
		if w.state.Rollout.Phase != maru.Succeeded {
			rt.Fatalf("the first is %s: %s", w.state.Rollout.Phase, w.state.Rollout.Reason)
		}
		if rapid.Bool().Draw(rt, "stop") {
			w.submit(plan.Stop(w.now, w.observe(), nil, "ann"))
			w.settle(time.Hour)
		}
		runs, states := w.runs(), cloneStates(w.sim)
		w.sick = sick
		for _, releases := range w.state.Releases {
			for _, r := range releases {
				delete(w.sick, r.Image)
			}
		}
		w.deploy(w.app())
		w.progress()
		w.settle(48 * time.Hour)
		if w.state.Rollout.Number < 2 || w.state.Rollout.Phase != maru.RolledBackPhase {
			return
		}
		if got := cloneStates(w.sim); !slices.Equal(got, states) {
			rt.Fatalf("states\n%v\nwant\n%v\nrollout %+v", got, states, w.state.Rollout)
		}
		if got := w.runs(); fmt.Sprint(got) != fmt.Sprint(runs) {
			rt.Fatalf("runs %v, want %v", got, runs)
		}
	})
}
