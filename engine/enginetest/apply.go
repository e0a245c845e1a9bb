package enginetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

func applyIsIdempotent(h *harness) {
	w := h.workload("web", "1", Serve, replicas(2))
	h.apply(w)
	before := h.ready(w.ID, 2)
	h.apply(w)
	h.apply(w)
	other := h.workload("other", "1", Serve)
	h.apply(other)
	h.ready(other.ID, 1)
	if after := h.look(w.ID); !slices.Equal(names(before), names(after)) || after.Instances[0].Attempt != 1 {
		h.Errorf("applying it again made %v of %v", names(after), names(before))
	}
	if before.Wanted != 2 {
		h.Errorf("wanted is %d", before.Wanted)
	}
}

func workloadsAreImmutable(h *harness) {
	w := h.workload("web", "1", Serve)
	h.apply(w)
	before := h.ready(w.ID, 1)
	for what, change := range map[string]func(*maru.Workload){
		"environment": func(w *maru.Workload) { w.Container.Env = map[string]string{"A": "b"} },
		"image":       func(w *maru.Workload) { w.Image = h.Image(Stubborn) },
		"files":       func(w *maru.Workload) { w.Files = []maru.File{{Path: "/etc/x", Mode: 0o444, Data: []byte("x")}} },
	} {
		changed := h.workload("web", "1", Serve, replicas(3), change)
		if err := h.Engine.Apply(h.ctx, changed); maru.KindOf(err) != maru.Conflict {
			h.Errorf("another %s: %v, want a conflict", what, err)
		}
	}
	other := h.workload("other", "1", Serve)
	h.apply(other)
	h.ready(other.ID, 1)
	if after := h.look(w.ID); !slices.Equal(names(before), names(after)) {
		h.Errorf("refused changes made %v of %v", names(after), names(before))
	}
}

func missingImage(h *harness) {
	w := h.workload("web", "1", Serve)
	w.Image = h.Missing
	if err := h.Engine.Apply(h.ctx, w); maru.KindOf(err) != maru.NotFound {
		h.Errorf("apply with a missing image: %v, want not found", err)
	}
	other := h.workload("other", "1", Serve)
	h.apply(other)
	h.ready(other.ID, 1)
	if past := h.all(w.ID); len(past) > 0 {
		h.Errorf("what was refused is there: %+v", past)
	}
}

func scale(h *harness) {
	w := h.workload("web", "1", Serve, replicas(2))
	h.apply(w)
	two := h.ready(w.ID, 2)
	w.Replicas = 4
	h.apply(w)
	four := h.ready(w.ID, 4)
	for _, id := range names(two) {
		if !slices.Contains(names(four), id) {
			h.Errorf("%s did not outlive scaling up", id)
		}
	}
	w.Replicas = 1
	h.apply(w)
	one := h.ready(w.ID, 1)
	if !slices.Contains(names(four), one.Instances[0].ID) || one.Instances[0].Attempt != 1 {
		h.Errorf("scaling down left %+v", one.Instances[0])
	}
	w.Replicas = 0
	h.apply(w)
	h.observed(w.ID, "no instance is there", func(o maru.Observation) bool { return o.Wanted == 0 && len(o.Instances) == 0 })
	w.Replicas = 1
	h.apply(w)
	h.ready(w.ID, 1)
}

func removeAndGone(h *harness) {
	w := h.workload("web", "1", Serve, replicas(2))
	h.remove(w.ID)
	h.apply(w)
	h.ready(w.ID, 2)
	h.remove(w.ID)
	h.remove(w.ID)
	h.gone(w.ID)
	past := h.all(w.ID)
	for k, o := range past {
		if o.Gone && (k != len(past)-1 || len(o.Instances) > 0) {
			h.Errorf("observation %d of %d says gone: %+v", k+1, len(past), o)
		}
	}
	if o := past[max(0, len(past)-2)]; !o.Gone && o.Wanted != 0 {
		h.Errorf("while it was being removed, wanted was %d", o.Wanted)
	}
	h.remove(w.ID)
	w.Container.Env = map[string]string{"ANOTHER": "one"}
	h.apply(w)
	if o := h.ready(w.ID, 2); o.Instances[0].Attempt != 1 {
		h.Errorf("after it was gone it is not new: %+v", o)
	}
}

func applyWhileRemoved(h *harness) {
	w := h.workload("web", "1", Serve, func(w *maru.Workload) { w.Container.Stop.Drain = 2 * time.Second })
	h.apply(w)
	h.ready(w.ID, 1)
	h.remove(w.ID)
	h.observed(w.ID, "it drains", phase(maru.PhaseDraining))
	h.apply(w)
	h.observed(w.ID, "it is wanted again", func(o maru.Observation) bool { return o.Wanted == 1 })
	h.ready(w.ID, 1)
}

// concurrent has many callers at once.
func concurrent(h *harness) {
	const services, rounds = 6, 3
	var wg sync.WaitGroup
	for k := range services {
		wg.Go(func() {
			for round := range rounds {
				for _, n := range []int{1, 3, 2} {
					w := h.workload(fmt.Sprintf("s%d", k), fmt.Sprint(round+1), Serve, replicas(n))
					if err := h.Engine.Apply(h.ctx, w); err != nil {
						h.Errorf("apply %s: %v", w.ID, err)
					}
				}
				if round > 0 {
					if err := h.Engine.Remove(h.ctx, scope.Service(fmt.Sprintf("s%d", k)).Workload(fmt.Sprint(round))); err != nil {
						h.Errorf("remove: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	ids := map[string]bool{}
	addresses := map[maru.Addresses]bool{}
	for k := range services {
		id := scope.Service(fmt.Sprintf("s%d", k))
		h.gone(id.Workload("1"))
		h.gone(id.Workload("2"))
		for _, i := range h.ready(id.Workload("3"), 2).Instances {
			ids[i.ID], addresses[i.Addresses] = true, true
		}
	}
	if len(ids) != 2*services || len(addresses) != 2*services {
		h.Errorf("%d names and %d addresses for %d instances", len(ids), len(addresses), 2*services)
	}
}
