package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// canary has a service's new releases come step by step.
func canary(shift maru.Shift) func(*maru.Service) {
	return func(s *maru.Service) { s.Update = maru.Update{Strategy: maru.Canary, Shift: &shift} }
}

func blueGreen(shift maru.Shift) func(*maru.Service) {
	return func(s *maru.Service) { s.Update = maru.Update{Strategy: maru.BlueGreen, Shift: &shift} }
}

// shares follows the percents that a release gets.
func shares(s *sim, release int) *[]int {
	var got []int
	last := 0
	s.check = func() {
		st := s.state.Services["web"]
		now := 0
		for _, w := range st.Serving {
			if w.Release == release {
				now = w.Weight
			}
		}
		if st.Release == release {
			now = 100
		}
		if now != last {
			got, last = append(got, now), now
		}
	}
	return &got
}

func TestCanaryGoesStepByStep(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{Judge: &maru.JudgeLimits{}, Steps: []maru.ShiftStep{{Weight: 5, For: 2 * time.Minute}, {Weight: 50}}})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	got := shares(s, 2)
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
	began := s.now
	s.settle(time.Minute)
	wantRuns(t, s, map[string]int{"web/1": 3, "web/2": 1})
	if tr := s.traffic("web"); tr.Split == nil || tr.Split.Old != 1 || tr.Split.New != 2 || !tr.Split.Judged || tr.Weight() != 5 {
		t.Fatalf("traffic %+v", tr)
	}
	if st := plan.Status(s.now, s.observe()); !strings.Contains(st.Services[0].Message, "release 2 has 5% of the traffic, step 1 of 2; is as the test says") ||
		st.Services[0].Ready != 3 || len(st.Services[0].Serving) != 2 || st.Rollout.Services["web"].Verdict == nil {
		t.Errorf("status %+v", st)
	}
	s.settle(2 * time.Minute)
	wantRuns(t, s, map[string]int{"web/1": 3, "web/2": 2})
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	wantRuns(t, s, map[string]int{"web/2": 3})
	if fmt.Sprint(*got) != "[5 50 100]" || s.now.Sub(began) != 3*time.Minute {
		t.Errorf("shares %v in %s", *got, s.now.Sub(began))
	}
	if v := s.state.Rollout.Services["web"].Verdict; v == nil || v.Outcome != maru.JudgedEquivalent {
		t.Errorf("verdict %+v", v)
	}
}

// TestFreshBaseline has fresh instances of the old release run beside the new one's, as long as traffic shifts.
func TestFreshBaseline(t *testing.T) {
	set := canary(maru.Shift{Baseline: true, Judge: &maru.JudgeLimits{}, Steps: []maru.ShiftStep{{Weight: 5}, {Weight: 50}}})
	for name, c := range map[string]struct {
		then  func(s *sim)
		phase maru.RolloutPhase
		runs  map[string]int
	}{
		"promoted":   {func(*sim) {}, maru.Succeeded, map[string]int{"web/2": 3}},
		"taken back": {func(s *sim) { s.judged["web:2@sha256:web:2"] = maru.JudgedRegressed }, maru.RolledBackPhase, map[string]int{"web/1": 3}},
		"aborted":    {func(s *sim) { s.submit(plan.Abort(s.now, s.observe(), "")) }, maru.RolledBackPhase, map[string]int{"web/1": 3}},
		"another": {func(s *sim) { s.deploy(app(map[string]maru.Service{"web": web("web:3", set)})) },
			maru.Succeeded, map[string]int{"web/3": 3}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
			s.settle(long)
			s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
			s.settle(30 * time.Second)
			wantRuns(t, s, map[string]int{"web/1": 3, "web/1-baseline-2": 1, "web/2": 1})
			tr := s.traffic("web")
			baseline := slices.DeleteFunc(slices.Clone(tr.Endpoints), func(e maru.Endpoint) bool { return !e.Baseline })
			if len(baseline) != 1 || !baseline[0].Ready || baseline[0].Release != 1 || !tr.Split.Baseline || tr.Weight() != 5 {
				t.Fatalf("traffic %+v", tr)
			}
			if st := plan.Status(s.now, s.observe()); !strings.Contains(st.Services[0].Message, "compared with a baseline: 1 fresh instances of release 1 with 5%") || st.Services[0].Ready != 3 {
				t.Errorf("status %+v", st.Services[0])
			}
			s.settle(time.Minute)
			wantRuns(t, s, map[string]int{"web/1": 3, "web/1-baseline-2": 2, "web/2": 2})
			c.then(s)
			s.settle(long)
			wantPhase(t, s, c.phase)
			wantRuns(t, s, c.runs)
		})
	}
}

