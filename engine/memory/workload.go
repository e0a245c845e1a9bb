package memory

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

type workload struct {
	spec      maru.Workload
	sum       uint64
	removed   bool
	instances []*instance // sorted by ID
	timer     time.Time
	changed   bool // since seen was made
	seen      maru.Observation
}

type instance struct {
	workload  *workload
	facts     plan.InstanceFacts
	phase     maru.Phase
	attempt   int
	addresses maru.Addresses
	started   time.Time
	readyFrom time.Time
	nextStart time.Time
	lastExit  *maru.Exit
	message   string
	behaviour Behaviour

	liveAt  time.Time // when it is created
	readyAt time.Time
	endAt   time.Time
	endWith maru.Exit
}

func (i *instance) running() bool { return i.facts.State == plan.InstanceRunning }

func (i *instance) setReady(ready bool, now time.Time) {
	i.facts.Ready = ready
	i.facts.WasReady = i.facts.WasReady || ready
	i.readyFrom = time.Time{}
	if ready {
		i.readyFrom, i.message = now, ""
	}
}

// begin is the start of an attempt.
func (i *instance) begin(b Behaviour, now time.Time) {
	i.behaviour = b
	i.attempt++
	f := &i.facts
	f.Busy, f.WasReady, f.Failed = true, false, false
	f.Signaled, f.Killed, f.Ended = time.Time{}, time.Time{}, time.Time{}
	i.liveAt = now.Add(b.Start)
	i.readyAt, i.endAt = time.Time{}, time.Time{}
	i.message = ""
}

func (i *instance) live(now time.Time) {
	b := i.behaviour
	i.liveAt = time.Time{}
	i.facts.Busy, i.facts.State = false, plan.InstanceRunning
	i.started = now
	i.message = cmp.Or(b.Message, "it does not answer yet")
	if b.Ready >= 0 {
		i.readyAt = now.Add(b.Ready)
	}
	if x := b.Exit; x != nil {
		i.endAt = now.Add(x.After)
		i.endWith = maru.Exit{Code: x.Code, Signal: x.Signal, OutOfMemory: x.OutOfMemory, LastLines: x.Lines}
	}
}

// end is the end of an attempt.
func (i *instance) end(exit maru.Exit, now time.Time) {
	exit.At = now
	i.lastExit = &exit
	f := &i.facts
	f.Ends = plan.CountEnds(i.workload.spec.Container.Restart, f.Ends, now.Sub(i.started))
	f.State, f.Ended = plan.InstanceEnded, now
	f.Failed = exit.Code != 0 || exit.Signal != ""
	i.setReady(false, now)
	i.readyAt, i.endAt, i.message = time.Time{}, time.Time{}, ""
}

// pass lets happen what is due, and tells when the next is.
func (i *instance) pass(now time.Time) (next time.Time, changed bool) {
	due := func(t time.Time) bool {
		if t.IsZero() {
			return false
		}
		if !t.After(now) {
			return true
		}
		if next.IsZero() || t.Before(next) {
			next = t
		}
		return false
	}
	if due(i.liveAt) {
		i.live(now)
		changed = true
	}
	if due(i.readyAt) {
		i.readyAt, changed = time.Time{}, true
		i.setReady(true, now)
	}
	if due(i.endAt) {
		i.end(i.endWith, now)
		changed = true
	}
	return next, changed
}

// reconcile brings a workload as far as it comes now, and tells the watchers.
func (e *Engine) reconcile(w *workload, now time.Time) {
	seed := w.sum
	for {
		next := e.pass(w, now)
		p := plan.Instances(now, w.wanted(), e.facts(w), seed)
		for _, a := range p.Actions {
			e.do(w, a, now)
			w.changed = true
		}
		if len(p.Actions) > 0 {
			continue
		}
		w.look(p.Outlook)
		if next.IsZero() || !p.Next.IsZero() && p.Next.Before(next) {
			next = p.Next
		}
		if !next.IsZero() {
			e.at(w, next)
		}
		break
	}
	if w.removed && len(w.instances) == 0 {
		delete(e.workloads, w.spec.ID)
		w.changed = true
	}
	if w.changed {
		w.changed, w.seen = false, maru.Observation{}
		e.tell(w.spec.ID)
	}
}

