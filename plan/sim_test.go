package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

var (
	epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	shop  = maru.Scope{Project: "default", Environment: "production", App: "shop"}
)

// reporter is what tests and properties have in common.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sim is a store and an engine made of maps, on which plans are tried.
type sim struct {
	t        reporter
	now      time.Time
	state    plan.AppState
	engine   map[maru.WorkloadID]*simWorkload
	sick     map[string]string // by image: never-ready, crash, crash-later, exit-7, ends
	next     int
	events   []maru.Event
	check    func()
	failures map[maru.WorkloadID]string // the engine refuses these
	lag      bool                       // observations are as last looked at, see look
	seen     map[maru.WorkloadID]maru.Observation
	judged   map[string]string // the judge's outcome by image; "": as good as the old one
}

type simWorkload struct {
	release   maru.Release
	step      bool
	wanted    int
	removed   bool
	instances []maru.Instance
}

func newSim(t reporter) *sim {
	return &sim{t: t, now: epoch, engine: map[maru.WorkloadID]*simWorkload{}, sick: map[string]string{}, failures: map[maru.WorkloadID]string{}, judged: map[string]string{},
		state: plan.AppState{
			Scope: shop, Services: map[string]maru.ServiceState{}, Releases: map[string]map[int]maru.Release{},
			History: map[int]maru.Rollout{}, Asked: map[maru.WorkloadID]int{}, Refused: map[maru.WorkloadID]string{},
		}, check: func() {}}
}

// observe gives the planner's input as it is now.
func (s *sim) observe() plan.AppState {
	st := s.state
	st.Verdicts = s.verdicts()
	if s.lag {
		st.Observed = maps.Clone(s.seen)
		st.Asked = maps.Clone(s.state.Asked)
		return st
	}
	st.Observed = map[maru.WorkloadID]maru.Observation{}
	for id := range s.engine {
		st.Observed[id] = s.observation(id)
	}
	return st
}

// verdicts are the judge's of all releases that traffic shifts to.
func (s *sim) verdicts() map[string]maru.Verdict {
	out := map[string]maru.Verdict{}
	if s.state.Rollout == nil {
		return out
	}
	for name, e := range s.state.Rollout.Services {
		if e.Phase != maru.Shifting {
			continue
		}
		v := maru.Verdict{Outcome: maru.JudgedEquivalent, Why: "is as the test says", Release: e.To, Against: e.From, Requests: 1000, At: s.now}
		for _, w := range s.state.Services[name].Serving {
			if w.Release == e.To {
				v.Weight, v.AtWeight = w.Weight, 1000
			}
		}
		if outcome := s.judged[s.state.Releases[name][e.To].Image]; outcome != "" {
			v.Outcome = outcome
		}
		if outcome := s.judged[""]; outcome != "" {
			v.Outcome, v.AtWeight = outcome, 0
		}
		out[name] = v
	}
	return out
}

func (s *sim) observation(id maru.WorkloadID) maru.Observation {
	w := s.engine[id]
	o := maru.Observation{Workload: id, Wanted: w.wanted, Instances: slices.Clone(w.instances)}
	if w.removed {
		o.Wanted = 0
	}
	return o
}

// look has the planner see the workload as it is now.
func (s *sim) look(id maru.WorkloadID) {
	if _, there := s.engine[id]; there {
		s.seen[id] = s.observation(id)
		return
	}
	delete(s.seen, id)
	delete(s.state.Asked, id)
}

func (s *sim) lookAtAll() {
	for id := range s.engine {
		s.look(id)
	}
	for id := range s.seen {
		s.look(id)
	}
	for id := range s.state.Asked {
		s.look(id)
	}
}

func (s *sim) do(actions []plan.Action) {
	for _, a := range actions {
		s.apply(a)
		s.check()
	}
	s.times()
}

