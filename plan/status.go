package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/marucloud/maru"
)

// Status says how an app is: for each service what is wrong and why, or what it waits for.
func Status(now time.Time, s AppState) maru.AppStatus {
	p := newPlanner(now, s)
	out := maru.AppStatus{Scope: s.Scope, Rollout: p.judged()}
	for _, svc := range p.sorted() {
		if svc.stored || len(svc.observed) > 0 {
			out.Services = append(out.Services, p.serviceStatus(svc))
		}
	}
	out.State = p.sum(out.Services)
	return out
}

// judged is the newest rollout with what the judge says now.
func (p *planner) judged() *maru.Rollout {
	if p.rollout == nil {
		return p.in.Rollout
	}
	r := cloneRollout(p.rollout)
	for name, e := range r.Services {
		if e.Phase != maru.Shifting {
			continue
		}
		if v := (mover{planner: p, service: p.service(name), entry: &e}).verdict(); v.Outcome != "" {
			e.Verdict = &v
			r.Services[name] = e
		}
	}
	return r
}

func (p *planner) serviceStatus(s *service) maru.ServiceStatus {
	view := ServiceView{State: s.state, Releases: s.releases, Observed: s.observed}
	release, _ := view.main()
	out := maru.ServiceStatus{
		Name: s.id.Service, Kind: release.Spec.Kind, Release: s.state.Release, Image: release.Image,
		Wanted: s.state.Replicas, Scaled: s.state.Scaled, Stopped: s.state.Stopped,
		VirtualAddress: s.state.VirtualAddress, Updated: release.Created,
		Routes: release.Spec.Routes, Publish: Published(release.Spec, s.state),
	}
	if s.state.Stopped {
		out.Wanted = 0
	}
	for _, name := range slices.Sorted(maps.Keys(s.observed)) {
		n, _ := ReleaseOf(name)
		for _, i := range s.observed[name].Instances {
			out.Instances = append(out.Instances, maru.InstanceStatus{
				Instance: i, Workload: name, Why: Why(p.now, i, s.releases[n].Spec.Container)})
		}
	}
	for _, w := range serving(s.state) {
		if s.state.Shifting == 0 || w.Release == s.state.Release {
			out.Ready += s.ready(w.Release)
		}
	}
	if len(s.state.Serving) > 1 {
		out.Serving = s.state.Serving
	}
	out.State, out.Message = p.judge(s, out)
	return out
}

// judge sums up a service: first what a rollout does to it, then what its instances do.
func (p *planner) judge(s *service, st maru.ServiceStatus) (maru.State, string) {
	if p.rollout != nil {
		if slices.Contains(p.rollout.Removed, s.id.Service) {
			return maru.StateRemoving, ""
		}
		if e, ok := p.rollout.Services[s.id.Service]; ok && !e.Phase.Final() {
			return p.moving(s, st, e)
		}
	}
	release := s.releases[s.state.Release]
	switch {
	case s.state.Stopped:
		return maru.StateStopped, "stopped"
	case s.state.Release == 0:
		return maru.StateFailed, p.neverServed(s)
	case release.Spec.Kind == maru.Job:
		return jobState(p.now, s, release)
	}
	name := maru.Itoa(s.state.Release)
	why := worst(p.now, s.observed[name], release)
	if refused, ok := p.in.Refused[s.id.Workload(name)]; ok {
		why = "the engine refuses it: " + refused
	}
	switch {
	case st.Wanted == 0:
		return maru.StateStopped, "scaled to 0"
	case st.Ready >= st.Wanted && s.state.Warm != nil:
		return maru.StateRunning, fmt.Sprintf("release %d is kept warm for %s more: maru rollback goes back to it at once",
			s.state.Warm.Release, words(max(0, s.state.Warm.Until.Sub(p.now))))
	case st.Ready >= st.Wanted:
		return maru.StateRunning, ""
	case s.done(release) == st.Wanted:
		return maru.StateDone, "ran to its end"
	case st.Ready+s.done(release) >= st.Wanted:
		return maru.StateRunning, fmt.Sprintf("%d of %d instances ran to their end", s.done(release), st.Wanted)
	case st.Ready > 0:
		return maru.StateDegraded, fmt.Sprintf("%d of %d instances ready%s", st.Ready, st.Wanted, after(": ", why))
	case starts(s.observed[name]) && p.in.Refused[s.id.Workload(name)] == "":
		return maru.StateStarting, first(why, "its instances are being started")
	}
	return maru.StateFailed, first(why, "no instance is ready")
}

// done counts the instances that ran to their end, as they may.
func (s *service) done(r maru.Release) int {
	n := 0
	for _, i := range s.observed[maru.Itoa(r.Number)].Instances {
		if ended(i, r) {
			n++
		}
	}
	return n
}

