package local

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/marucloud/maru"
)

// hub keeps the newest observation of each workload and tells watchers what changed. A watcher that
// is slow skips states in between.
type hub struct {
	mu       sync.Mutex
	newest   map[maru.WorkloadID]maru.Observation
	watchers map[*watcher]bool
	closed   bool
}

// watcher is one Watch. Its fields are guarded by the hub's lock.
type watcher struct {
	changed map[maru.WorkloadID]maru.Observation // since it last looked
	wake    chan struct{}
}

func newHub() *hub {
	return &hub{newest: make(map[maru.WorkloadID]maru.Observation), watchers: make(map[*watcher]bool)}
}

// publish makes o the newest state of its workload. The hub owns o from then on.
func (h *hub) publish(o maru.Observation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o.Gone {
		delete(h.newest, o.Workload)
	} else {
		h.newest[o.Workload] = o
	}
	for w := range h.watchers {
		w.changed[o.Workload] = o
		w.notify()
	}
}

// close ends all watches.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		w.notify()
	}
}

func (w *watcher) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// subscribe gives all that there is, sorted, and a watcher of what comes after.
func (h *hub) subscribe() ([]maru.Observation, *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &watcher{changed: make(map[maru.WorkloadID]maru.Observation), wake: make(chan struct{}, 1)}
	h.watchers[w] = true
	all := make([]maru.Observation, 0, len(h.newest))
	for _, o := range h.newest {
		all = append(all, o)
	}
	sortObservations(all)
	return all, w
}

func (h *hub) unsubscribe(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

// take gives what changed since the last time, and whether the hub is closed.
func (h *hub) take(w *watcher) (changed []maru.Observation, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range w.changed {
		changed = append(changed, o)
	}
	clear(w.changed)
	sortObservations(changed)
	return changed, h.closed
}

func sortObservations(all []maru.Observation) {
	slices.SortFunc(all, func(a, b maru.Observation) int {
		return strings.Compare(a.Workload.String(), b.Workload.String())
	})
}

// Watch implements [maru.Engine].
func (e *Engine) Watch(ctx context.Context) iter.Seq2[maru.Observation, error] {
	return func(yield func(maru.Observation, error) bool) {
		if err := e.await(ctx); err != nil {
			yield(maru.Observation{}, err)
			return
		}
		all, w := e.hub.subscribe()
		defer e.hub.unsubscribe(w)
		for _, o := range append(all, maru.Observation{Synced: true}) {
			if !yield(o, nil) {
				return
			}
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.wake:
			}
			changed, closed := e.hub.take(w)
			for _, o := range changed {
				if !yield(o, nil) {
					return
				}
			}
			if closed {
				yield(maru.Observation{}, errStopped)
				return
			}
		}
	}
}
