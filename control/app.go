package control

import (
	"maps"
	"slices"
	"sync"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// app is what is known of one app. The view's lock guards all but deciding. Maps of maps are replaced
// and not written to, so that parts can be given away.
type app struct {
	scope    maru.Scope
	spec     *maru.App
	services map[string]maru.ServiceState
	releases map[string]map[int]maru.Release
	history  map[int]maru.Rollout
	newest   *maru.Rollout
	observed map[string]map[string]maru.Observation // by service and workload
	asked    map[maru.WorkloadID]int
	refused  map[maru.WorkloadID]string
	verdicts map[string]maru.Verdict // of the judge, by service
	changed  chan struct{}           // closed at the next change, if anybody waits for it

	deciding sync.Mutex // held from looking at the app until what follows is stored
}

func newApp(scope maru.Scope) *app {
	return &app{
		scope:    scope,
		services: map[string]maru.ServiceState{},
		releases: map[string]map[int]maru.Release{},
		history:  map[int]maru.Rollout{},
		observed: map[string]map[string]maru.Observation{},
		asked:    map[maru.WorkloadID]int{},
		refused:  map[maru.WorkloadID]string{},
	}
}

// with gives a copy of m that has the value.
func with[K comparable, V any](m map[K]V, key K, v V) map[K]V {
	c := make(map[K]V, len(m)+1)
	maps.Copy(c, m)
	c[key] = v
	return c
}

// without gives a copy of m that has not the key.
func without[K comparable, V any](m map[K]V, key K) map[K]V {
	c := maps.Clone(m)
	delete(c, key)
	return c
}

func (a *app) exists() bool { return a.spec != nil || len(a.services) > 0 || len(a.observed) > 0 }

// state copies what is known, as a planner takes it.
func (a *app) state() plan.AppState {
	s := plan.AppState{
		Scope: a.scope, Spec: a.spec,
		Services: maps.Clone(a.services), Releases: maps.Clone(a.releases),
		Rollout: a.newest, History: maps.Clone(a.history),
		Observed: make(map[maru.WorkloadID]maru.Observation, len(a.services)),
		Asked:    maps.Clone(a.asked), Refused: maps.Clone(a.refused),
		Verdicts: a.verdicts,
	}
	for _, workloads := range a.observed {
		for _, o := range workloads {
			s.Observed[o.Workload] = o
		}
	}
	return s
}

// view gives what one service's traffic depends on.
func (a *app) view(service string) (plan.ServiceView, bool) {
	st, ok := a.services[service]
	return plan.ServiceView{State: st, Releases: a.releases[service], Observed: a.observed[service]}, ok
}

func (a *app) observe(o maru.Observation) {
	name := o.Workload.Service
	if o.Gone {
		delete(a.asked, o.Workload)
		a.observed[name] = without(a.observed[name], o.Workload.Name)
		if len(a.observed[name]) == 0 {
			delete(a.observed, name)
		}
		return
	}
	a.observed[name] = with(a.observed[name], o.Workload.Name, o)
}

func (a *app) putRelease(r maru.Release) {
	a.releases[r.Service.Service] = with(a.releases[r.Service.Service], r.Number, r)
}

func (a *app) deleteRelease(service string, number int) {
	a.releases[service] = without(a.releases[service], number)
	if len(a.releases[service]) == 0 {
		delete(a.releases, service)
	}
}

func (a *app) putRollout(r maru.Rollout) {
	a.history[r.Number] = r
	a.findNewest()
}

func (a *app) deleteRollout(number int) {
	delete(a.history, number)
	a.findNewest()
}

func (a *app) findNewest() {
	a.newest = nil
	if len(a.history) > 0 {
		r := a.history[slices.Max(slices.Collect(maps.Keys(a.history)))]
		a.newest = &r
	}
}

// tell wakes who waits for a change of the app.
func (a *app) tell() {
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

func (a *app) wait() <-chan struct{} {
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.changed
}
