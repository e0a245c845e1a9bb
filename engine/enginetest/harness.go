package enginetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

var scope = maru.Scope{Project: "enginetest", Environment: "test", App: "suite"}

// harness watches an engine and waits for what it tells.
type harness struct {
	*testing.T
	Fixture
	ctx context.Context

	mu      sync.Mutex
	applied map[maru.WorkloadID]bool // also those that the watcher has not seen yet
	seen    map[maru.WorkloadID]maru.Observation
	past    map[maru.WorkloadID][]maru.Observation
	synced  bool
	changed chan struct{}
	stop    context.CancelFunc
	done    chan struct{}
}

func newHarness(t *testing.T, f Fixture) *harness {
	t.Helper()
	if f.Patience == 0 {
		f.Patience = 20 * time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &harness{T: t, Fixture: f, ctx: ctx, applied: map[maru.WorkloadID]bool{}}
	t.Cleanup(func() {
		cancel()
		<-h.done
	})
	h.watch()
	h.until("the watch is synced", func() bool { return h.synced })
	return h
}

// watch begins to watch the engine afresh.
func (h *harness) watch() {
	ctx, stop := context.WithCancel(h.ctx)
	done := make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen, h.past = map[maru.WorkloadID]maru.Observation{}, map[maru.WorkloadID][]maru.Observation{}
	h.synced, h.changed, h.stop, h.done = false, make(chan struct{}), stop, done
	go func() {
		defer close(done)
		for o, err := range h.Engine.Watch(ctx) {
			if err != nil {
				return
			}
			h.take(o)
		}
	}()
}

func (h *harness) take(o maru.Observation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case o.Synced:
		h.synced = true
	case o.Gone:
		delete(h.seen, o.Workload)
	default:
		h.seen[o.Workload] = o
	}
	h.past[o.Workload] = append(h.past[o.Workload], o)
	close(h.changed)
	h.changed = make(chan struct{})
}

// until waits for a condition, which is asked with the lock held.
func (h *harness) until(what string, condition func() bool) {
	h.Helper()
	deadline := time.NewTimer(h.Patience)
	defer deadline.Stop()
	for {
		h.mu.Lock()
		ok, changed := condition(), h.changed
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			h.mu.Lock()
			defer h.mu.Unlock()
			h.Fatalf("waited %s until %s; seen:\n%s", h.Patience, what, h.describe())
		}
	}
}

func (h *harness) describe() string {
	var b strings.Builder
	for _, id := range slices.SortedFunc(maps.Keys(h.seen), func(a, b maru.WorkloadID) int { return strings.Compare(a.String(), b.String()) }) {
		fmt.Fprintf(&b, "%s: wanted %d\n", id, h.seen[id].Wanted)
		for _, i := range h.seen[id].Instances {
			fmt.Fprintf(&b, "  %s\n", maru.Raw(i))
		}
	}
	return b.String()
}

// look gives the last observation of a workload.
func (h *harness) look(id maru.WorkloadID) maru.Observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen[id]
}

// all gives every observation of a workload so far.
func (h *harness) all(id maru.WorkloadID) []maru.Observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.past[id])
}

// workload is one of the suite's app, serving on Port unless changed.
func (h *harness) workload(service, name string, b Behaviour, change ...func(*maru.Workload)) maru.Workload {
	network := maru.NetworkID{Scope: scope, Network: "default"}
	w := maru.Workload{
		ID:       scope.Service(service).Workload(name),
		Kind:     maru.LongRunning,
		Image:    h.Image(b),
		Replicas: 1,
		Container: maru.Container{
			Restart: maru.Restart{Policy: maru.RestartAlways, Delay: 100 * time.Millisecond},
			Stop:    maru.Stop{Grace: 10 * time.Second, Drain: 100 * time.Millisecond},
		},
		Networks: []maru.NetworkID{network},
		Aliases:  map[string][]string{network.String(): {service}},
		Ports:    []maru.Port{{Port: Port, Protocol: maru.TCP, App: "tcp"}},
	}
	for _, c := range change {
		c(&w)
	}
	return w
}

func replicas(n int) func(*maru.Workload) { return func(w *maru.Workload) { w.Replicas = n } }

func job(w *maru.Workload) {
	w.Kind = maru.Job
	w.Ports = nil
	w.Container.Restart = maru.Restart{Policy: maru.RestartNever}
}

func mount(readOnly bool) func(*maru.Workload) {
	return func(w *maru.Workload) {
		w.Container.Mounts = []maru.Mount{{Kind: maru.VolumeMount, Source: "data", Target: "/data", ReadOnly: readOnly}}
		w.Volumes = map[string]maru.VolumeID{"data": {Scope: scope, Volume: "data"}}
	}
}

func (h *harness) apply(w maru.Workload) {
	h.Helper()
	h.mu.Lock()
	h.applied[w.ID] = true
	h.mu.Unlock()
	if err := h.Engine.Apply(h.ctx, w); err != nil {
		h.Fatalf("apply %s: %v", w.ID, err)
	}
}

func (h *harness) remove(id maru.WorkloadID) {
	h.Helper()
	if err := h.Engine.Remove(h.ctx, id); err != nil {
		h.Fatalf("remove %s: %v", id, err)
	}
}

// ready waits until n instances of the workload are ready and no others are there.
func (h *harness) ready(id maru.WorkloadID, n int) maru.Observation {
	h.Helper()
	return h.observed(id, strconv.Itoa(n)+" instances are ready", func(o maru.Observation) bool {
		return len(o.Instances) == n && every(o, func(i maru.Instance) bool { return i.Ready && i.Phase == maru.PhaseRunning })
	})
}

// observed waits for an observation of the workload, which is one that is there.
func (h *harness) observed(id maru.WorkloadID, what string, like func(maru.Observation) bool) (found maru.Observation) {
	h.Helper()
	h.until(id.Service+"/"+id.Name+": "+what, func() bool {
		o, there := h.seen[id]
		found = o
		return there && like(o)
	})
	return found
}

// gone waits until the engine has said so.
func (h *harness) gone(id maru.WorkloadID) {
	h.Helper()
	h.until(id.String()+" is gone", func() bool {
		past := h.past[id]
		return len(past) > 0 && past[len(past)-1].Gone
	})
}

func every(o maru.Observation, ok func(maru.Instance) bool) bool {
	return !slices.ContainsFunc(o.Instances, func(i maru.Instance) bool { return !ok(i) })
}

func phase(p maru.Phase) func(maru.Observation) bool {
	return func(o maru.Observation) bool {
		return len(o.Instances) > 0 && every(o, func(i maru.Instance) bool { return i.Phase == p })
	}
}

func names(o maru.Observation) []string {
	var out []string
	for _, i := range o.Instances {
		out = append(out, i.ID)
	}
	return out
}

// removeAll leaves the engine empty.
func (h *harness) removeAll() {
	h.mu.Lock()
	for id := range h.seen {
		h.applied[id] = true
	}
	ids := slices.Collect(maps.Keys(h.applied))
	h.mu.Unlock()
	drainer, _ := h.Engine.(maru.Drainer)
	for _, id := range ids {
		h.remove(id)
		if drainer == nil {
			continue
		}
		for _, i := range h.look(id).Instances {
			if err := drainer.Drained(h.ctx, i.ID); err != nil {
				h.Errorf("drained %s: %v", i.ID, err)
			}
		}
	}
	h.until("all is gone", func() bool { return len(h.seen) == 0 })
	if h.Leftover != nil {
		if left := h.Leftover(h.T); len(left) > 0 {
			h.Errorf("left on the machine: %s", strings.Join(left, ", "))
		}
	}
}
