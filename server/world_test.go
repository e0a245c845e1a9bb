package server_test

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/server"
)

var shop = maru.Scope{Project: "default", Environment: "production", App: "shop"}

// world is everything behind a server, in memory. Rollouts end as the test says.
type world struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	apps     map[maru.Scope]*maru.AppStatus
	rollouts map[maru.Scope][]maru.Rollout // newest first
	releases map[maru.Scope][]maru.Release
	deployed []maru.Deployment

	certificates certificates
	planned      []maru.Deployment
	end          func(*maru.Rollout) // nil: rollouts stay as they are

	images      map[string]maru.Image
	pulls       []string
	builds      []server.BuildRequest
	built       func(server.BuildRequest, func(server.BuildProgress)) (maru.Image, error)
	tokens      map[string]maru.Token
	grants      []maru.Grant
	refuse      error // of the grants' check
	secrets     map[string][][]byte
	volumes     []maru.VolumeStatus
	entries     []maru.LogEntry
	jobs        map[maru.WorkloadID]maru.Workload
	unstartable string // why one-offs can't be started
	by          []string
}

func newWorld() *world {
	return &world{
		changed: make(chan struct{}), apps: map[maru.Scope]*maru.AppStatus{}, rollouts: map[maru.Scope][]maru.Rollout{},
		releases: map[maru.Scope][]maru.Release{}, images: map[string]maru.Image{}, tokens: map[string]maru.Token{},
		secrets: map[string][][]byte{}, jobs: map[maru.WorkloadID]maru.Workload{},
		certificates: certificates{map[string]maru.Certificate{}},
		end:          func(r *maru.Rollout) { r.Phase = maru.Succeeded },
	}
}

func (w *world) bump() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// set changes the latest rollout.
func (w *world) set(scope maru.Scope, change func(*maru.Rollout)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.rollouts[scope][0]
	change(&r)
	w.rollouts[scope] = append([]maru.Rollout{r}, w.rollouts[scope][1:]...)
	if a := w.apps[scope]; a != nil {
		next := *a
		next.Rollout = &r
		w.apps[scope] = &next
	}
	w.bump()
}

func (w *world) begin(scope maru.Scope, cause, by string, services []string) maru.Rollout {
	r := maru.Rollout{Scope: scope, Number: len(w.rollouts[scope]) + 1, Phase: maru.Starting, Cause: cause, By: by, Started: time.Now(), Services: map[string]maru.ServiceRollout{}}
	for _, name := range services {
		r.Services[name] = maru.ServiceRollout{To: r.Number, Phase: maru.Starting}
	}
	w.rollouts[scope] = append([]maru.Rollout{r}, w.rollouts[scope]...)
	w.by = append(w.by, by)
	return r
}

func (w *world) Deploy(_ context.Context, d maru.Deployment) (maru.Rollout, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.deployed); n > 0 && !d.Force && string(maru.Raw(w.deployed[n-1].Images)) == string(maru.Raw(d.Images)) &&
		string(maru.Raw(w.deployed[n-1].App)) == string(maru.Raw(d.App)) && w.apps[d.Scope] != nil {
		return maru.Rollout{}, false, nil
	}
	w.deployed = append(w.deployed, d)
	names := slices.Sorted(maps.Keys(d.App.Services))
	r := w.begin(d.Scope, "deploy", d.By, names)
	status := &maru.AppStatus{Scope: d.Scope, State: maru.StateUpdating, Rollout: &r}
	for _, name := range names {
		service := d.App.Services[name]
		status.Services = append(status.Services, maru.ServiceStatus{
			Name: name, Kind: service.Kind, Release: r.Number, Image: d.Images[name].Reference, Wanted: service.Replicas, Ready: service.Replicas,
			State: maru.StateRunning, Routes: service.Routes, Publish: service.Publish,
			Instances: []maru.InstanceStatus{{Workload: maru.Itoa(r.Number), Instance: maru.Instance{ID: name + "-1-aaaaa", Phase: maru.PhaseRunning, Ready: true}}},
		})
		w.releases[d.Scope] = append([]maru.Release{{Service: d.Scope.Service(name), Number: r.Number, Spec: service, Image: d.Images[name].Reference}}, w.releases[d.Scope]...)
	}
	w.apps[d.Scope] = status
	if w.end != nil {
		done := r
		w.end(&done)
		w.rollouts[d.Scope][0] = done
		status.Rollout = &done
	}
	w.bump()
	return r, true, nil
}

func (w *world) Plan(_ context.Context, d maru.Deployment) (changes []maru.ServiceChange, refusal, err error) {
	w.mu.Lock()
	w.planned = append(w.planned, d)
	w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.App.Services)) {
		c := maru.ServiceChange{Service: name, Action: maru.ChangeCreate}
		if _, ok := d.Images[name]; !ok {
			c.Note = "its image is built"
		}
		changes = append(changes, c)
	}
	return changes, nil, nil
}