func TestBaselineThatDoesNotComeUp(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{Baseline: true, Judge: &maru.JudgeLimits{}})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	s.failures[shop.Service("web").Workload(maru.BaselineName(1, 2))] = "there is no room"
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
	s.settle(long)
	wantPhase(t, s, maru.RolledBackPhase)
	wantRuns(t, s, map[string]int{"web/1": 3})
	if r := s.state.Rollout; !strings.Contains(r.Reason, "the baseline of release 1 can't be run: there is no room") {
		t.Errorf("%s", r.Reason)
	}
}

func TestWorseIsTakenBackInOneCommit(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{Judge: &maru.JudgeLimits{}})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
	s.settle(10 * time.Second)
	s.judged["web:2@sha256:web:2"] = maru.JudgedRegressed
	p := plan.App(s.now, s.observe())
	i := slices.IndexFunc(p.Actions, func(a plan.Action) bool { st, is := a.(plan.PutService); return is && len(st.State.Serving) == 0 })
	j := slices.IndexFunc(p.Actions, func(a plan.Action) bool { _, is := a.(plan.RemoveWorkload); return is })
	if i < 0 || j < i {
		t.Fatalf("traffic goes back at %d, instances at %d: %+v", i, j, p.Actions)
	}
	s.settle(long)
	wantPhase(t, s, maru.RolledBackPhase)
	wantRuns(t, s, map[string]int{"web/1": 3})
	if r := s.state.Rollout; r.Reason != "web: release 2 is as the test says" || r.Services["web"].Verdict.Outcome != maru.JudgedRegressed {
		t.Errorf("%+v", r)
	}
}

func TestNothingIsPromotedInSilence(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{Judge: &maru.JudgeLimits{}, Patience: 10 * time.Minute})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	got := shares(s, 2)
	s.judged[""] = maru.JudgedContinue
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
	s.settle(48 * time.Hour)
	e := s.state.Rollout.Services["web"]
	if e.Phase != maru.Shifting || e.Held != plan.HeldEvidence || fmt.Sprint(*got) != "[5]" {
		t.Fatalf("%v %+v", *got, e)
	}
	held := 0
	for _, e := range s.events {
		if e.Type == "rollout-held" {
			held++
		}
	}
	if held != 1 {
		t.Errorf("%d events tell that it is held", held)
	}
	s.submit(plan.Promote(s.now, s.observe(), []string{"web"}, false, "ann"))
	s.settle(long)
	if e := s.state.Rollout.Services["web"]; e.Step != 2 || e.Held == "" {
		t.Fatalf("promoted once: %+v", e)
	}
	s.submit(plan.Promote(s.now, s.observe(), nil, true, "ann"))
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	if fmt.Sprint(*got) != "[5 25 50 100]" {
		t.Errorf("shares %v", *got)
	}
}

func TestEnoughThatDoesNotSpeakAgainst(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{Judge: &maru.JudgeLimits{}})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	got := shares(s, 2)
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
	s.judged["web:2@sha256:web:2"] = maru.JudgedContinue // with enough requests at each weight
	s.settle(long)
	if e := s.state.Rollout.Services["web"]; e.Step != 3 || fmt.Sprint(*got) != "[5 25 50]" {
		t.Fatalf("%v %+v", *got, e)
	}
	delete(s.judged, "web:2@sha256:web:2")
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
}