func (s *sim) apply(a plan.Action) {
	switch a := a.(type) {
	case plan.PutApp:
		s.state.Spec = &a.App
	case plan.PutRelease:
		name := a.Release.Service.Service
		if s.state.Releases[name] == nil {
			s.state.Releases[name] = map[int]maru.Release{}
		}
		s.state.Releases[name][a.Release.Number] = a.Release
	case plan.PutService:
		s.state.Services[a.State.Service.Service] = a.State
	case plan.DeleteService:
		delete(s.state.Services, a.Service.Service)
	case plan.PutRollout:
		r := a.Rollout
		s.state.History[r.Number] = r
		if s.state.Rollout == nil || r.Number >= s.state.Rollout.Number {
			s.state.Rollout = &r
		}
	case plan.ForgetApp:
		s.state.Spec, s.state.Releases = nil, map[string]map[int]maru.Release{}
	case plan.Record:
		s.events = append(s.events, a.Event)
	case plan.ApplyWorkload:
		if why, no := s.failures[a.Workload]; no {
			s.state.Refused[a.Workload] = why
			return
		}
		w := s.engine[a.Workload]
		if w == nil {
			release, ok := s.state.Releases[a.Workload.Service][a.Release]
			if !ok {
				s.t.Fatalf("applied release %d of %s, which does not exist", a.Release, a.Workload.Service)
			}
			w = &simWorkload{release: release, step: a.Step != ""}
			s.engine[a.Workload] = w
		}
		w.wanted, w.removed = a.Replicas, false
		s.ask(a.Workload, a.Replicas)
		s.scale(a.Workload, w)
	case plan.RemoveWorkload:
		w := s.engine[a.Workload]
		s.ask(a.Workload, plan.Removed)
		if w == nil && s.lag {
			return
		}
		if w == nil {
			s.t.Fatalf("removed %s, which is not there", a.Workload)
		}
		w.removed = true
		s.scale(a.Workload, w)
	default:
		s.t.Fatalf("unknown action %T", a)
	}
}

func (s *sim) ask(id maru.WorkloadID, n int) {
	if s.lag {
		s.state.Asked[id] = n
	}
}

// scale has surplus instances drain and makes those that are missing.
func (s *sim) scale(id maru.WorkloadID, w *simWorkload) {
	want := w.wanted
	if w.removed {
		want = 0
	}
	staying := 0
	for i := range w.instances {
		if w.instances[i].Phase == maru.PhaseDraining {
			continue
		}
		if staying++; staying > want {
			if !alive(w.instances[i]) {
				w.instances[i].Started = time.Time{}
			}
			w.instances[i].Phase = maru.PhaseDraining
		}
	}
	for ; staying < want; staying++ {
		s.next++
		w.instances = append(w.instances, maru.Instance{
			ID: fmt.Sprintf("%s-%s-%05d", id.Service, id.Name, s.next), Phase: maru.PhaseCreating, Attempt: 1, Created: s.now})
	}
}

// step lets the engine do one thing with one workload, and tells whether there was one.
func (s *sim) step(id maru.WorkloadID) bool {
	w := s.engine[id]
	if w == nil {
		return false
	}
	for i := range w.instances {
		if s.stepInstance(id, w, &w.instances[i]) {
			w.instances = slices.DeleteFunc(w.instances, func(i maru.Instance) bool { return i.Phase == "gone" })
			return true
		}
	}
	if w.removed && len(w.instances) == 0 {
		delete(s.engine, id)
		return true
	}
	return false
}

