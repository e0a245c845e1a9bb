package plan

import (
	"cmp"
	"maps"
	"slices"

	"github.com/marucloud/maru"
)

// Causes of rollouts.
const (
	CauseDeploy   = "deploy"
	CauseRollback = "rollback"
	CauseRestart  = "restart"
	CauseRemove   = "remove"
)

// goal is where a service is going, by what was decided so far.
type goal struct {
	state     maru.ServiceState
	release   int  // it will run, if nothing else is decided; 0: it is to go, or has none yet
	fresh     bool // that release has never run
	from      int  // the last release that is known to be good
	replicas  int  // wanted of from
	stopped   bool // from was stopped
	unsettled bool // it is not there yet
}

// goals are those of all services: what their states say, or what the newest rollout makes of it.
func (s AppState) goals() map[string]goal {
	out := make(map[string]goal, len(s.Services))
	leaving := s.leaving()
	for name, st := range s.Services {
		g := goal{state: st, release: st.Release, from: st.Release, replicas: st.Replicas, stopped: st.Stopped, unsettled: len(st.Serving) > 0 || slices.Contains(leaving, name)}
		if s.Rollout != nil {
			if e, ok := s.Rollout.Services[name]; ok {
				g.follow(e, s.Rollout.Phase)
			}
		}
		out[name] = g
	}
	return out
}

// follow takes into account what a rollout does or did to the service.
func (g *goal) follow(e maru.ServiceRollout, rollout maru.RolloutPhase) {
	switch {
	case rollout == maru.Failed && e.Phase == maru.Failed:
		g.unsettled = true
		if g.release == e.To {
			g.from, g.replicas, g.stopped = e.From, e.Replicas, e.Stopped
		}
	case rollout.Final() || e.Phase.Final() || e.Phase == maru.Draining:
	case e.Phase == maru.RollingBack:
		g.release, g.from, g.replicas, g.stopped, g.unsettled = e.From, e.From, e.Replicas, e.Stopped, true
	default:
		g.release, g.fresh, g.from, g.replicas, g.stopped, g.unsettled = e.To, e.Fresh, e.From, e.Replicas, e.Stopped, true
	}
}

// leaving are the services that the active rollout removes.
func (s AppState) leaving() []string {
	r := s.Rollout
	if r == nil || r.Phase.Final() || r.Phase == maru.RollingBack {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.Removed), func(name string) bool {
		_, there := s.Services[name]
		return !there
	})
}

// number is that of the next rollout.
func (s AppState) number() int {
	if s.Rollout == nil {
		return 1
	}
	return s.Rollout.Number + 1
}

func (s AppState) active() *maru.Rollout {
	if s.Rollout == nil || s.Rollout.Phase.Final() {
		return nil
	}
	return s.Rollout
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}
