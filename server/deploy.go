package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// Deploy makes images, then releases and a rollout in one durable step, then tells how the rollout
// goes. Only what comes before that step ends when the caller leaves.
func (s appService) Deploy(ctx context.Context, req *maruv1.DeployRequest, stream *connect.ServerStream[maruv1.DeployResponse]) error {
	to := &report{
		started: time.Now(),
		progress: func(p *maruv1.Progress) error {
			return stream.Send(&maruv1.DeployResponse{Event: &maruv1.DeployResponse_Progress{Progress: p}})
		},
		status: func(p *maruv1.RolloutStatus) error {
			return stream.Send(&maruv1.DeployResponse{Event: &maruv1.DeployResponse_Status{Status: p}})
		},
		result: func(p *maruv1.DeployResult) error {
			return stream.Send(&maruv1.DeployResponse{Event: &maruv1.DeployResponse_Result{Result: p}})
		},
	}
	wish, rollout, changed, err := s.release(ctx, req, Commit{}, to)
	if err != nil {
		return err
	}
	if !changed && (rollout.Number == 0 || rollout.Phase.Final()) {
		status, err := s.deps.State.Status(ctx, wish.Scope)
		if err != nil {
			return err
		}
		return to.done(s.Server, 0, status.Services)
	}
	to.rollout(s.Server, rollout, nil)
	if req.Detach {
		return to.done(s.Server, rollout.Number, nil)
	}
	return s.follow(ctx, rollout, to)
}

// release makes the images and the releases, of a commit or, of the zero Commit, of what came with the request. Meanwhile nothing
// is pruned: what was just built is in no release yet.
func (s *Server) release(ctx context.Context, req *maruv1.DeployRequest, from Commit, to *report) (wish maru.Deployment, r maru.Rollout, changed bool, err error) {
	s.unreleased.RLock()
	defer s.unreleased.RUnlock()
	if wish, err = s.prepare(ctx, req, from, to); err != nil {
		return wish, r, false, err
	}
	wish.Seed = from.Seed
	if from.Origin.Commit != "" {
		wish.Origin, wish.Again, wish.Sources = &from.Origin, from.Again, map[string]string{}
		for name := range wish.App.Services {
			wish.Sources[name] = from.Origin.Commit
		}
	}
	if err := to.lost(); err != nil {
		return wish, r, false, err
	}
	r, changed, err = s.deps.Control.Deploy(ctx, wish)
	return wish, r, changed, err
}

// prepare checks the app, stores its secrets and makes its images.
func (s *Server) prepare(ctx context.Context, req *maruv1.DeployRequest, from Commit, to *report) (maru.Deployment, error) {
	scope := fromScope(req.Scope)
	app, services, err := s.admitApp(ctx, scope, req)
	if err != nil {
		return maru.Deployment{}, err
	}
	if err := s.fillConfigs(ctx, scope, from.Of, &app, services); err != nil {
		return maru.Deployment{}, err
	}
	images := newImageWork(s, scope, req, to)
	images.pinned = from.Images
	found, err := images.resolve(ctx, services)
	if err != nil {
		return maru.Deployment{}, err
	}
	if services, err = images.resolveMounts(ctx, services); err != nil {
		return maru.Deployment{}, err
	}
	app = withServices(app, services)
	secrets, err := s.storeSecrets(ctx, scope, from.Of, app, services, req.Secrets)
	if err != nil {
		return maru.Deployment{}, err
	}
	return maru.Deployment{
		Scope: scope, App: app, Services: req.Services, Images: found, Secrets: secrets,
		Sources: images.origins(services), By: callerName(ctx), Message: req.Message, Force: req.Force,
	}, nil
}

// admitApp decodes the app and refuses what may not be deployed.
func (s *Server) admitApp(ctx context.Context, scope maru.Scope, req *maruv1.DeployRequest) (maru.App, map[string]maru.Service, error) {
	app, err := fromStruct[maru.App](req.App)
	if err != nil {
		return app, nil, err
	}
	if err := checkApp(scope, app); err != nil {
		return app, nil, err
	}
	services, err := chosen(app, req.Services)
	if err != nil {
		return app, nil, err
	}
	problems, err := s.problems(ctx, scope, services)
	if err != nil {
		return app, nil, err
	}
	for _, p := range problems {
		return app, nil, p.err
	}
	return app, services, nil
}

// fillConfigs gives the external configs that the services use their content.
func (s *Server) fillConfigs(ctx context.Context, scope maru.Scope, of string, app *maru.App, services map[string]maru.Service) error {
	filled := maps.Clone(app.Configs)
	for _, key := range used(services, configKeys) {
		c := app.Configs[key]
		if !c.External {
			continue
		}
		content, err := s.externalConfig(ctx, scope, of, orDefault(c.Name, key))
		if err != nil {
			return err
		}
		c.Content = content
		filled[key] = c
	}
	app.Configs = filled
	return nil
}

// storeSecrets keeps the values that came along, and gives the versions that releases are to use.
func (s *Server) storeSecrets(ctx context.Context, scope maru.Scope, of string, app maru.App, services map[string]maru.Service, values map[string][]byte) (map[string]maru.SecretVersion, error) {
	versions := map[string]maru.SecretVersion{}
	for _, key := range usedSecrets(services) {
		name := orDefault(app.Secrets[key].Name, key)
		value, brought := values[key]
		if !brought || app.Secrets[key].External {
			version, err := s.secretVersion(ctx, scope, of, name)
			if err != nil {
				return nil, err
			}
			versions[key] = version
			continue
		}
		if err := maru.CheckName("secret", name); err != nil {
			return nil, err
		}
		if err := checkSecret(name, value); err != nil {
			return nil, err
		}
		version, _, err := s.deps.Secrets.SetSecret(ctx, callerName(ctx), scope, name, value)
		if err != nil {
			return nil, err
		}
		versions[key] = maru.SecretVersion{Name: name, Version: version}
	}
	return versions, nil
}