func (s *sim) stepInstance(id maru.WorkloadID, w *simWorkload, i *maru.Instance) bool {
	sick := s.sick[w.release.Image]
	job := w.step || w.release.Spec.Kind == maru.Job
	switch {
	case i.Phase == maru.PhaseDraining:
		i.Phase = "gone"
	case i.Phase == maru.PhaseCreating && s.held(id, w):
		return false
	case i.Phase == maru.PhaseCreating:
		i.Phase, i.Started = maru.PhaseRunning, s.now
	case i.Phase == maru.PhaseRunning && job:
		i.Phase = maru.PhaseDone
		if sick == "exit-7" {
			i.Phase = maru.PhaseFailed
			i.LastExit = &maru.Exit{Code: 7, At: s.now, LastLines: []string{"cannot go on"}}
		}
	case i.Phase == maru.PhaseRunning && sick == "ends":
		i.Phase, i.Ready, i.LastExit = maru.PhaseDone, false, &maru.Exit{At: s.now}
	case i.Phase == maru.PhaseRunning && !job && (sick == "crash" || sick == "crash-later" && i.Ready):
		i.Ready = false
		i.Phase, i.LastExit = maru.PhaseBackoff, &maru.Exit{Code: 3, At: s.now}
		i.NextStart = s.now.Add(time.Second << i.Attempt)
	case i.Phase == maru.PhaseBackoff && !i.NextStart.After(s.now):
		i.Phase, i.Started, i.Attempt = maru.PhaseRunning, s.now, i.Attempt+1
	case i.Phase == maru.PhaseRunning && !i.Ready && !job && sick != "never-ready":
		i.Ready, i.ReadySince = true, s.now
	default:
		return false
	}
	return true
}

// held tells whether another workload of the service holds a volume that this one writes to.
func (s *sim) held(id maru.WorkloadID, w *simWorkload) bool {
	mine := writes(w.release)
	for other, o := range s.engine {
		if other == id || other.Service != id.Service || len(o.instances) == 0 {
			continue
		}
		for _, v := range writes(o.release) {
			if slices.Contains(mine, v) && slices.ContainsFunc(o.instances, alive) {
				return true
			}
		}
	}
	return false
}

func alive(i maru.Instance) bool {
	return i.Phase == maru.PhaseRunning || i.Phase == maru.PhaseDraining && !i.Started.IsZero() || i.Phase == maru.PhaseBackoff
}

func writes(r maru.Release) []string {
	var out []string
	for _, m := range r.Spec.Container.Mounts {
		if m.Kind == maru.VolumeMount && !m.ReadOnly {
			out = append(out, m.Source)
		}
	}
	return out
}

func (s *sim) ids() []maru.WorkloadID {
	return slices.SortedFunc(maps.Keys(s.engine), func(a, b maru.WorkloadID) int { return strings.Compare(a.String(), b.String()) })
}

// plan plans once and does it.
func (s *sim) plan() plan.Plan {
	p := plan.App(s.now, s.observe())
	s.do(p.Actions)
	return p
}

// settle plans and lets the engine work until neither has anything to do, letting time pass as the
// plan asks. It gives up after some time of the simulation.
func (s *sim) settle(limit time.Duration) {
	s.t.Helper()
	end := s.now.Add(limit)
	for range 10_000 {
		if s.lag {
			s.lookAtAll()
		}
		p := s.plan()
		moved := false
		for _, id := range s.ids() {
			moved = s.step(id) || moved
			s.check()
		}
		if moved || !p.Empty() {
			continue
		}
		wake := p.Wake
		for _, w := range s.engine {
			for _, i := range w.instances {
				if i.Phase == maru.PhaseBackoff && (wake.IsZero() || i.NextStart.Before(wake)) {
					wake = i.NextStart
				}
			}
		}
		if wake.IsZero() || wake.After(end) {
			return
		}
		s.now = wake
	}
	s.t.Fatalf("did not settle: %+v", s.state.Rollout)
}

func (s *sim) submit(sub plan.Submission, err error) plan.Submission {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("submit: %v", err)
	}
	s.do(sub.Actions)
	return sub
}

func (s *sim) deploy(app maru.App, services ...string) plan.Submission {
	s.t.Helper()
	return s.submit(plan.Deploy(s.now, s.observe(), deployment(app, services...)))
}

// deployment gives each service the image that its file names, as if by digest.
func deployment(app maru.App, services ...string) maru.Deployment {
	d := maru.Deployment{Scope: shop, App: app, Services: services, Images: map[string]maru.Image{}, Secrets: map[string]maru.SecretVersion{}, By: "ann", Seed: true}
	for name, s := range app.Services {
		d.Images[name] = maru.Image{Reference: s.Image + "@sha256:" + s.Image}
	}
	for key := range app.Secrets {
		d.Secrets[key] = maru.SecretVersion{Name: key, Version: 1}
	}
	return d
}

