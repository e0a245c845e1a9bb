package control

import (
	"context"
	"encoding/json"
	"net/netip"
	"sync"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// view is what the store and the engine told, by app: so that a change costs as much as the app it
// concerns, whatever else there is.
type view struct {
	touched func(maru.Scope) // an app is to be planned for
	dirty   func(maru.ServiceID)

	mu        sync.Mutex
	apps      map[maru.Scope]*app
	known     map[maru.Key]maru.Revision // of every object
	revision  maru.Revision              // of the store, as far as it was read
	complete  maru.Revision              // from which revision on the view shows one moment of the store
	loaded    bool                       // the store was read
	synced    bool                       // the engine has told all that it has, at least once
	connected bool                       // and is being watched
	addresses map[netip.Addr]maru.ServiceID
	stale     map[maru.Scope]bool // what they claim is to be looked at again
	instances map[string]maru.WorkloadID
	progress  chan struct{} // closed when one of the above goes on
}

func newView(touched func(maru.Scope), dirty func(maru.ServiceID)) *view {
	return &view{
		touched: touched, dirty: dirty,
		apps: map[maru.Scope]*app{}, known: map[maru.Key]maru.Revision{},
		addresses: map[netip.Addr]maru.ServiceID{}, instances: map[string]maru.WorkloadID{},
		stale: map[maru.Scope]bool{}, progress: make(chan struct{}),
	}
}

func (v *view) app(scope maru.Scope) *app {
	a := v.apps[scope]
	if a == nil {
		a = newApp(scope)
		v.apps[scope] = a
	}
	return a
}

// forget drops an app of which nothing is known any more.
func (v *view) forget(a *app) {
	if !a.exists() && len(a.history) == 0 && len(a.releases) == 0 && len(a.asked) == 0 && a.changed == nil {
		delete(v.apps, a.scope)
	}
}

func (v *view) goOn() {
	close(v.progress)
	v.progress = make(chan struct{})
}

// until waits for a condition, which is asked with the lock held.
func (v *view) until(ctx context.Context, what string, condition func() bool) error {
	for {
		v.mu.Lock()
		ok, progress := condition(), v.progress
		v.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return maru.Errorf(maru.Interrupted, "wait until %s: %w", what, context.Cause(ctx))
		}
	}
}

// ready waits until the view shows the store.
func (v *view) ready(ctx context.Context) error {
	return v.until(ctx, "the state is read", func() bool { return v.loaded && v.revision >= v.complete })
}

// caughtUp waits until the view shows the store's revision.
func (v *view) caughtUp(ctx context.Context, r maru.Revision) error {
	return v.until(ctx, "the commit is seen", func() bool { return v.revision >= r })
}

// deciding tells whether plans can be made.
func (v *view) deciding() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.loaded && v.revision >= v.complete && v.connected
}

// load takes the listings of the kinds that control owns in place of what was known. Base is the
// oldest of their revisions, and newest the newest: between them more is to be read.
func (v *view) load(objects []maru.Object, base, newest maru.Revision) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	there := make(map[maru.Key]bool, len(objects))
	for _, o := range objects {
		there[o.Key] = true
		if err := v.change(o.Key, o.Data, o.Revision); err != nil {
			return err
		}
	}
	for key := range v.known {
		if !there[key] {
			if err := v.change(key, nil, base); err != nil {
				return err
			}
		}
	}
	v.loaded, v.revision, v.complete = true, base, newest
	v.goOn()
	return nil
}

// follow takes one change of the store.
func (v *view) follow(e maru.StoreEvent) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := v.change(e.Key, e.Data, e.Revision)
	v.revision = e.Revision
	v.goOn()
	return err
}

func (v *view) change(key maru.Key, data json.RawMessage, revision maru.Revision) error {
	if known := v.known[key]; !owned(key.Kind) || revision < known {
		return nil
	}
	scope, rest, ok := scopeOf(key.Name)
	if !ok {
		return maru.Errorf(maru.Internal, "stored %s has the name %q", key.Kind, key.Name)
	}
	a := v.app(scope)
	if data == nil {
		delete(v.known, key)
		v.deleted(a, key.Kind, rest)
	} else {
		v.known[key] = revision
		if err := v.put(a, key, data); err != nil {
			return err
		}
	}
	v.stale[scope] = true
	a.tell()
	v.touched(scope)
	v.forget(a)
	return nil
}

func owned(kind string) bool {
	return kind == KindApp || kind == KindRelease || kind == KindService || kind == KindRollout
}

