package server

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// environmentService tells of the environments that apps live in.
type environmentService struct{ *Server }

func (s environmentService) List(ctx context.Context, req *maruv1.EnvironmentServiceListRequest) (*maruv1.EnvironmentServiceListResponse, error) {
	scope := fromScope(req.Scope)
	apps, err := s.deps.State.Apps(ctx, scope)
	if err != nil {
		return nil, err
	}
	found := map[maru.Scope]*maruv1.Environment{}
	for _, a := range apps {
		summary := s.summaryProto(a)
		found[a.Scope] = &maruv1.Environment{
			Scope: summary.Scope, State: summary.State, Addresses: summary.Addresses, Ready: summary.Ready, Wanted: summary.Wanted, Updated: summary.Updated,
		}
	}
	if s.deps.Environments != nil {
		previews, err := s.deps.Environments.Previews(ctx, scope)
		if err != nil {
			return nil, err
		}
		for _, p := range previews {
			e := found[p.Scope]
			if e == nil {
				e = &maruv1.Environment{Scope: scopeProto(p.Scope)}
				found[p.Scope] = e
			}
			e.Preview = &maruv1.Preview{
				Of: p.Of, Branch: valid(p.Branch), Domain: p.Domain, Created: timeProto(p.Created), Used: timeProto(p.Used), Expires: timeProto(p.Expires),
				Leaving: valid(p.Leaving),
			}
		}
	}
	res := &maruv1.EnvironmentServiceListResponse{}
	for _, e := range found {
		res.Environments = append(res.Environments, e)
	}
	slices.SortFunc(res.Environments, func(a, b *maruv1.Environment) int {
		return slices.Compare([]string{a.Scope.Project, a.Scope.App, a.Scope.Environment}, []string{b.Scope.Project, b.Scope.App, b.Scope.Environment})
	})
	return res, nil
}

func (s environmentService) Remove(ctx context.Context, req *maruv1.EnvironmentServiceRemoveRequest) (*maruv1.EnvironmentServiceRemoveResponse, error) {
	if s.deps.Environments == nil {
		return nil, unsupported("environments of branches")
	}
	return &maruv1.EnvironmentServiceRemoveResponse{}, s.deps.Environments.Leave(ctx, fromScope(req.Scope), "by "+callerName(ctx))
}

// Present tells whether an app is deployed in a scope, or has volumes there.
func (s *Server) Present(ctx context.Context, scope maru.Scope) (deployed, volumes bool, err error) {
	status, err := s.deps.State.Status(ctx, scope)
	if err != nil && maru.KindOf(err) != maru.NotFound {
		return false, false, err
	}
	// One whose first rollout was taken back is known, and has nothing.
	if len(status.Services) > 0 || status.Rollout != nil && !status.Rollout.Phase.Final() {
		return true, false, nil
	}
	all, err := s.volumesOf(ctx, scope)
	return false, len(all) > 0, err
}

// volumesOf gives the volumes of exactly the scope.
func (s *Server) volumesOf(ctx context.Context, scope maru.Scope) ([]maru.VolumeID, error) {
	all, err := s.deps.Volumes.Volumes(ctx)
	var of []maru.VolumeID
	for _, v := range all {
		if v.ID.Scope == scope {
			of = append(of, v.ID)
		}
	}
	return of, err
}

// BeginWith removes the volumes of an app that is not deployed, and makes them anew as copies of those that it has
// in another environment; "": none. What holds one of those is frozen while it is copied.
func (s *Server) BeginWith(ctx context.Context, scope maru.Scope, clone string) error {
	if err := s.removeVolumes(ctx, scope); err != nil || clone == "" {
		return err
	}
	from := scope
	from.Environment = clone
	all, err := s.volumesOf(ctx, from)
	if err != nil {
		return err
	}
	for _, id := range all {
		if err := s.copyVolume(ctx, id, maru.VolumeID{Scope: scope, Volume: id.Volume}); err != nil {
			return maru.Errorf(maru.KindOf(err), "copy the volume %s of %s: %w", id.Volume, clone, err)
		}
	}
	return nil
}

func (s *Server) copyVolume(ctx context.Context, from, to maru.VolumeID) error {
	r, w := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		err := s.deps.Volumes.ExportVolume(ctx, from, w)
		_ = w.CloseWithError(err)
		exported <- err
	}()
	err := s.deps.Volumes.ImportVolume(ctx, to, r)
	_ = r.CloseWithError(io.ErrClosedPipe)
	if exportErr := <-exported; err == nil && exportErr != nil {
		err = exportErr
	}
	return err
}

func (s *Server) removeVolumes(ctx context.Context, scope maru.Scope) error {
	all, err := s.volumesOf(ctx, scope)
	if err != nil {
		return err
	}
	for _, id := range all {
		if err := s.deps.Volumes.RemoveVolume(ctx, id); err != nil && maru.KindOf(err) != maru.NotFound {
			return err
		}
	}
	return nil
}

// RemoveEnvironment removes all that an app has in an environment, and what that environment has for all apps when
// this was the last one. Nothing is left but events, and logs for as long as logs are kept.
func (s *Server) RemoveEnvironment(ctx context.Context, scope maru.Scope) error {
	if err := s.removeApp(ctx, scope); err != nil {
		return err
	}
	images, err := s.imagesBuiltFor(ctx, scope)
	if err != nil {
		return err
	}
	if err := s.removeKept(ctx, scope); err != nil {
		return err
	}
	shared := sharedBy(scope)
	others, err := s.deps.State.Apps(ctx, shared)
	if err != nil {
		return err
	}
	if len(others) == 0 {
		if err := s.removeKept(ctx, shared); err != nil {
			return err
		}
	}
	return s.pruneOnly(ctx, images)
}