// starts tells whether the instances have done nothing wrong so far.
func starts(o maru.Observation) bool {
	return !slices.ContainsFunc(o.Instances, func(i maru.Instance) bool { return i.LastExit != nil })
}

func jobState(now time.Time, s *service, r maru.Release) (maru.State, string) {
	if _, failed := outcome(s.observed[maru.Itoa(r.Number)], 1); failed != nil {
		return maru.StateFailed, Why(now, *failed, r.Spec.Container)
	}
	return maru.StateDone, ""
}

// neverServed says why a service that is not being rolled out has no release that serves.
func (p *planner) neverServed(s *service) string {
	if r := p.in.Rollout; r != nil {
		if e, ok := r.Services[s.id.Service]; ok && e.Reason != "" {
			return e.Reason
		}
	}
	return "no release of it has served yet"
}

// moving says how far a rollout is with a service.
func (p *planner) moving(s *service, st maru.ServiceStatus, e maru.ServiceRollout) (maru.State, string) {
	state := maru.StateUpdating
	if e.From == 0 && e.Phase != maru.RollingBack {
		state = maru.StateStarting
	}
	to := s.releases[e.To]
	observed := s.observed[maru.Itoa(e.To)]
	switch e.Phase {
	case maru.Pending:
		waits, _ := p.blockers(to)
		return state, join(waits)
	case maru.Releasing:
		return state, fmt.Sprintf("the release step of release %d runs", e.To)
	case maru.Seeding:
		return state, fmt.Sprintf("the seed of release %d runs", e.To)
	case maru.Starting:
		if to.Spec.Kind == maru.Job {
			return state, first(worst(p.now, observed, to), fmt.Sprintf("the job of release %d runs", e.To))
		}
		if rivals := s.rivals(e.To); len(rivals) > 0 && s.exclusive(to) {
			return state, "waits for the instances before to be gone"
		}
		return state, fmt.Sprintf("release %d: %d of %d instances ready%s", e.To, p.up(s, e.To),
			mover{planner: p, service: s, entry: &e, to: to}.replicas(), after(": ", worst(p.now, observed, to)))
	case maru.Shifting:
		return state, mover{planner: p, service: s, entry: &e, to: to}.shiftText()
	case maru.Draining:
		if rivals := s.rivals(e.To); len(rivals) == 0 {
			return state, ""
		}
		return state, fmt.Sprintf("release %d serves, the instances before it finish", e.To)
	}
	if e.From == 0 {
		return maru.StateRemoving, e.Reason
	}
	return state, fmt.Sprintf("goes back to release %d%s", e.From, after(": ", e.Reason))
}

// sum is the state of the whole app.
func (p *planner) sum(services []maru.ServiceStatus) maru.State {
	if p.rollout != nil {
		if p.rollout.Cause == CauseRemove {
			return maru.StateRemoving
		}
		return maru.StateUpdating
	}
	count := map[maru.State]int{}
	for _, s := range services {
		count[s.State]++
	}
	standing := len(services) - count[maru.StateDone]
	switch {
	case count[maru.StateFailed] > 0 && count[maru.StateFailed] == standing:
		return maru.StateFailed
	case count[maru.StateFailed]+count[maru.StateDegraded] > 0:
		return maru.StateDegraded
	case count[maru.StateStarting] > 0:
		return maru.StateStarting
	case count[maru.StateStopped] == standing:
		return maru.StateStopped
	}
	return maru.StateRunning
}

// Summary is an app in one line.
func Summary(now time.Time, s AppState) maru.AppSummary {
	status := Status(now, s)
	out := maru.AppSummary{Scope: s.Scope, Services: len(status.Services), State: status.State}
	if s.Rollout != nil {
		out.Rollout, out.Updated = s.Rollout.Number, s.Rollout.Started
	}
	for _, st := range status.Services {
		out.Wanted += st.Wanted
		out.Ready += min(st.Ready, st.Wanted)
		out.Routes = append(out.Routes, st.Routes...)
	}
	return out
}

// empty says for the page that a person sees why no instance takes traffic.
func (v ServiceView) empty() string {
	switch {
	case v.State.Stopped:
		return "it is stopped"
	case v.State.Release == 0:
		return "its first release is not ready yet"
	case v.State.Replicas == 0:
		return "it is scaled to 0 instances"
	}
	for _, i := range v.Observed[maru.Itoa(v.State.Release)].Instances {
		switch i.Phase {
		case maru.PhaseBackoff, maru.PhaseFailed:
			return "its instances end as soon as they are started"
		case maru.PhaseDone:
			return "its instances ran to their end"
		}
	}
	return fmt.Sprintf("release %d has no instance that is ready", v.State.Release)
}
