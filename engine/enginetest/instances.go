package enginetest

import (
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

func ready(h *harness) {
	w := h.workload("web", "1", Serve, replicas(3))
	h.apply(w)
	o := h.ready(w.ID, 3)
	if !slices.IsSortedFunc(o.Instances, func(a, b maru.Instance) int { return strings.Compare(a.ID, b.ID) }) {
		h.Errorf("not sorted: %v", names(o))
	}
	addresses := map[maru.Addresses]bool{}
	for _, i := range o.Instances {
		addresses[i.Addresses] = true
		switch {
		case !strings.HasPrefix(i.ID, "web-1-"):
			h.Errorf("%s is no name for an instance of web's release 1", i.ID)
		case !i.Addresses.V4.Is4():
			h.Errorf("%s has no address: %+v", i.ID, i.Addresses)
		case i.Attempt != 1 || i.Message != "" || i.LastExit != nil:
			h.Errorf("unexpected: %+v", i)
		case i.Created.IsZero() || i.Started.Before(i.Created) || i.ReadySince.Before(i.Started):
			h.Errorf("%s was created %s, started %s, ready %s", i.ID, i.Created, i.Started, i.ReadySince)
		}
	}
	if len(addresses) != 3 {
		h.Errorf("three instances have %d addresses", len(addresses))
	}
}

func notReady(h *harness) {
	w := h.workload("web", "1", Idle)
	h.apply(w)
	o := h.observed(w.ID, "it runs and says why it is not ready", func(o maru.Observation) bool {
		return phase(maru.PhaseRunning)(o) && o.Instances[0].Message != ""
	})
	if o.Instances[0].Ready || !o.Instances[0].ReadySince.IsZero() {
		h.Errorf("ready: %+v", o.Instances[0])
	}
}

func crashRestartsInPlace(h *harness) {
	w := h.workload("web", "1", CrashAfterReady)
	h.apply(w)
	first := h.ready(w.ID, 1).Instances[0]
	o := h.observed(w.ID, "it is ready in a later attempt", func(o maru.Observation) bool {
		return len(o.Instances) == 1 && o.Instances[0].Attempt > first.Attempt && o.Instances[0].Ready
	})
	again := o.Instances[0]
	if again.ID != first.ID || again.Addresses != first.Addresses || !again.Created.Equal(first.Created) {
		h.Errorf("%s at %v became %s at %v", first.ID, first.Addresses, again.ID, again.Addresses)
	}
	if again.LastExit == nil || again.LastExit.Code != 3 || again.LastExit.At.IsZero() {
		h.Errorf("last exit %+v, want code 3", again.LastExit)
	}
	if !again.Started.After(first.Started) {
		h.Errorf("started %s, before that %s", again.Started, first.Started)
	}
}

func killedRestartsAtOnce(h *harness) {
	if h.Crash == nil {
		h.Skip("the fixture can't kill")
	}
	w := h.workload("web", "1", Serve, replicas(2), func(w *maru.Workload) { w.Container.Restart.Delay = time.Minute })
	h.apply(w)
	before := h.ready(w.ID, 2)
	victim := before.Instances[0].ID
	h.Crash(h.T, victim)
	o := h.observed(w.ID, "the one that was killed is back", func(o maru.Observation) bool {
		return len(o.Instances) == 2 && o.Instances[0].Attempt == 2 && o.Instances[0].Ready
	})
	switch exit := o.Instances[0].LastExit; {
	case o.Instances[0].ID != victim || o.Instances[1].Attempt != 1:
		h.Errorf("after %s was killed: %v", victim, names(o))
	case exit == nil || exit.Signal == "" && exit.Code != 137:
		h.Errorf("last exit %+v, want SIGKILL", exit)
	}
}

func backoff(h *harness) {
	w := h.workload("web", "1", Fail, func(w *maru.Workload) { w.Container.Restart.Delay = time.Second })
	h.apply(w)
	o := h.observed(w.ID, "it waits before its third start", func(o maru.Observation) bool {
		return phase(maru.PhaseBackoff)(o) && o.Instances[0].Attempt == 2
	})
	i := o.Instances[0]
	switch {
	case i.LastExit == nil || i.LastExit.Code != 7 || i.Ready:
		h.Errorf("unexpected: %+v", i)
	case i.NextStart.Sub(i.LastExit.At) < 500*time.Millisecond || i.NextStart.Sub(i.LastExit.At) > 2*time.Second:
		h.Errorf("it starts %s after its end, want about 1s", i.NextStart.Sub(i.LastExit.At))
	case !slices.ContainsFunc(i.LastExit.LastLines, func(l string) bool { return strings.Contains(l, "cannot go on") }):
		h.Errorf("last lines %q", i.LastExit.LastLines)
	}
	h.observed(w.ID, "it waits before its fourth start", func(o maru.Observation) bool {
		return phase(maru.PhaseBackoff)(o) && o.Instances[0].Attempt == 3
	})
}

func restartPolicies(h *harness) {
	for _, c := range []struct {
		name     string
		b        Behaviour
		restart  maru.Restart
		end      maru.Phase
		attempts int
	}{
		{"never", Fail, maru.Restart{Policy: maru.RestartNever}, maru.PhaseFailed, 1},
		{"twice", Fail, maru.Restart{Policy: maru.RestartOnFailure, Attempts: 2, Delay: 50 * time.Millisecond}, maru.PhaseFailed, 3},
		{"well", Succeed, maru.Restart{Policy: maru.RestartOnFailure}, maru.PhaseDone, 1},
		{"always", Succeed, maru.Restart{Policy: maru.RestartAlways, Delay: time.Minute}, maru.PhaseBackoff, 2},
	} {
		w := h.workload(c.name, "1", c.b, func(w *maru.Workload) { w.Container.Restart = c.restart; w.Ports = nil })
		h.apply(w)
		o := h.observed(w.ID, "it comes to its end, "+string(c.end), phase(c.end))
		if got := o.Instances[0].Attempt; got != c.attempts {
			h.Errorf("%s: %d attempts, want %d", c.name, got, c.attempts)
		}
	}
}

func jobSucceeds(h *harness) {
	w := h.workload("job", "1", Succeed, job)
	h.apply(w)
	o := h.observed(w.ID, "it is done", phase(maru.PhaseDone))
	if i := o.Instances[0]; i.Attempt != 1 || i.LastExit == nil || i.LastExit.Code != 0 {
		h.Errorf("unexpected: %+v", i)
	}
	h.apply(w)
	other := h.workload("other", "1", Succeed, job, replicas(3))
	h.apply(other)
	h.observed(other.ID, "all three are done", func(o maru.Observation) bool { return len(o.Instances) == 3 && phase(maru.PhaseDone)(o) })
	if again := h.look(w.ID); again.Instances[0].Attempt != 1 || again.Instances[0].ID != o.Instances[0].ID {
		h.Errorf("it ran again: %+v", again)
	}
}

func jobFails(h *harness) {
	w := h.workload("job", "1.release", Fail, job)
	h.apply(w)
	o := h.observed(w.ID, "it has failed", phase(maru.PhaseFailed))
	if i := o.Instances[0]; i.Attempt != 1 || i.LastExit == nil || i.LastExit.Code != 7 {
		h.Errorf("unexpected: %+v", i)
	}
}

func drainUntilDrained(h *harness) {
	drainer, ok := h.Engine.(maru.Drainer)
	if !ok {
		h.Skip("no Drainer")
	}
	w := h.workload("web", "1", Serve, replicas(2), func(w *maru.Workload) { w.Container.Stop.Drain = 10 * h.Patience })
	h.apply(w)
	before := h.ready(w.ID, 2)
	w.Replicas = 1
	h.apply(w)
	o := h.observed(w.ID, "one drains", func(o maru.Observation) bool {
		return len(o.Instances) == 2 && !every(o, func(i maru.Instance) bool { return i.Phase != maru.PhaseDraining })
	})
	going, staying := o.Instances[0], o.Instances[1]
	if going.Phase != maru.PhaseDraining {
		going, staying = staying, going
	}
	if err := drainer.Drained(h.ctx, staying.ID); err != nil {
		h.Errorf("drained, of one that stays: %v", err)
	}
	if err := drainer.Drained(h.ctx, "web-1-unknown"); err != nil && maru.KindOf(err) != maru.NotFound {
		h.Errorf("drained, of one that is not there: %v", err)
	}
	for range 2 {
		if err := drainer.Drained(h.ctx, going.ID); err != nil && maru.KindOf(err) != maru.NotFound {
			h.Errorf("drained %s: %v", going.ID, err)
		}
	}
	one := h.ready(w.ID, 1)
	if one.Instances[0].ID != staying.ID || len(before.Instances) != 2 {
		h.Errorf("%s stayed, want %s", one.Instances[0].ID, staying.ID)
	}
}

func drainTimeIsUp(h *harness) {
	const drain = time.Second
	w := h.workload("web", "1", Serve, func(w *maru.Workload) { w.Container.Stop.Drain = drain })
	h.apply(w)
	h.ready(w.ID, 1)
	begin := time.Now()
	h.remove(w.ID)
	h.observed(w.ID, "it drains", phase(maru.PhaseDraining))
	h.gone(w.ID)
	if took := time.Since(begin); took < drain {
		h.Errorf("gone after %s, before its drain time of %s was up", took, drain)
	}
}

func neverReadyDoesNotDrain(h *harness) {
	w := h.workload("web", "1", Idle, func(w *maru.Workload) { w.Container.Stop.Drain = 10 * h.Patience })
	h.apply(w)
	h.observed(w.ID, "it runs", phase(maru.PhaseRunning))
	h.remove(w.ID)
	h.gone(w.ID)
}

func graceIsUp(h *harness) {
	const grace = time.Second
	w := h.workload("web", "1", Stubborn, func(w *maru.Workload) {
		w.Container.Stop = maru.Stop{Grace: grace, Drain: time.Millisecond}
	})
	h.apply(w)
	h.ready(w.ID, 1)
	begin := time.Now()
	h.remove(w.ID)
	h.gone(w.ID)
	if took := time.Since(begin); took < grace {
		h.Errorf("gone after %s, before its grace time of %s was up", took, grace)
	}
}