// runs tells what runs: instances by service and workload.
func (s *sim) runs() map[string]int {
	out := map[string]int{}
	for id, w := range s.engine {
		for _, i := range w.instances {
			if i.Phase == maru.PhaseRunning {
				out[id.Service+"/"+id.Name]++
			}
		}
	}
	return out
}

// serving counts the ready endpoints of a service that get traffic.
func (s *sim) serving(service string) int {
	n := 0
	for _, e := range s.traffic(service).Endpoints {
		if e.Ready {
			n++
		}
	}
	return n
}

func (s *sim) traffic(service string) maru.ServiceTraffic {
	v := plan.ServiceView{State: s.state.Services[service], Releases: s.state.Releases[service], Observed: map[string]maru.Observation{}}
	n := byte(0)
	for id, w := range s.engine {
		if id.Service != service {
			continue
		}
		o := maru.Observation{Workload: id, Instances: slices.Clone(w.instances)}
		for i := range o.Instances {
			n++
			o.Instances[i].Addresses.V4 = maru.DefaultRanges().InstancesV4.Addr().Next()
		}
		v.Observed[id.Name] = o
	}
	return plan.Traffic(v)
}

// invariants are checked after every action and every step of the engine.
func (s *sim) invariants() {
	for id, w := range s.engine {
		for _, v := range writes(w.release) {
			for other, o := range s.engine {
				if other.Service == id.Service && other.Name < id.Name && slices.Contains(writes(o.release), v) &&
					slices.ContainsFunc(o.instances, alive) && slices.ContainsFunc(w.instances, alive) {
					s.t.Fatalf("%s and %s both write to %s", id, other, v)
				}
			}
		}
	}
}

// times looks that a rollout says when users had something of it, and when all.
func (s *sim) times() {
	for _, r := range s.state.History {
		wrong := !r.Served.IsZero() && r.Exposed.IsZero() || r.Served.Before(r.Exposed) && !r.Served.IsZero() ||
			!r.Exposed.IsZero() && r.Exposed.Before(r.Started) || !r.Ended.IsZero() && r.Ended.Before(r.Served)
		stopped := len(r.Services) > 0 // by somebody, all of it
		for _, e := range r.Services {
			stopped = stopped && e.Phase == maru.Superseded
		}
		if wrong || r.Phase == maru.Succeeded && r.Served.IsZero() && !stopped {
			s.t.Fatalf("rollout %d is %s: started %s, exposed %s, served %s, ended %s: %+v", r.Number, r.Phase, r.Started, r.Exposed, r.Served, r.Ended, r)
		}
	}
	r := s.state.Rollout
	if r == nil || !r.Exposed.IsZero() || r.Phase == maru.Pending { // just submitted, maybe with what goes on
		return
	}
	for name, e := range r.Services {
		st := s.state.Services[name]
		has := st.Release == e.To && len(st.Serving) == 0
		for _, w := range st.Serving {
			has = has || w.Release == e.To && w.Weight > 0
		}
		if has && e.From != 0 && e.From != e.To && e.Phase != maru.Pending && !r.Phase.Final() {
			s.t.Fatalf("rollout %d (%s) has traffic for %s, and users had nothing of it: %+v", r.Number, r.Phase, name, e)
		}
	}
}

func wantRuns(t *testing.T, s *sim, want map[string]int) {
	t.Helper()
	if got := s.runs(); !maps.Equal(got, want) {
		t.Errorf("runs %v, want %v", got, want)
	}
}

func wantPhase(t *testing.T, s *sim, phase maru.RolloutPhase) {
	t.Helper()
	if s.state.Rollout.Phase != phase {
		t.Fatalf("rollout %d is %s, want %s: %s\n%+v", s.state.Rollout.Number, s.state.Rollout.Phase, phase, s.state.Rollout.Reason, s.state.Rollout.Services)
	}
}