// removeApp takes the app away, and waits until it is gone.
func (s *Server) removeApp(ctx context.Context, scope maru.Scope) error {
	_, err := s.deps.Control.Remove(ctx, scope, "maru")
	if maru.KindOf(err) != maru.NotFound && err != nil {
		return err
	}
	for _, err := range s.deps.State.Watch(ctx, scope) {
		if maru.KindOf(err) == maru.NotFound {
			return s.deps.Control.Forget(ctx, scope)
		}
		if err != nil {
			return err
		}
	}
	return ended(ctx)
}

// removeKept removes what is kept for exactly the scope.
func (s *Server) removeKept(ctx context.Context, scope maru.Scope) error {
	if err := s.removeVolumes(ctx, scope); err != nil {
		return err
	}
	for _, vault := range []Secrets{s.deps.Secrets, s.deps.WorkflowSecrets} {
		if err := removeSecrets(ctx, vault, scope); err != nil {
			return err
		}
	}
	changes := []maru.Change{{Key: envKey(scope, false), Expect: maru.Any}, {Key: envKey(scope, true), Expect: maru.Any}, {Key: buildsKey(scope), Expect: maru.Any}}
	configs, _, err := s.deps.Store.List(ctx, kindConfig, scope.String()+"/")
	if err != nil {
		return err
	}
	for _, o := range configs {
		changes = append(changes, maru.Change{Key: o.Key, Expect: maru.Any})
	}
	_, err = s.deps.Store.Commit(ctx, changes...)
	return err
}

// removeSecrets removes those of exactly the scope; the vault may be nil.
func removeSecrets(ctx context.Context, vault Secrets, scope maru.Scope) error {
	if vault == nil {
		return nil
	}
	secrets, err := vault.Secrets(ctx, scope)
	if err != nil {
		return err
	}
	for _, secret := range secrets {
		if secret.Scope != scope {
			continue
		}
		if err := vault.RemoveSecret(ctx, "maru", scope, secret.Name); err != nil && maru.KindOf(err) != maru.NotFound {
			return err
		}
	}
	return nil
}

// imagesBuiltFor names the images that were built for the app in the environment and have no other name.
func (s *Server) imagesBuiltFor(ctx context.Context, scope maru.Scope) ([]string, error) {
	all, err := s.deps.Images.Images(ctx)
	prefix := imageName(scope)
	var references []string
	for _, image := range all {
		own := func(name string) bool {
			return strings.HasPrefix(name, prefix+":") || strings.HasPrefix(name, prefix+"@")
		}
		if own(image.Reference) && !slices.ContainsFunc(image.Names, func(name string) bool { return !own(name) }) {
			references = append(references, image.Reference)
		}
	}
	return references, err
}

// pruneOnly removes those of the images that nothing uses. While a deploy makes images they stay for the next
// time that images are pruned.
func (s *Server) pruneOnly(ctx context.Context, only []string) error {
	if len(only) == 0 || !s.unreleased.TryLock() {
		return nil
	}
	defer s.unreleased.Unlock()
	keep, err := s.deps.Jobs.Images(ctx)
	if err != nil {
		return err
	}
	all, err := s.deps.Images.Images(ctx)
	if err != nil {
		return err
	}
	for _, image := range all {
		if !slices.Contains(only, image.Reference) {
			keep = append(append(keep, image.Reference), image.Names...)
		}
	}
	_, err = s.deps.Images.Prune(ctx, keep)
	return err
}

// Serving is what an app runs in an environment.
type Serving struct {
	Rollouts []int             // that lead to what runs, newest first: the last deploy, and what followed from it
	Images   map[string]string // by service
}

// Serving tells what an app runs; Conflict while a rollout is under way, or when the last one failed.
func (s *Server) Serving(ctx context.Context, scope maru.Scope) (Serving, error) {
	status, err := s.deps.State.Status(ctx, scope)
	if err != nil {
		return Serving{}, err
	}
	if r := status.Rollout; r != nil && !r.Phase.Final() {
		return Serving{}, maru.WithHint(maru.Errorf(maru.Conflict, "rollout %d of %s in %s is under way", r.Number, scope.App, scope.Environment), "promote it when it has succeeded")
	}
	out := Serving{Images: map[string]string{}}
	for _, service := range status.Services {
		if service.Release == 0 {
			return Serving{}, maru.Errorf(maru.Conflict, "service %s has no release in %s that served", service.Name, scope.Environment)
		}
		out.Images[service.Name] = service.Image
	}
	rollouts, err := s.deps.State.Rollouts(ctx, scope)
	if err != nil {
		return Serving{}, err
	}
	out.Rollouts = inForce(rollouts)
	return out, nil
}

// inForce follows from the newest rollout that succeeded back to the deploy whose state it has.
func inForce(newestFirst []maru.Rollout) []int {
	var numbers []int
	at := 0
	for _, r := range newestFirst {
		if r.Phase != maru.Succeeded || at != 0 && r.Number > at {
			continue
		}
		numbers = append(numbers, r.Number)
		switch {
		case r.Cause == "deploy":
			return numbers
		case r.Of != 0:
			at = r.Of
		default:
			at = r.Number - 1
		}
	}
	return numbers
}