func TestAVerdictOutlivesTheEvidence(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{Judge: &maru.JudgeLimits{}, Steps: []maru.ShiftStep{{Weight: 50, For: 10 * time.Minute}}})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
	s.settle(time.Minute)
	s.plan()
	s.judged[""] = maru.JudgedContinue // as after a restart of the server
	state := s.observe()
	v := state.Verdicts["web"]
	v.Requests = 3
	state.Verdicts["web"] = v
	s.do(plan.App(s.now, state).Actions)
	if e := s.state.Rollout.Services["web"]; e.Verdict == nil || e.Verdict.Outcome != maru.JudgedEquivalent {
		t.Fatalf("%+v", e)
	}
	s.now = s.now.Add(10 * time.Minute)
	state = s.observe()
	state.Verdicts["web"] = v
	s.do(plan.App(s.now, state).Actions)
	if e := s.state.Rollout.Services["web"]; e.Next.IsZero() {
		t.Fatalf("it does not go on: %+v", e)
	}
}

func TestACanaryThatCrashesIsTakenBack(t *testing.T) {
	for _, sick := range []string{"crash-later", "crash", "never-ready"} {
		s := newSim(t)
		set := canary(maru.Shift{})
		s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
		s.settle(long)
		s.sick["web:2@sha256:web:2"] = sick
		s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
		s.settle(long)
		wantPhase(t, s, maru.RolledBackPhase)
		wantRuns(t, s, map[string]int{"web/1": 3})
	}
}

func TestBlueGreen(t *testing.T) {
	s := newSim(t)
	set := blueGreen(maru.Shift{Keep: 10 * time.Minute})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	got := shares(s, 2)
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
	s.settle(time.Minute)
	wantPhase(t, s, maru.Succeeded)
	wantRuns(t, s, map[string]int{"web/1": 3, "web/2": 3})
	if n := s.serving("web"); n != 3 || fmt.Sprint(*got) != "[100]" {
		t.Errorf("%d serve, shares %v", n, *got)
	}
	if st := plan.Status(s.now, s.observe()); !strings.Contains(st.Services[0].Message, "release 1 is kept warm for 10m more") {
		t.Errorf("status %q", st.Services[0].Message)
	}
	s.submit(plan.Abort(s.now, s.observe(), "ann"))
	if p := plan.App(s.now, s.observe()); !slices.ContainsFunc(p.Actions, func(a plan.Action) bool {
		st, is := a.(plan.PutService)
		return is && st.State.Release == 1
	}) {
		t.Errorf("traffic does not go back at once: %+v", p.Actions)
	}
	s.settle(time.Minute)
	wantPhase(t, s, maru.Succeeded)
	wantRuns(t, s, map[string]int{"web/1": 3})

	s.deploy(app(map[string]maru.Service{"web": web("web:3", set)}))
	s.settle(long)
	wantRuns(t, s, map[string]int{"web/4": 3})
	if s.state.Services["web"].Warm != nil {
		t.Error("the old release is warm for ever")
	}
}

func TestAbort(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	before := cloneStates(s)
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
	s.settle(90 * time.Second)
	if tr := s.traffic("web"); tr.Weight() != 25 {
		t.Fatalf("%+v", tr)
	}
	s.submit(plan.Abort(s.now, s.observe(), "ann"))
	if got := cloneStates(s); !slices.Equal(got, before) {
		t.Errorf("traffic after the one commit: %v, before the rollout %v", got, before)
	}
	s.settle(long)
	wantPhase(t, s, maru.RolledBackPhase)
	wantRuns(t, s, map[string]int{"web/1": 3})
	if s.state.Rollout.Reason != "aborted by ann" {
		t.Error(s.state.Rollout.Reason)
	}
	if _, err := plan.Abort(s.now, s.observe(), "ann"); maru.KindOf(err) != maru.Conflict {
		t.Errorf("abort of nothing: %v", err)
	}
}

func TestPauseAndGate(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{Steps: []maru.ShiftStep{{Weight: 5}, {Weight: 50, Pause: true}}})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set)}))
	s.submit(plan.Pause(s.now, s.observe(), true, "ann"))
	s.settle(long)
	if e := s.state.Rollout.Services["web"]; e.Step != 0 || e.Held != plan.HeldPaused {
		t.Fatalf("paused: %+v", e)
	}
	s.submit(plan.Pause(s.now, s.observe(), false, "ann"))
	s.settle(long)
	if e := s.state.Rollout.Services["web"]; e.Step != 2 || e.Held != plan.HeldGate {
		t.Fatalf("at the gate: %+v", e)
	}
	s.submit(plan.Promote(s.now, s.observe(), nil, false, "ann"))
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
}

