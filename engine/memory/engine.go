package memory

import (
	"container/heap"
	"context"
	"hash/fnv"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// Config tunes an [Engine]. Its zero value is the documented default.
type Config struct {
	Behave   func(w maru.Workload, instance string, attempt int) Behaviour // default: jobs end at once, all else serves
	HasImage func(reference string) bool                                   // default: all images are there
	V4       netip.Prefix                                                  // addresses of instances; default 10.0.0.0/8
	V6       netip.Prefix                                                  // default fd00:6d61::/64
}

// Engine keeps workloads in memory.
type Engine struct {
	cfg Config

	mu        sync.Mutex
	workloads map[maru.WorkloadID]*workload
	instances map[string]*instance
	claims    map[claim]*holding
	watchers  map[*watcher]bool
	timers    timers
	wake      chan struct{} // the first timer may have become another
	addresses addresses
	made      uint64 // instances so far
	away      error
}

// New makes an engine without workloads. Time only passes for it while [Engine.Run] runs.
func New(cfg Config) *Engine {
	if cfg.Behave == nil {
		cfg.Behave = defaultBehaviour
	}
	if cfg.HasImage == nil {
		cfg.HasImage = func(string) bool { return true }
	}
	if !cfg.V4.IsValid() {
		cfg.V4 = netip.MustParsePrefix("10.0.0.0/8")
	}
	if !cfg.V6.IsValid() {
		cfg.V6 = netip.MustParsePrefix("fd00:6d61::/64")
	}
	return &Engine{
		cfg:       cfg,
		workloads: map[maru.WorkloadID]*workload{},
		instances: map[string]*instance{},
		claims:    map[claim]*holding{},
		watchers:  map[*watcher]bool{},
		wake:      make(chan struct{}, 1),
		addresses: addresses{v4: cfg.V4.Masked().Addr(), v6: cfg.V6.Masked().Addr()},
	}
}

// Run lets time pass for the instances until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	for {
		var due <-chan time.Time
		if next, ok := e.tick(time.Now()); ok {
			due = time.After(time.Until(next))
		}
		select {
		case <-due:
		case <-e.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// tick does what is due, and tells when the next is.
func (e *Engine) tick(now time.Time) (next time.Time, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.timers) > 0 {
		t := e.timers[0]
		if t.at.After(now) {
			return t.at, true
		}
		heap.Pop(&e.timers)
		if w := e.workloads[t.workload]; w != nil && w.timer.Equal(t.at) {
			w.timer = time.Time{}
			e.reconcile(w, now)
		}
	}
	return time.Time{}, false
}

// at has the workload reconciled again then.
func (e *Engine) at(w *workload, at time.Time) {
	if !w.timer.IsZero() && !at.Before(w.timer) {
		return
	}
	w.timer = at
	heap.Push(&e.timers, timer{at, w.spec.ID})
	if e.timers[0].at.Equal(at) {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// Apply implements [maru.Engine].
func (e *Engine) Apply(_ context.Context, spec maru.Workload) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(spec); err != nil {
		return err
	}
	w, there := e.workloads[spec.ID]
	sum := digest(spec)
	if there {
		if w.sum != sum {
			return maru.Errorf(maru.Conflict, "workload %s is there with another content", spec.ID)
		}
		if w.spec.Replicas == spec.Replicas && !w.removed {
			return nil
		}
	} else {
		if !e.cfg.HasImage(spec.Image) {
			return maru.Errorf(maru.NotFound, "image %s is not there", spec.Image)
		}
		w = &workload{sum: sum}
		e.workloads[spec.ID] = w
	}
	w.spec, w.removed = spec, false
	w.changed = true
	e.reconcile(w, time.Now())
	return nil
}

func (e *Engine) check(spec maru.Workload) error {
	switch {
	case e.away != nil:
		return e.away
	case spec.ID.Service == "" || spec.ID.Name == "":
		return maru.Errorf(maru.Invalid, "workload %q has no name", spec.ID)
	case spec.Replicas < 0:
		return maru.Errorf(maru.Invalid, "workload %s can't have %d instances", spec.ID, spec.Replicas)
	case spec.Kind != maru.LongRunning && spec.Kind != maru.Job:
		return maru.Errorf(maru.Unsupported, "workload %s is of kind %q", spec.ID, spec.Kind)
	}
	return nil
}

// digest tells workloads apart by all but their replicas.
func digest(spec maru.Workload) uint64 {
	spec.Replicas = 0
	hash := fnv.New64a()
	_, _ = hash.Write(maru.Raw(spec))
	return hash.Sum64()
}

// Remove implements [maru.Engine].
func (e *Engine) Remove(_ context.Context, id maru.WorkloadID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away != nil {
		return e.away
	}
	w, there := e.workloads[id]
	if !there || w.removed {
		return nil
	}
	w.removed, w.changed = true, true
	e.reconcile(w, time.Now())
	return nil
}

// Drained implements [maru.Drainer].
func (e *Engine) Drained(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away != nil {
		return e.away
	}
	i, there := e.instances[id]
	if !there || i.facts.Draining.IsZero() || i.facts.Drained {
		return nil
	}
	i.facts.Drained = true
	e.reconcile(i.workload, time.Now())
	return nil
}

// Watch implements [maru.Engine].
func (e *Engine) Watch(ctx context.Context) iter.Seq2[maru.Observation, error] {
	return func(yield func(maru.Observation, error) bool) {
		w, err := e.subscribe()
		if err != nil {
			yield(maru.Observation{}, err)
			return
		}
		defer e.unsubscribe(w)
		for ctx.Err() == nil {
			o, ok, err := e.next(w)
			switch {
			case err != nil:
				yield(maru.Observation{}, err)
				return
			case !ok:
				select {
				case <-w.more:
				case <-ctx.Done():
				}
			case !yield(o, nil):
				return
			}
		}
	}
}

// Count tells how many workloads and instances there are.
func (e *Engine) Count() (workloads, instances int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.workloads), len(e.instances)
}

// Workload gives a workload as it was last applied.
func (e *Engine) Workload(id maru.WorkloadID) (maru.Workload, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w, there := e.workloads[id]
	if !there {
		return maru.Workload{}, false
	}
	return w.spec, true
}

// Away makes the engine unreachable, as when its process is gone: calls fail with Unavailable and
// watches end, while instances go on. Back ends that.
func (e *Engine) Away() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.away = maru.Errorf(maru.Unavailable, "the engine is away")
	for w := range e.watchers {
		w.end = e.away
		w.poke()
	}
}

// Back ends what Away began.
func (e *Engine) Back() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.away = nil
}

// Lose forgets a workload with its instances, as no engine may: for tests of what then happens.
func (e *Engine) Lose(id maru.WorkloadID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w, there := e.workloads[id]
	if !there {
		return
	}
	for _, i := range slices.Clone(w.instances) {
		e.delete(w, i)
	}
	delete(e.workloads, id)
	e.tell(id)
}

// Crash ends an instance's process.
func (e *Engine) Crash(id string, exit maru.Exit) {
	e.touch(id, func(i *instance, now time.Time) { i.end(exit, now) })
}

// SetReady makes an instance that runs ready or not, with the reason.
func (e *Engine) SetReady(id string, ready bool, message string) {
	e.touch(id, func(i *instance, now time.Time) {
		i.readyAt = time.Time{}
		i.setReady(ready, now)
		i.message = message
	})
}

func (e *Engine) touch(id string, change func(*instance, time.Time)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, there := e.instances[id]
	if !there || !i.running() {
		return
	}
	now := time.Now()
	change(i, now)
	i.workload.changed = true
	e.reconcile(i.workload, now)
}
