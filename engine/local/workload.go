package local

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// lifetime is how long things may go on.
type lifetime struct {
	life context.Context // of the engine
	work context.Context // of actions: ends a while after life, so that they are not cut off half done
}

// workload is the actor of one workload: a goroutine that owns what is known of its instances.
type workload struct {
	e    *Engine
	id   maru.WorkloadID
	spec maru.Workload // as first applied; Replicas may have changed since
	log  *slog.Logger
	mail *mailbox

	// What is wanted, as kept on disk. The lock is held while it is being written.
	mu   sync.Mutex
	kept wantedWorkload
	gone bool // the actor has ended

	// Owned by the actor.
	want      maru.Workload
	removed   bool
	missing   bool // secrets
	instances map[string]*instance
	told      maru.Observation // last published
	actions   sync.WaitGroup
}

func newWorkload(e *Engine, kept wantedWorkload) *workload {
	return &workload{
		e: e, id: kept.Workload.ID, spec: kept.Workload, kept: kept, mail: newMailbox(),
		log:       e.log.With("workload", kept.Workload.ID.String()),
		want:      kept.Workload,
		removed:   kept.Removed,
		missing:   kept.missing,
		instances: make(map[string]*instance),
	}
}

// run is the actor. It ends when the workload is gone, or with the engine.
func (w *workload) run(t lifetime) {
	defer w.actions.Wait()
	w.adopted(t)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.life.Done():
			return
		case <-w.mail.arrived:
		case <-timer.C:
		}
		for _, message := range w.mail.take() {
			message()
		}
		next := w.decide(t)
		if w.removed && len(w.instances) == 0 && w.finish() {
			return
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// finish forgets the workload, unless it was applied again meanwhile.
func (w *workload) finish() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.kept.Removed {
		return false
	}
	if err := w.e.wanted.forget(w.id); err != nil {
		w.log.Error("forget workload", "error", err)
		return false
	}
	w.gone = true
	w.e.mu.Lock()
	defer w.e.mu.Unlock() // a workload of the same name that comes next is told of after this one's end
	delete(w.e.workloads, w.id)
	w.e.hub.publish(maru.Observation{Workload: w.id, Gone: true})
	return true
}

// decide asks what to do, starts it, and tells what is. It gives the time to decide again.
func (w *workload) decide(t lifetime) time.Time {
	const rounds = 4 // creating, draining and waiting for a volume change what there is to decide about
	var decision plan.InstancesPlan
	for range rounds {
		decision = plan.Instances(time.Now(), w.wanted(), w.facts(), w.e.seed)
		changed := false
		for _, action := range decision.Actions {
			changed = w.act(t, action) || changed
		}
		if !changed {
			break
		}
	}
	w.see(decision)
	if o := w.observe(); !reflect.DeepEqual(o, w.told) {
		w.told = o
		w.e.hub.publish(o)
	}
	return decision.Next
}

// see takes in what the decider says of the instances.
func (w *workload) see(decision plan.InstancesPlan) {
	for _, outlook := range decision.Outlook {
		inst := w.instances[outlook.ID]
		if inst == nil {
			continue
		}
		inst.phase, inst.nextStart = outlook.Phase, outlook.NextStart
		if inst.phase == maru.PhaseDone || inst.phase == maru.PhaseFailed {
			w.release(inst)
		}
	}
}

// announce tells what there is before the actor begins, so that nobody misses it who watches by then.
func (w *workload) announce() {
	w.see(plan.Instances(time.Now(), w.wanted(), w.facts(), w.e.seed))
	w.told = w.observe()
	w.e.hub.publish(w.told)
}

func (w *workload) wanted() plan.InstancesWanted {
	return plan.InstancesWanted{
		Kind: w.want.Kind, Replicas: w.want.Replicas, Removed: w.removed,
		Restart: w.want.Container.Restart, Stop: w.want.Container.Stop,
	}
}

func (w *workload) facts() []plan.InstanceFacts {
	facts := make([]plan.InstanceFacts, 0, len(w.instances))
	for _, inst := range w.instances {
		if inst.blocked = w.blocker(inst); inst.state == plan.InstanceRunning {
			inst.blocked = ""
		}
		facts = append(facts, inst.facts())
	}
	return facts
}

// blocker tells in words what keeps the instance from being started.
func (w *workload) blocker(inst *instance) string {
	if w.missing {
		return "waits for its secrets, which were lost with a restart of the machine, from the server"
	}
	if inst.rec.Holds || !inst.rec.Draining.IsZero() {
		return ""
	}
	for _, of := range claimed(w.want) {
		if holder := w.e.claims.wait(of, w); holder != "" {
			return "waits for volume " + of.volume.Volume + ", which " + holder + " holds"
		}
	}
	return ""
}

// act starts an action, and tells whether it changed what there is to decide about.
func (w *workload) act(t lifetime, action plan.InstanceAction) bool {
	inst := w.instances[action.Instance]
	switch action.Op {
	case plan.CreateInstance:
		w.create()
		return true
	case plan.StartInstance:
		return w.start(t, inst)
	case plan.DrainInstance:
		inst.rec.Draining = time.Now().UTC()
		inst.ready = false
		w.save(inst)
		return true
	case plan.StopInstance:
		inst.rec.Signaled = time.Now().UTC()
		w.save(inst)
		w.signal(t, inst, stopSignal(w.want, inst.attempt))
	case plan.KillInstance:
		inst.killed = time.Now()
		w.signal(t, inst, sigkill)
	case plan.DeleteInstance:
		w.delete(t, inst)
	}
	return false
}

// create adds an instance, of which nothing is there yet.
func (w *workload) create() {
	id := ""
	for id == "" || w.instances[id] != nil {
		id = w.id.Service + "-" + w.id.Name + "-" + randomSuffix()
	}
	inst := &instance{
		rec:   record{ID: id, Workload: w.id, Created: time.Now().UTC()},
		file:  w.e.records.file(id),
		state: plan.InstanceNew,
	}
	w.instances[id] = inst
}

// spawn runs an action on an instance beside the actor, and then takes its outcome in.
func (w *workload) spawn(inst *instance, action func() (outcome func())) {
	inst.busy = true
	w.actions.Go(func() {
		outcome := action()
		w.mail.post(func() {
			inst.busy = false
			outcome()
		})
	})
}

// save keeps the instance's record, beside the actor.
func (w *workload) save(inst *instance) {
	inst.version++
	version, rec := inst.version, inst.rec
	w.actions.Go(func() {
		if err := inst.file.save(version, rec); err != nil {
			w.log.Error("keep instance", "instance", rec.ID, "error", err)
		}
	})
}

// release gives the instance's volumes to who waits for them.
func (w *workload) release(inst *instance) {
	if !inst.rec.Holds {
		return
	}
	inst.rec.Holds = false
	w.save(inst)
	w.e.claims.free(inst.rec.ID)
}

// observe gives the workload's present state.
func (w *workload) observe() maru.Observation {
	o := maru.Observation{Workload: w.id, Wanted: w.want.Replicas}
	if w.removed || w.missing {
		// What lost its secrets is not as it was applied: whoever wants it applies it again.
		o.Wanted = 0
	}
	for _, id := range slices.SortedFunc(maps.Keys(w.instances), strings.Compare) {
		o.Instances = append(o.Instances, w.instances[id].observe(w.want))
	}
	return o
}