func (e *Engine) pass(w *workload, now time.Time) (next time.Time) {
	for _, i := range w.instances {
		at, changed := i.pass(now)
		for changed {
			w.changed = true
			at, changed = i.pass(now)
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

func (w *workload) wanted() plan.InstancesWanted {
	return plan.InstancesWanted{Kind: w.spec.Kind, Replicas: w.spec.Replicas, Removed: w.removed,
		Restart: w.spec.Container.Restart, Stop: w.spec.Container.Stop}
}

func (e *Engine) facts(w *workload) []plan.InstanceFacts {
	out := make([]plan.InstanceFacts, len(w.instances))
	for k, i := range w.instances {
		holder := ""
		if !i.running() && !i.facts.Busy {
			holder = e.blocked(w)
		}
		if i.facts.Blocked != (holder != "") {
			i.facts.Blocked, w.changed = holder != "", true
		}
		if holder != "" {
			i.message = "waits for its volume, which " + holder + " holds"
		}
		out[k] = i.facts
	}
	return out
}

// look takes over the phases that were decided.
func (w *workload) look(outlook []plan.InstanceOutlook) {
	for k, o := range outlook {
		i := w.instances[k]
		if i.phase != o.Phase || !i.nextStart.Equal(o.NextStart) {
			i.phase, i.nextStart, w.changed = o.Phase, o.NextStart, true
		}
	}
}

func (e *Engine) do(w *workload, a plan.InstanceAction, now time.Time) {
	if a.Op == plan.CreateInstance {
		e.create(w, now)
		return
	}
	i := e.instances[a.Instance]
	switch a.Op {
	case plan.StartInstance:
		e.hold(w)
		i.begin(e.cfg.Behave(w.spec, i.facts.ID, i.attempt+1), now)
	case plan.DrainInstance:
		i.facts.Draining = now
	case plan.StopInstance:
		i.facts.Signaled = now
		if d := i.behaviour.Stop; d >= 0 && (i.endAt.IsZero() || now.Add(d).Before(i.endAt)) {
			i.endAt, i.endWith = now.Add(d), maru.Exit{}
		}
	case plan.KillInstance:
		i.facts.Killed = now
		i.end(maru.Exit{Code: 137, Signal: "SIGKILL"}, now)
	case plan.DeleteInstance:
		e.delete(w, i)
	}
}

func (e *Engine) create(w *workload, now time.Time) {
	e.made++
	id := fmt.Sprintf("%s-%s-%s", w.spec.ID.Service, strings.ReplaceAll(w.spec.ID.Name, ".", "-"), suffix(e.made))
	i := &instance{workload: w, phase: maru.PhaseCreating, addresses: e.addresses.take(),
		facts: plan.InstanceFacts{ID: id, State: plan.InstanceNew, Created: now}}
	at, _ := slices.BinarySearchFunc(w.instances, id, func(i *instance, id string) int { return strings.Compare(i.facts.ID, id) })
	w.instances = slices.Insert(w.instances, at, i)
	e.instances[id] = i
}

// suffix is the n-th name of five letters and digits, in an order that looks random.
func suffix(n uint64) string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	const all = 36 * 36 * 36 * 36 * 36
	n = n * 40_503_551 % all // a prime: no two of the first all are equal
	var b [5]byte
	for k := range b {
		b[k] = letters[n%36]
		n /= 36
	}
	return string(b[:])
}

func (e *Engine) delete(w *workload, i *instance) {
	w.instances = slices.DeleteFunc(w.instances, func(o *instance) bool { return o == i })
	delete(e.instances, i.facts.ID)
	e.addresses.give(i.addresses)
	e.release(w)
}

// claim is a volume in the hands of a service.
type claim struct {
	volume  maru.VolumeID
	service maru.ServiceID
}

// holding is who has a claim and who waits for it.
type holding struct {
	by      maru.WorkloadID
	waiting map[maru.WorkloadID]bool
}

func (w *workload) claims() []claim {
	if w.spec.Kind == maru.Job {
		return nil
	}
	var out []claim
	for _, m := range w.spec.Container.Mounts {
		if m.Kind == maru.VolumeMount && m.Source != "" && !m.ReadOnly && !m.Shared {
			out = append(out, claim{w.spec.Volumes[m.Source], w.spec.ID.ServiceID})
		}
	}
	return out
}

// blocked tells which instance of another release holds a volume that the workload needs, and has
// the workload told when it no longer does.
func (e *Engine) blocked(w *workload) string {
	for _, c := range w.claims() {
		if h := e.claims[c]; h != nil && h.by != w.spec.ID {
			h.waiting[w.spec.ID] = true
			return e.workloads[h.by].instances[0].facts.ID
		}
	}
	return ""
}

func (e *Engine) hold(w *workload) {
	for _, c := range w.claims() {
		if e.claims[c] == nil {
			e.claims[c] = &holding{by: w.spec.ID, waiting: map[maru.WorkloadID]bool{}}
		}
	}
}

// release gives claims back when the last instance is gone.
func (e *Engine) release(w *workload) {
	if len(w.instances) > 0 {
		return
	}
	for _, c := range w.claims() {
		h := e.claims[c]
		if h == nil || h.by != w.spec.ID {
			continue
		}
		delete(e.claims, c)
		for _, id := range slices.SortedFunc(maps.Keys(h.waiting), func(a, b maru.WorkloadID) int { return strings.Compare(a.String(), b.String()) }) {
			if o := e.workloads[id]; o != nil {
				e.at(o, time.Now())
			}
		}
	}
}

// addresses gives out addresses, those given back last first.
type addresses struct {
	v4, v6 netip.Addr
	free   []maru.Addresses
}

func (a *addresses) take() maru.Addresses {
	if n := len(a.free); n > 0 {
		out := a.free[n-1]
		a.free = a.free[:n-1]
		return out
	}
	a.v4, a.v6 = a.v4.Next(), a.v6.Next()
	return maru.Addresses{V4: a.v4, V6: a.v6}
}

func (a *addresses) give(back maru.Addresses) { a.free = append(a.free, back) }

type timer struct {
	at       time.Time
	workload maru.WorkloadID
}

// timers is a heap by time.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(a, b int) bool { return t[a].at.Before(t[b].at) }
func (t timers) Swap(a, b int)      { t[a], t[b] = t[b], t[a] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
