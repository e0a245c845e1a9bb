package control

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// Apps lists the apps of a scope, whose empty parts match all, sorted.
func (c *Controller) Apps(ctx context.Context, scope maru.Scope) ([]maru.AppSummary, error) {
	if err := c.view.ready(ctx); err != nil {
		return nil, err
	}
	var out []maru.AppSummary
	for _, s := range c.view.states(scope) {
		out = append(out, plan.Summary(time.Now(), s))
	}
	slices.SortFunc(out, func(a, b maru.AppSummary) int { return strings.Compare(a.Scope.String(), b.Scope.String()) })
	return out, nil
}

func (v *view) states(scope maru.Scope) []plan.AppState {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []plan.AppState
	for s, a := range v.apps {
		if scope.Covers(s) && a.exists() {
			out = append(out, a.state())
		}
	}
	return out
}

// existing gives the state of an app that is deployed.
func (c *Controller) existing(ctx context.Context, scope maru.Scope) (plan.AppState, error) {
	if err := c.view.ready(ctx); err != nil {
		return plan.AppState{}, err
	}
	s := c.view.look(scope)
	if s.Spec == nil && len(s.Services) == 0 && len(s.Observed) == 0 {
		return s, notDeployed(scope)
	}
	return s, nil
}

func notDeployed(scope maru.Scope) error {
	return maru.WithHint(maru.Errorf(maru.NotFound, "%s is not deployed", scope), "maru status lists what is")
}

// App gives the file of an app as last deployed; NotFound.
func (c *Controller) App(ctx context.Context, scope maru.Scope) (maru.App, error) {
	s, err := c.existing(ctx, scope)
	if err != nil {
		return maru.App{}, err
	}
	if s.Spec == nil {
		return maru.App{}, notDeployed(scope)
	}
	return *s.Spec, nil
}

// Status gives the present state of an app; NotFound.
func (c *Controller) Status(ctx context.Context, scope maru.Scope) (maru.AppStatus, error) {
	s, err := c.existing(ctx, scope)
	if err != nil {
		return maru.AppStatus{}, err
	}
	return plan.Status(time.Now(), s), nil
}

// Watch gives the state of an app, and again after each change; a slow reader misses intermediate
// states, never the last one. When the app is removed it gives its last rollout's end, and ends with
// NotFound.
func (c *Controller) Watch(ctx context.Context, scope maru.Scope) iter.Seq2[maru.AppStatus, error] {
	return func(yield func(maru.AppStatus, error) bool) {
		if err := c.view.ready(ctx); err != nil {
			yield(maru.AppStatus{}, err)
			return
		}
		began := false
		for {
			s, exists, changed := c.view.await(scope)
			if !exists && !began {
				yield(maru.AppStatus{}, notDeployed(scope))
				return
			}
			if !yield(plan.Status(time.Now(), s), nil) {
				return
			}
			if !exists {
				yield(maru.AppStatus{}, notDeployed(scope))
				return
			}
			began = true
			select {
			case <-changed:
			case <-ctx.Done():
				yield(maru.AppStatus{}, maru.Errorf(maru.Interrupted, "watch %s: %w", scope, context.Cause(ctx)))
				return
			}
		}
	}
}

// await gives the app's state, and what is closed when it changes.
func (v *view) await(scope maru.Scope) (s plan.AppState, exists bool, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.apps[scope]
	if a == nil {
		return newApp(scope).state(), false, nil
	}
	if !a.exists() {
		return a.state(), false, nil
	}
	return a.state(), true, a.wait()
}

// Releases lists an app's releases, newest first and then by service; service "": of all.
func (c *Controller) Releases(ctx context.Context, scope maru.Scope, service string) ([]maru.Release, error) {
	s, err := c.existing(ctx, scope)
	if err != nil {
		return nil, err
	}
	var out []maru.Release
	for name, releases := range s.Releases {
		if service == "" || service == name {
			out = slices.AppendSeq(out, maps.Values(releases))
		}
	}
	slices.SortFunc(out, func(a, b maru.Release) int {
		return cmp.Or(b.Number-a.Number, strings.Compare(a.Service.Service, b.Service.Service))
	})
	return out, nil
}

// Rollouts lists an app's rollouts that are kept, newest first; also those of one that was removed.
func (c *Controller) Rollouts(ctx context.Context, scope maru.Scope) ([]maru.Rollout, error) {
	if err := c.view.ready(ctx); err != nil {
		return nil, err
	}
	s := c.view.look(scope)
	if len(s.History) == 0 {
		return nil, notDeployed(scope)
	}
	return slices.SortedFunc(maps.Values(s.History), func(a, b maru.Rollout) int { return b.Number - a.Number }), nil
}

