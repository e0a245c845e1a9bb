package memory

import (
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// watcher is one who is told of changes. It holds which workloads changed, not how, so that a slow
// one costs no more than there are workloads.
type watcher struct {
	replay []maru.WorkloadID // yet to be told of what there was
	synced bool
	dirty  []maru.WorkloadID
	queued map[maru.WorkloadID]bool // in dirty
	more   chan struct{}
	end    error
}

func (w *watcher) poke() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (e *Engine) subscribe() (*watcher, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away != nil {
		return nil, e.away
	}
	w := &watcher{queued: map[maru.WorkloadID]bool{}, more: make(chan struct{}, 1)}
	w.replay = make([]maru.WorkloadID, 0, len(e.workloads))
	for id := range e.workloads {
		w.replay = append(w.replay, id)
	}
	slices.SortFunc(w.replay, func(a, b maru.WorkloadID) int { return strings.Compare(a.String(), b.String()) })
	e.watchers[w] = true
	return w, nil
}

func (e *Engine) unsubscribe(w *watcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.watchers, w)
}

// tell has all watchers look at the workload again.
func (e *Engine) tell(id maru.WorkloadID) {
	for w := range e.watchers {
		if !w.queued[id] {
			w.queued[id] = true
			w.dirty = append(w.dirty, id)
		}
		w.poke()
	}
}

// next is what a watcher is to be told next; ok is false when there is nothing yet.
func (e *Engine) next(w *watcher) (o maru.Observation, ok bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case w.end != nil:
		return o, false, w.end
	case len(w.replay) > 0:
		id := w.replay[0]
		w.replay = w.replay[1:]
		return e.observation(id), true, nil
	case !w.synced:
		w.synced, w.replay = true, nil
		return maru.Observation{Synced: true}, true, nil
	case len(w.dirty) > 0:
		id := w.dirty[0]
		w.dirty = w.dirty[1:]
		if len(w.dirty) == 0 {
			w.dirty = nil
		}
		delete(w.queued, id)
		return e.observation(id), true, nil
	}
	return o, false, nil
}

// observation is the present state of a workload. It is made once for all watchers.
func (e *Engine) observation(id maru.WorkloadID) maru.Observation {
	w, there := e.workloads[id]
	if !there {
		return maru.Observation{Workload: id, Gone: true}
	}
	if w.seen.Workload == id {
		return w.seen
	}
	o := maru.Observation{Workload: id, Wanted: w.spec.Replicas, Instances: make([]maru.Instance, len(w.instances))}
	if w.removed {
		o.Wanted = 0
	}
	for k, i := range w.instances {
		o.Instances[k] = i.observe()
	}
	w.seen = o
	return o
}

func (i *instance) observe() maru.Instance {
	out := maru.Instance{
		ID: i.facts.ID, Addresses: i.addresses, Phase: i.phase, Attempt: i.attempt, Created: i.facts.Created,
		Started: i.started, ReadySince: i.readyFrom, NextStart: i.nextStart, LastExit: i.lastExit, Message: i.message,
	}
	if i.running() {
		out.Ready = i.facts.Ready && i.phase == maru.PhaseRunning
	}
	if i.facts.WasReady && i.running() {
		out.Protocols = i.behaviour.Protocols
	}
	return out
}
