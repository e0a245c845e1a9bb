package enginetest

import (
	"slices"

	"github.com/marucloud/maru"
)

func volumeHasOneWriter(h *harness) {
	one := h.workload("db", "1", Serve, mount(false))
	two := h.workload("db", "2", Serve, mount(false))
	h.apply(one)
	holder := h.ready(one.ID, 1).Instances[0].ID
	h.apply(two)
	o := h.observed(two.ID, "it waits for the volume, and says so", func(o maru.Observation) bool {
		return phase(maru.PhasePending)(o) && o.Instances[0].Message != ""
	})
	if len(o.Instances) != 1 {
		h.Errorf("waiting: %+v", o)
	}
	if now := h.ready(one.ID, 1); now.Instances[0].ID != holder || now.Instances[0].Attempt != 1 {
		h.Errorf("the holder was disturbed: %+v", now)
	}
	h.remove(one.ID)
	h.ready(two.ID, 1)
	h.mu.Lock()
	left := h.seen[one.ID].Instances
	h.mu.Unlock()
	if slices.ContainsFunc(left, func(i maru.Instance) bool { return i.Phase == maru.PhaseRunning }) {
		h.Errorf("both run: %+v", left)
	}
	h.gone(one.ID)
}

func volumeIsShared(h *harness) {
	writer := h.workload("db", "1", Serve, mount(false), replicas(2))
	h.apply(writer)
	h.ready(writer.ID, 2)
	reader := h.workload("db", "2", Serve, mount(true))
	h.apply(reader)
	h.ready(reader.ID, 1)
	other := h.workload("other", "1", Serve, mount(false))
	h.apply(other)
	h.ready(other.ID, 1)
	step := h.workload("db", "2.release", Succeed, job, mount(false))
	h.apply(step)
	h.observed(step.ID, "a job beside it is done", phase(maru.PhaseDone))
}