// Instance finds an instance in a scope, whose empty parts match all, by its ID or a beginning of it
// that fits no other. Errors: NotFound, Invalid (it fits several).
func (c *Controller) Instance(ctx context.Context, scope maru.Scope, id string) (maru.WorkloadID, maru.Instance, error) {
	if err := c.view.ready(ctx); err != nil {
		return maru.WorkloadID{}, maru.Instance{}, err
	}
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	var found []string
	if w, exact := c.view.instances[id]; exact && scope.Covers(w.Scope) {
		found = []string{id}
	} else if id != "" {
		for name, w := range c.view.instances {
			if strings.HasPrefix(name, id) && scope.Covers(w.Scope) {
				found = append(found, name)
			}
		}
	}
	switch len(found) {
	case 0:
		return maru.WorkloadID{}, maru.Instance{}, maru.WithHint(maru.Errorf(maru.NotFound, "there is no instance %q", id), "maru ps lists them")
	case 1:
		w := c.view.instances[found[0]]
		o := c.view.apps[w.Scope].observed[w.Service][w.Name]
		at := slices.IndexFunc(o.Instances, func(i maru.Instance) bool { return i.ID == found[0] })
		return w, o.Instances[at], nil
	}
	slices.Sort(found)
	return maru.WorkloadID{}, maru.Instance{}, maru.WithHint(maru.Errorf(maru.Invalid, "%d instances begin with %q", len(found), id),
		"say which: "+strings.Join(found[:min(len(found), 5)], ", "))
}

// Workload makes a one-off workload "run.ID" of a service's release, with its secrets; release 0: the
// one that serves, or else the newest. A nil command runs what the release runs. Whoever applies the
// workload removes it; if that does not happen, it goes an hour after it ended. Errors: NotFound.
func (c *Controller) Workload(ctx context.Context, service maru.ServiceID, release int, id string, command []string) (maru.Workload, error) {
	s, err := c.existing(ctx, service.Scope)
	if err != nil {
		return maru.Workload{}, err
	}
	st, there := s.Services[service.Service]
	releases := s.Releases[service.Service]
	if !there || len(releases) == 0 {
		return maru.Workload{}, maru.WithHint(maru.Errorf(maru.NotFound, "%s has no service %q", service.Scope, service.Service),
			"it has "+strings.Join(slices.Sorted(maps.Keys(s.Services)), ", "))
	}
	if release = cmp.Or(release, st.Release); release == 0 {
		release = slices.Max(slices.Collect(maps.Keys(releases)))
	}
	r, known := releases[release]
	if !known {
		return maru.Workload{}, maru.Errorf(maru.NotFound, "release %d of %s is not kept", release, service.Service)
	}
	secrets, err := c.secrets(ctx, r)
	if err != nil {
		return maru.Workload{}, err
	}
	return plan.RunOf(r, id, command, st.VirtualAddress, secrets), nil
}

// Images are the references of all images that the releases still kept use, sorted.
func (c *Controller) Images(ctx context.Context) ([]string, error) {
	used := map[string]bool{}
	err := c.eachRelease(ctx, maru.Scope{}, func(r maru.Release) {
		used[r.Image] = true
		for _, m := range r.Spec.Container.Mounts {
			if m.Kind == maru.ImageMount {
				used[m.Source] = true
			}
		}
	})
	return slices.Sorted(maps.Keys(used)), err
}

// SecretsInUse are the versions of secrets that the releases still kept in a scope use, sorted.
func (c *Controller) SecretsInUse(ctx context.Context, scope maru.Scope) ([]maru.SecretVersion, error) {
	used := map[maru.SecretVersion]bool{}
	err := c.eachRelease(ctx, scope, func(r maru.Release) {
		for _, v := range r.Secrets {
			used[v] = true
		}
	})
	return slices.SortedFunc(maps.Keys(used), func(a, b maru.SecretVersion) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.Version-b.Version)
	}), err
}

func (c *Controller) eachRelease(ctx context.Context, scope maru.Scope, do func(maru.Release)) error {
	if err := c.view.ready(ctx); err != nil {
		return err
	}
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	for s, a := range c.view.apps {
		if !scope.Covers(s) {
			continue
		}
		for _, releases := range a.releases {
			for _, r := range releases {
				do(r)
			}
		}
	}
	return nil
}