// withServices gives the app with these services in the place of those of the same name.
func withServices(app maru.App, services map[string]maru.Service) maru.App {
	app.Services = maps.Clone(app.Services)
	maps.Copy(app.Services, services)
	return app
}

// used gives the keys of what services use, sorted.
func used(services map[string]maru.Service, keys func(maru.Service) []string) []string {
	found := map[string]bool{}
	for _, service := range services {
		for _, key := range keys(service) {
			found[key] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func configKeys(s maru.Service) []string {
	var keys []string
	for _, f := range s.Configs {
		keys = append(keys, f.Source)
	}
	return keys
}

func usedSecrets(services map[string]maru.Service) []string {
	return used(services, maru.Service.SecretKeys)
}

// secretVersion gives the newest version of a secret that was set before: for the environment, or for the entry
// that it is of.
func (s *Server) secretVersion(ctx context.Context, scope maru.Scope, of, name string) (maru.SecretVersion, error) {
	info, err := s.deps.Secrets.Visible(ctx, scope, name)
	if maru.KindOf(err) == maru.NotFound && of != "" {
		shared := scope
		shared.Environment = of
		if info, err = s.deps.Secrets.Visible(ctx, shared, name); err == nil {
			return maru.SecretVersion{Name: name, Version: info.Version, Environment: of}, nil
		}
	}
	if maru.KindOf(err) == maru.NotFound {
		return maru.SecretVersion{}, maru.WithHint(maru.Errorf(maru.Invalid, "secret %q has no value in %s", name, scope.Environment),
			fmt.Sprintf("set it first: maru secret set %s --env %s", name, orDefault(of, scope.Environment)))
	}
	return maru.SecretVersion{Name: name, Version: info.Version}, err
}

// Plan tells what Deploy would do, without doing any of it.
func (s appService) Plan(ctx context.Context, req *maruv1.PlanRequest) (*maruv1.PlanResponse, error) {
	scope := fromScope(req.Scope)
	app, err := fromStruct[maru.App](req.App)
	if err != nil {
		return nil, err
	}
	if err := checkApp(scope, app); err != nil {
		return nil, err
	}
	services, err := chosen(app, req.Services)
	if err != nil {
		return nil, err
	}
	problems, err := s.problems(ctx, scope, services)
	if err != nil {
		return nil, err
	}
	wish := maru.Deployment{Scope: scope, App: app, Services: req.Services, By: callerName(ctx), Force: req.Force}
	if err := s.fillConfigs(ctx, scope, "", &wish.App, services); maru.KindOf(err) == maru.Invalid {
		problems = append(problems, problem{err: err})
	} else if err != nil {
		return nil, err
	}
	more, err := s.foresee(ctx, &wish, services, req)
	if err != nil {
		return nil, err
	}
	changes, refusal, err := s.deps.Control.Plan(ctx, wish)
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		more = append(more, problem{err: refusal})
	}
	res := &maruv1.PlanResponse{}
	for _, c := range changes {
		res.Changes = append(res.Changes, changeProto(c))
	}
	for _, p := range append(problems, more...) {
		res.Problems = append(res.Problems, &maruv1.Problem{Service: p.service, Message: p.err.Error(), Hint: maru.HintOf(p.err)})
	}
	return res, nil
}

// foresee fills in the images that are there already, and the secrets as they would be.
func (s *Server) foresee(ctx context.Context, wish *maru.Deployment, services map[string]maru.Service, req *maruv1.PlanRequest) ([]problem, error) {
	var problems []problem
	images := newImageWork(s, wish.Scope, &maruv1.DeployRequest{Scope: req.Scope, Sources: req.Sources}, nil)
	wish.Images = images.present(ctx, services)
	services, err := images.presentMounts(ctx, services)
	if err != nil {
		return nil, err
	}
	wish.App = withServices(wish.App, services)
	wish.Sources = images.origins(services)
	wish.Secrets = map[string]maru.SecretVersion{}
	for _, key := range usedSecrets(services) {
		version, err := s.foreseeSecret(ctx, wish, key, req.Secrets)
		if maru.KindOf(err) == maru.Invalid {
			problems = append(problems, problem{err: err})
			continue
		}
		if err != nil {
			return nil, err
		}
		wish.Secrets[key] = version
	}
	return problems, nil
}

// foreseeSecret gives the version that a secret would have.
func (s *Server) foreseeSecret(ctx context.Context, wish *maru.Deployment, key string, values map[string][]byte) (maru.SecretVersion, error) {
	ref := wish.App.Secrets[key]
	name := orDefault(ref.Name, key)
	value, brought := values[key]
	// Who may only look must not be told whether a value is the right one.
	if c, _ := callerOf(ctx); !brought || ref.External || !c.Role.Includes(maru.RoleDeploy) {
		return s.secretVersion(ctx, wish.Scope, "", name)
	}
	same, err := s.deps.Secrets.SecretEquals(ctx, wish.Scope, name, value)
	if maru.KindOf(err) == maru.NotFound {
		return maru.SecretVersion{Name: name, Version: 1}, nil
	}
	if err != nil {
		return maru.SecretVersion{}, err
	}
	version, err := s.secretVersion(ctx, wish.Scope, "", name)
	if !same {
		version.Version++
	}
	return version, err
}
