package enginetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

// collect watches until stop says so, and gives what it saw last of each workload.
func collect(t *testing.T, ctx context.Context, e maru.Engine, stop func(maru.Observation, map[maru.WorkloadID]maru.Observation) bool) map[maru.WorkloadID]maru.Observation {
	t.Helper()
	last := map[maru.WorkloadID]maru.Observation{}
	for o, err := range e.Watch(ctx) {
		if err != nil {
			t.Errorf("watch: %v", err)
			break
		}
		switch {
		case o.Synced:
		case o.Gone:
			delete(last, o.Workload)
		default:
			last[o.Workload] = o
		}
		if stop(o, last) {
			break
		}
	}
	return last
}

func synced(o maru.Observation, _ map[maru.WorkloadID]maru.Observation) bool { return o.Synced }

func watchReplays(h *harness) {
	a, b := h.workload("a", "1", Serve, replicas(2)), h.workload("b", "1", Idle)
	gone := h.workload("gone", "1", Serve)
	for _, w := range []maru.Workload{a, b, gone} {
		h.apply(w)
	}
	ready := h.ready(a.ID, 2)
	h.ready(gone.ID, 1)
	h.remove(gone.ID)
	h.gone(gone.ID)
	ctx, cancel := context.WithTimeout(h.ctx, h.Patience)
	defer cancel()
	got := collect(h.T, ctx, h.Engine, synced)
	if len(got) != 2 || !slices.Equal(names(got[a.ID]), names(ready)) || !got[a.ID].Instances[0].Ready {
		h.Errorf("replayed %+v", got)
	}
}

func watchersAgree(h *harness) {
	ctx, cancel := context.WithTimeout(h.ctx, 2*h.Patience)
	defer cancel()
	results := make(chan map[maru.WorkloadID]maru.Observation, 3)
	end := h.workload("end", "1", Succeed, job)
	isEnd := func(o maru.Observation, _ map[maru.WorkloadID]maru.Observation) bool {
		return o.Workload == end.ID && phase(maru.PhaseDone)(o)
	}
	for range cap(results) {
		go func() { results <- collect(h.T, ctx, h.Engine, isEnd) }()
	}
	a, b := h.workload("a", "1", Serve), h.workload("b", "1", Serve)
	h.apply(a)
	h.apply(b)
	h.ready(a.ID, 1)
	h.ready(b.ID, 1)
	a.Replicas = 2
	h.apply(a)
	h.remove(b.ID)
	h.gone(b.ID)
	want := h.ready(a.ID, 2)
	h.apply(end)
	for range cap(results) {
		got := <-results
		if _, there := got[b.ID]; there || !slices.Equal(names(got[a.ID]), names(want)) {
			h.Errorf("a watcher saw last %v", slices.Collect(maps.Keys(got)))
		}
	}
}

// slowWatcher stands still while much happens.
func slowWatcher(h *harness) {
	ctx, cancel := context.WithTimeout(h.ctx, 3*h.Patience)
	defer cancel()
	standing, goOn := make(chan struct{}), make(chan struct{})
	result := make(chan int, 1)
	a, b := h.workload("a", "1", Serve), h.workload("b", "1", Serve)
	go func() {
		seen, stood := 0, false
		collect(h.T, ctx, h.Engine, func(o maru.Observation, last map[maru.WorkloadID]maru.Observation) bool {
			if o.Synced && !stood {
				stood = true
				close(standing)
				<-goOn
			}
			seen++
			_, there := last[b.ID]
			n := last[a.ID]
			return !there && n.Wanted == 3 && len(n.Instances) == 3 && every(n, func(i maru.Instance) bool { return i.Ready })
		})
		result <- seen
	}()
	<-standing
	h.apply(b)
	h.ready(b.ID, 1)
	const rounds = 5
	for range rounds {
		for _, n := range []int{1, 3} {
			a.Replicas = n
			h.apply(a)
			h.ready(a.ID, n)
		}
	}
	h.remove(b.ID)
	h.gone(b.ID)
	close(goOn)
	if n := <-result; n > rounds*2 {
		h.Logf("a slow watcher was told %d times", n)
	}
}

func watchEndsWithContext(h *harness) {
	ctx, cancel := context.WithCancel(h.ctx)
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		var last error
		for o, err := range h.Engine.Watch(ctx) {
			last = err
			if o.Synced {
				close(ready)
			}
		}
		done <- last
	}()
	<-ready
	cancel()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, context.Canceled) && maru.KindOf(err) != maru.Interrupted {
			h.Errorf("it ended with %v", err)
		}
	case <-time.After(h.Patience):
		h.Error("it did not end with its context")
	}
}

// engineRestarts has the engine die and come back: what runs runs on, and is ready all the time.
func engineRestarts(h *harness) {
	if h.Restart == nil {
		h.Skip("the fixture can't restart")
	}
	web, done := h.workload("web", "1", Serve, replicas(2)), h.workload("job", "1", Succeed, job)
	going := h.workload("going", "1", Stubborn, func(w *maru.Workload) { w.Container.Stop.Grace = time.Second })
	for _, w := range []maru.Workload{web, done, going} {
		h.apply(w)
	}
	before := h.ready(web.ID, 2)
	h.ready(going.ID, 1)
	h.observed(done.ID, "it is done", phase(maru.PhaseDone))
	h.remove(going.ID)
	h.stop()
	<-h.done
	h.Engine = h.Restart(h.T)
	h.watch()
	h.until("the new watch is synced", func() bool { return h.synced })
	for _, o := range h.all(web.ID) {
		if !slices.Equal(names(o), names(before)) || o.Wanted != 2 ||
			!every(o, func(i maru.Instance) bool { return i.Ready && i.Attempt == 1 }) {
			h.Errorf("after the restart: %s", maru.Raw(o))
		}
	}
	if o := h.look(done.ID); !phase(maru.PhaseDone)(o) || o.Instances[0].Attempt != 1 {
		h.Errorf("the job after the restart: %s", maru.Raw(o))
	}
	h.until("what was removed is gone", func() bool { _, there := h.seen[going.ID]; return !there })
	web.Replicas = 3
	h.apply(web)
	after := h.ready(web.ID, 3)
	for _, id := range names(before) {
		if !slices.Contains(names(after), id) {
			h.Errorf("%s did not outlive the restart", id)
		}
	}
}
