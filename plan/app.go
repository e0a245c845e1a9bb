package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// App decides what to do now for one app: it moves the active rollout on, and keeps running on the
// engine what is to run and nothing else. It plans only for what it is given: the caller makes sure
// that the engine has told all that it has.
func App(now time.Time, s AppState) Plan {
	p := newPlanner(now, s)
	p.roll()
	for _, svc := range p.sorted() {
		if !svc.settled && !svc.deleted {
			p.hold(svc)
		}
		p.oneOffs(svc)
	}
	p.after()
	return p.plan()
}

// planner works on copies of what may change.
type planner struct {
	now      time.Time
	in       AppState
	services map[string]*service
	rollout  *maru.Rollout // the active one, or nil
	before   string        // its JSON
	over     *maru.Rollout // the newest, when it is over and a step that follows it goes on
	failure  *failure
	forget   bool
	events   []maru.Event
	wake     time.Time
}

// service is one service while it is being planned for.
type service struct {
	id       maru.ServiceID
	stored   bool // there is a state
	state    maru.ServiceState
	changed  bool
	leaving  bool // nothing of it is to stay
	deleted  bool // and nothing did
	releases map[int]maru.Release
	observed map[string]maru.Observation // by the workload's name
	asked    map[string]int
	settled  bool // want is decided
	want     map[string]ApplyWorkload
	keep     map[string]bool // neither applied nor removed
}

func newPlanner(now time.Time, s AppState) *planner {
	p := &planner{now: now, in: s, services: make(map[string]*service, len(s.Services))}
	for name, state := range s.Services {
		svc := p.service(name)
		svc.state, svc.stored = state, true
	}
	for id, o := range s.Observed {
		p.service(id.Service).observed[id.Name] = o
	}
	for id, n := range s.Asked {
		p.service(id.Service).asked[id.Name] = n
	}
	if s.Rollout != nil {
		for name := range s.Rollout.Services {
			p.service(name)
		}
		if !s.Rollout.Phase.Final() {
			p.rollout, p.before = cloneRollout(s.Rollout), string(maru.Raw(s.Rollout))
		}
	}
	return p
}

func cloneRollout(r *maru.Rollout) *maru.Rollout {
	c := *r
	c.Services = maps.Clone(r.Services)
	return &c
}

func (p *planner) service(name string) *service {
	svc := p.services[name]
	if svc == nil {
		svc = &service{
			id:       p.in.Scope.Service(name),
			state:    maru.ServiceState{Service: p.in.Scope.Service(name)},
			releases: p.in.Releases[name],
			observed: map[string]maru.Observation{},
			asked:    map[string]int{},
		}
		svc.reset()
		p.services[name] = svc
	}
	return svc
}

func (p *planner) sorted() []*service {
	return slices.SortedFunc(maps.Values(p.services), func(a, b *service) int {
		return cmp.Compare(a.id.Service, b.id.Service)
	})
}

// at tells whether the time has come, and has the plan made again when it has not.
func (p *planner) at(t time.Time) bool {
	if !t.After(p.now) {
		return true
	}
	if p.wake.IsZero() || t.Before(p.wake) {
		p.wake = t
	}
	return false
}

// hold keeps a service as its state says. What serves beside its release, or was left by a rollout
// that was to stay as it failed, is left alone.
func (p *planner) hold(s *service) {
	s.reset()
	if !s.stored {
		return
	}
	release, known := s.releases[s.state.Release]
	switch {
	case s.state.Release == 0:
	case !known, release.Spec.Kind == maru.Job:
		s.keep[maru.Itoa(s.state.Release)] = true
	case s.state.Stopped:
	case s.present(maru.Itoa(s.state.Release)) || !s.contended(release, s.rivals(s.state.Release)):
		s.apply(s.state.Release, s.state.Replicas)
	}
	if !s.state.Stopped {
		for _, w := range s.state.Serving {
			s.keep[maru.Itoa(w.Release)] = true
		}
		if left := p.left(s.id.Service); left != 0 {
			s.keep[maru.Itoa(left)] = true
		}
		p.holdWarm(s)
	}
	s.recognize()
}

// holdWarm keeps what is there to go back to, as long as it is to be.
func (p *planner) holdWarm(s *service) {
	w := s.state.Warm
	switch {
	case w == nil:
	case p.at(w.Until):
		s.state.Warm, s.changed = nil, true
	default:
		s.apply(w.Release, w.Replicas)
	}
}

// left is the release whose instances a failed rollout left for people to look at.
func (p *planner) left(name string) int {
	if r := p.in.Rollout; r != nil && r.Phase == maru.Failed && r.Services[name].Phase == maru.Failed {
		return r.Services[name].To
	}
	return 0
}

// oneOffs keeps what people run once, until some time after it ended.
func (p *planner) oneOffs(s *service) {
	if !s.stored || s.leaving {
		return
	}
	for name, o := range s.observed {
		if release, _ := ReleaseOf(name); release != 0 || !strings.HasPrefix(name, runPrefix) {
			continue
		}
		if ended, over := endOf(o); !over || !p.at(ended.Add(runKept)) {
			s.keep[name] = true
		}
	}
	for name := range s.asked {
		if _, seen := s.observed[name]; !seen && strings.HasPrefix(name, runPrefix) {
			s.keep[name] = true
		}
	}
}

// endOf tells when the last of a workload's instances ended for good.
func endOf(o maru.Observation) (at time.Time, over bool) {
	if len(o.Instances) == 0 {
		return time.Time{}, false
	}
	for _, i := range o.Instances {
		if i.Phase != maru.PhaseDone && i.Phase != maru.PhaseFailed || i.LastExit == nil {
			return time.Time{}, false
		}
		if i.LastExit.At.After(at) {
			at = i.LastExit.At
		}
	}
	return at, true
}

// plan puts what was decided into the order to do it.
func (p *planner) plan() Plan {
	var stored, apply, remove []Action
	for _, s := range p.sorted() {
		switch {
		case s.deleted && s.stored:
			stored = append(stored, DeleteService{s.id})
		case s.changed:
			stored = append(stored, PutService{s.state})
		}
		a, r := s.difference()
		apply, remove = append(apply, a...), append(remove, r...)
	}
	if p.rollout != nil && string(maru.Raw(p.rollout)) != p.before {
		stored = append(stored, PutRollout{*p.rollout})
	}
	if p.over != nil {
		stored = append(stored, PutRollout{*p.over})
	}
	if p.forget {
		stored = append(stored, ForgetApp{p.in.Scope})
	}
	for _, e := range p.events {
		stored = append(stored, Record{e})
	}
	return Plan{Actions: slices.Concat(stored, apply, remove), Wake: p.wake}
}

// record notes an event of the newest rollout.
func (p *planner) record(kind string, s *service, release int, message string) {
	e := maru.Event{Time: p.now, Scope: p.in.Scope, Release: release, Type: kind, Message: message}
	if s != nil {
		e.Service = s.id.Service
	}
	if r := p.in.Rollout; r != nil {
		e.Rollout, e.By = r.Number, r.By
	}
	p.events = append(p.events, e)
}
