package local

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// Apply implements [maru.Engine].
func (e *Engine) Apply(ctx context.Context, w maru.Workload) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	if err := checkWorkload(w); err != nil {
		return fmt.Errorf("apply %s: %w", w.ID, err)
	}
	// Between finding the image and keeping the workload nobody may prune it.
	e.images.pruning.RLock()
	defer e.images.pruning.RUnlock()
	if err := e.checkImage(ctx, w); err != nil {
		return fmt.Errorf("apply %s: %w", w.ID, err)
	}
	for {
		known, begun, err := e.applied(w)
		if err != nil {
			return fmt.Errorf("apply %s: %w", w.ID, err)
		}
		if known {
			return e.begin(begun)
		}
	}
}

// applied keeps w. It gives the actor if it is to be begun, and false if it ended just now: try again.
func (e *Engine) applied(w maru.Workload) (ok bool, begun *workload, err error) {
	e.mu.Lock()
	actor, known := e.workloads[w.ID]
	if !known {
		actor = newWorkload(e, wantedWorkload{Workload: w})
		actor.mu.Lock() // until it is kept, so that nobody sees it before
		e.workloads[w.ID] = actor
		e.mu.Unlock()
	} else {
		e.mu.Unlock()
		actor.mu.Lock()
	}
	defer actor.mu.Unlock()
	if actor.gone {
		return false, nil, nil
	}
	if known {
		if err := actor.kept.accepts(w); err != nil {
			return false, nil, err
		}
		if !actor.kept.Removed && !actor.kept.missing && actor.kept.Workload.Replicas == w.Replicas {
			return true, nil, nil
		}
	}
	kept := wantedWorkload{Workload: w}
	if err := e.wanted.save(kept); err != nil {
		if !known {
			actor.gone = true
			e.mu.Lock()
			delete(e.workloads, w.ID)
			e.mu.Unlock()
		}
		return false, nil, err
	}
	actor.kept = kept
	if !known {
		actor.announce()
		return true, actor, nil
	}
	actor.mail.post(func() { actor.want, actor.removed, actor.missing = w, false, false })
	return true, nil, nil
}

// begin hands a new actor to Run.
func (e *Engine) begin(actor *workload) error {
	if actor == nil {
		return nil
	}
	select {
	case e.begun <- actor:
		return nil
	case <-e.stopped:
		return errStopped
	}
}

// accepts tells whether w may follow what is kept of it: only the replicas can change.
func (k wantedWorkload) accepts(w maru.Workload) error {
	before, after := k.Workload, w
	if k.missing {
		before, after = withoutSecrets(before), withoutSecrets(after)
	}
	if sameWorkload(before, after) {
		return nil
	}
	if k.Removed {
		return maru.Errorf(maru.Conflict, "another workload of this ID is being removed")
	}
	return maru.WithHint(maru.Errorf(maru.Conflict, "a workload of this ID is there, and differs in more than its replicas"),
		"a release is immutable: make a new one")
}

// Remove implements [maru.Engine].
func (e *Engine) Remove(ctx context.Context, id maru.WorkloadID) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	actor := e.workloads[id]
	e.mu.Unlock()
	if actor == nil {
		return nil
	}
	actor.mu.Lock()
	defer actor.mu.Unlock()
	if actor.gone || actor.kept.Removed {
		return nil
	}
	kept := actor.kept
	kept.Removed = true
	if err := e.wanted.save(kept); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	actor.kept = kept
	actor.mail.post(func() { actor.removed = true })
	return nil
}

// Drained implements [maru.Drainer]. An instance that is gone is as drained as can be.
func (e *Engine) Drained(ctx context.Context, instance string) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if h, ok := e.running[instance]; ok {
		h.workload.mail.post(func() {
			if inst := h.workload.instances[instance]; inst != nil {
				inst.drained = true
			}
		})
	}
	return nil
}

// handle is a running instance as the API finds it.
type handle struct {
	workload *workload
	attempt  *attempt
}

func (e *Engine) register(w *workload, a *attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[a.instance] = handle{w, a}
}

func (e *Engine) unregister(a *attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running[a.instance].attempt == a {
		delete(e.running, a.instance)
	}
}

// find gives the running attempt of an instance; NotFound or, when it does not run just now, Conflict.
func (e *Engine) find(ctx context.Context, instance string) (*attempt, error) {
	if err := e.await(ctx); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if h, ok := e.running[instance]; ok {
		return h.attempt, nil
	}
	return nil, maru.WithHint(maru.Errorf(maru.NotFound, "instance %s does not run", instance), "see what runs with maru ps")
}

// attempts gives all running attempts, sorted by instance.
func (e *Engine) attempts() []*attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*attempt, 0, len(e.running))
	for _, h := range e.running {
		all = append(all, h.attempt)
	}
	slices.SortFunc(all, func(a, b *attempt) int { return strings.Compare(a.instance, b.instance) })
	return all
}