func (w *world) known(scope maru.Scope) error {
	if w.apps[scope] == nil {
		return maru.Errorf(maru.NotFound, "app %s does not exist", scope.App)
	}
	return nil
}

func (w *world) act(scope maru.Scope, cause, by string) (maru.Rollout, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.known(scope); err != nil {
		return maru.Rollout{}, err
	}
	r := w.begin(scope, cause, by, nil)
	next := *w.apps[scope]
	next.Rollout = &r
	w.apps[scope] = &next
	w.bump()
	return r, nil
}

func (w *world) Rollback(_ context.Context, scope maru.Scope, _ int, by string) (maru.Rollout, bool, error) {
	r, err := w.act(scope, "rollback", by)
	return r, true, err
}

func (w *world) Promote(_ context.Context, scope maru.Scope, _ []string, _ bool, by string) (maru.Rollout, error) {
	return w.act(scope, "deploy", by)
}

func (w *world) Abort(_ context.Context, scope maru.Scope, by string) (maru.Rollout, error) {
	return w.act(scope, "deploy", by)
}

func (w *world) Pause(_ context.Context, scope maru.Scope, _ bool, by string) (maru.Rollout, error) {
	return w.act(scope, "deploy", by)
}

func (w *world) Restart(_ context.Context, scope maru.Scope, _ []string, by string) (maru.Rollout, error) {
	return w.act(scope, "restart", by)
}

func (w *world) Scale(_ context.Context, scope maru.Scope, _ map[string]int, _ string) error {
	return w.known(scope)
}

func (w *world) Stop(_ context.Context, scope maru.Scope, _ []string, _ string) error {
	return w.known(scope)
}

func (w *world) Start(_ context.Context, scope maru.Scope, _ []string, _ string) error {
	return w.known(scope)
}

func (w *world) Remove(_ context.Context, scope maru.Scope, by string) (maru.Rollout, error) {
	return w.act(scope, "remove", by)
}

func (w *world) Forget(context.Context, maru.Scope) error { return nil }

// gone forgets an app, as a removal that succeeded does.
func (w *world) gone(scope maru.Scope) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.apps, scope)
	delete(w.rollouts, scope)
	w.bump()
}

func (w *world) Apps(_ context.Context, scope maru.Scope) ([]maru.AppSummary, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []maru.AppSummary
	for s, a := range w.apps {
		if scope.Covers(s) {
			all = append(all, maru.AppSummary{Scope: s, Services: len(a.Services), State: a.State})
		}
	}
	slices.SortFunc(all, func(a, b maru.AppSummary) int { return strings.Compare(a.Scope.String(), b.Scope.String()) })
	return all, nil
}

func (w *world) Status(_ context.Context, scope maru.Scope) (maru.AppStatus, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.known(scope); err != nil {
		return maru.AppStatus{}, err
	}
	return *w.apps[scope], nil
}

func (w *world) Watch(ctx context.Context, scope maru.Scope) iter.Seq2[maru.AppStatus, error] {
	return func(yield func(maru.AppStatus, error) bool) {
		for {
			w.mu.Lock()
			changed := w.changed
			w.mu.Unlock()
			status, err := w.Status(ctx, scope)
			if !yield(status, err) || err != nil {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (w *world) Releases(_ context.Context, scope maru.Scope, service string) ([]maru.Release, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []maru.Release
	for _, r := range w.releases[scope] {
		if service == "" || r.Service.Service == service {
			all = append(all, r)
		}
	}
	return all, w.known(scope)
}

func (w *world) Rollouts(_ context.Context, scope maru.Scope) ([]maru.Rollout, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.rollouts[scope]), nil
}

func (w *world) Instance(_ context.Context, scope maru.Scope, id string) (maru.WorkloadID, maru.Instance, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.apps[scope]; a != nil {
		for _, v := range a.Services {
			for _, i := range v.Instances {
				if strings.HasPrefix(i.ID, id) {
					return scope.Service(v.Name).Workload(i.Workload), i.Instance, nil
				}
			}
		}
	}
	return maru.WorkloadID{}, maru.Instance{}, maru.Errorf(maru.NotFound, "instance %s does not exist", id)
}

func (w *world) Workload(_ context.Context, service maru.ServiceID, _ int, id string, command []string) (maru.Workload, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.known(service.Scope); err != nil {
		return maru.Workload{}, err
	}
	return maru.Workload{ID: service.Workload("run." + id), Kind: maru.Job, Replicas: 1, Container: maru.Container{Command: command, Env: map[string]string{"A": "1"}}}, nil
}