func TestAnotherDeployTakesACanaryBackFirst(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{})
	other := web("worker:1")
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set), "worker": other}))
	s.settle(long)
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set), "worker": other}))
	s.settle(90 * time.Second)
	// What it does not speak of goes on where it is.
	s.deploy(app(map[string]maru.Service{"web": web("web:2", set), "worker": web("worker:2")}), "worker")
	if e := s.state.Rollout.Services["web"]; e.Step != 2 || s.traffic("web").Weight() != 25 {
		t.Fatalf("another service's deploy: %+v", e)
	}
	s.deploy(app(map[string]maru.Service{"web": web("web:3", set), "worker": web("worker:2")}))
	if w := s.state.Services["web"]; len(w.Serving) != 0 || w.Release != 1 {
		t.Fatalf("%+v", w)
	}
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	wantRuns(t, s, map[string]int{"web/4": 3, "worker/3": 3})
}

// TestWhatServesStaysWhole holds: while traffic shifts, the release before has all its instances; shares are
// percents; and a rollout that goes back leaves all as it was.
func TestWhatServesStaysWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		sick, judged := w.sick, w.judged
		w.sick, w.judged = map[string]string{}, map[string]string{}
		replicas := rapid.IntRange(1, 6).Draw(rt, "replicas")
		set := func(s *maru.Service) {
			s.Replicas = replicas
			s.Update = maru.Update{Strategy: rapid.SampledFrom([]maru.Strategy{maru.Canary, maru.BlueGreen}).Draw(rt, "strategy"), Shift: w.shift()}
		}
		w.deploy(app(map[string]maru.Service{"a": web("a:1", set)}))
		w.settle(time.Hour)
		before, runs := cloneStates(w.sim), w.runs()
		w.sick, w.judged = sick, judged
		w.check = func() {
			st := w.state.Services["a"]
			sum := 0
			for _, s := range st.Serving {
				sum += s.Weight
			}
			if len(st.Serving) > 0 && sum != 100 {
				rt.Fatalf("shares %+v", st.Serving)
			}
			if old := w.engine[shop.Service("a").Workload("1")]; st.Release == 1 && (old == nil || old.wanted != replicas || old.removed) {
				rt.Fatalf("release 1 serves with %+v of %d: %+v", old, replicas, st)
			}
			if n := w.serving("a"); n < replicas {
				rt.Fatalf("%d of %d serve", n, replicas)
			}
		}
		for k, v := range w.sick {
			if v == "crash-later" { // whoever has all traffic may do that
				delete(w.sick, k)
			}
		}
		w.deploy(app(map[string]maru.Service{"a": web("a:2", set)}))
		w.progress()
		w.settle(48 * time.Hour)
		if w.state.Rollout.Phase != maru.RolledBackPhase {
			return
		}
		if got := cloneStates(w.sim); !slices.Equal(got, before) || fmt.Sprint(w.runs()) != fmt.Sprint(runs) {
			rt.Fatalf("went back to %v, %v; before %v, %v", got, w.runs(), before, runs)
		}
	})
}

func TestWhatWasTakenBackIsRemembered(t *testing.T) {
	s := newSim(t)
	set := canary(maru.Shift{Judge: &maru.JudgeLimits{}})
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	s.judged["web:2@sha256:web:2"] = maru.JudgedRegressed
	next := deployment(app(map[string]maru.Service{"web": web("web:2", set)}))
	s.submit(plan.Deploy(s.now, s.observe(), next))
	s.settle(long)
	wantPhase(t, s, maru.RolledBackPhase)
	_, err := plan.Deploy(s.now, s.observe(), next)
	if maru.KindOf(err) != maru.Conflict || !strings.Contains(err.Error(), "web is what release 2 was, which was taken back: it is as the test says") {
		t.Fatalf("deployed again: %v", err)
	}
	delete(s.judged, "web:2@sha256:web:2")
	next.Force = true
	s.submit(plan.Deploy(s.now, s.observe(), next))
	s.settle(long)
	wantPhase(t, s, maru.Succeeded)
	s.deploy(app(map[string]maru.Service{"web": web("web:1", set)}))
	s.settle(long)
	next.Force = false
	if _, err := plan.Deploy(s.now, s.observe(), next); err != nil {
		t.Errorf("what did well since is refused: %v", err)
	}
}