func (v *view) put(a *app, key maru.Key, data json.RawMessage) error {
	switch key.Kind {
	case KindApp:
		spec, err := Decode[maru.App](key, data)
		if err != nil {
			return err
		}
		a.spec = &spec
	case KindRelease:
		r, err := Decode[maru.Release](key, data)
		if err != nil {
			return err
		}
		a.putRelease(r)
		v.dirty(r.Service)
	case KindService:
		st, err := Decode[maru.ServiceState](key, data)
		if err != nil {
			return err
		}
		v.free(a.services[st.Service.Service])
		a.services[st.Service.Service] = st
		if st.VirtualAddress.V4.IsValid() {
			v.addresses[st.VirtualAddress.V4] = st.Service
		}
		v.dirty(st.Service)
	case KindRollout:
		r, err := Decode[maru.Rollout](key, data)
		if err != nil {
			return err
		}
		a.putRollout(r)
	}
	return nil
}

func (v *view) deleted(a *app, kind, rest string) {
	switch kind {
	case KindApp:
		a.spec = nil
	case KindRelease:
		if service, number, ok := releaseName(rest); ok {
			a.deleteRelease(service, number)
			v.dirty(a.scope.Service(service))
		}
	case KindService:
		v.free(a.services[rest])
		delete(a.services, rest)
		v.dirty(a.scope.Service(rest))
	case KindRollout:
		if number, ok := rolloutName(rest); ok {
			a.deleteRollout(number)
		}
	}
}

func (v *view) free(st maru.ServiceState) {
	if v.addresses[st.VirtualAddress.V4] == st.Service {
		delete(v.addresses, st.VirtualAddress.V4)
	}
}

// replay takes all that the engine has in place of what was known of it.
func (v *view) replay(all map[maru.WorkloadID]maru.Observation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range v.apps {
		clear(a.asked)
		for _, workloads := range a.observed {
			for _, o := range workloads {
				if _, still := all[o.Workload]; !still {
					v.take(maru.Observation{Workload: o.Workload, Gone: true})
				}
			}
		}
	}
	for _, o := range all {
		v.take(o)
	}
	for scope := range v.apps {
		v.touched(scope)
	}
	v.synced, v.connected = true, true
	v.goOn()
}

// observe takes one observation, and gives the one that it takes the place of.
func (v *view) observe(o maru.Observation) (before maru.Observation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before = v.take(o)
	v.touched(o.Workload.Scope)
	return before
}

func (v *view) take(o maru.Observation) (before maru.Observation) {
	a := v.app(o.Workload.Scope)
	before = a.observed[o.Workload.Service][o.Workload.Name]
	for _, i := range before.Instances {
		delete(v.instances, i.ID)
	}
	for _, i := range o.Instances {
		v.instances[i.ID] = o.Workload
	}
	a.observe(o)
	a.tell()
	v.dirty(o.Workload.ServiceID)
	v.forget(a)
	return before
}

// lost says that the engine is not being watched any more. What it told last stands.
func (v *view) lost() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.connected = false
}

// look gives the app's state for planning.
func (v *view) look(scope maru.Scope) plan.AppState {
	v.mu.Lock()
	defer v.mu.Unlock()
	if a := v.apps[scope]; a != nil {
		return a.state()
	}
	return newApp(scope).state()
}

// decide gives the app, locked against other deciders until done is called.
func (v *view) decide(scope maru.Scope) (done func()) {
	for {
		v.mu.Lock()
		a := v.app(scope)
		v.mu.Unlock()
		a.deciding.Lock()
		v.mu.Lock()
		same := v.apps[scope] == a
		v.mu.Unlock()
		if same {
			return func() {
				a.deciding.Unlock()
				v.mu.Lock()
				defer v.mu.Unlock()
				v.forget(a)
			}
		}
		a.deciding.Unlock()
	}
}

// asking notes what the engine is about to be asked, and asked gives the outcome. False: the workload that is
// to be removed went since that was decided. The engine would have nothing to tell of it, and what was noted
// would stay for ever.
func (v *view) asking(id maru.WorkloadID, replicas int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.app(id.Scope)
	_, observed := a.observed[id.Service][id.Name]
	_, asked := a.asked[id]
	if replicas == plan.Removed && !observed && !asked {
		return false
	}
	a.asked[id] = replicas
	return true
}

func (v *view) asked(id maru.WorkloadID, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.app(id.Scope)
	if err != nil {
		delete(a.asked, id)
	}
	if err != nil && final(err) {
		if a.refused[id] != err.Error() { // the same again is left to the backoff
			a.refused[id] = err.Error()
			v.touched(id.Scope)
			a.tell()
		}
		return
	}
	if _, was := a.refused[id]; was && err == nil {
		delete(a.refused, id)
		a.tell()
	}
}

// pardon forgets the refusals of workloads that are not wanted any more.
func (v *view) pardon(scope maru.Scope, wanted map[maru.WorkloadID]bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.apps[scope]
	if a == nil {
		return
	}
	for id := range a.refused {
		if !wanted[id] {
			delete(a.refused, id)
		}
	}
	v.forget(a)
}

// final tells whether asking again would give the same error.
func final(err error) bool {
	switch maru.KindOf(err) {
	case maru.NotFound, maru.Invalid, maru.Unsupported, maru.Denied, maru.Conflict:
		return true
	}
	return false
}
