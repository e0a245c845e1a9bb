package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/compose"
	"github.com/marucloud/maru/delivery/follow"
	"github.com/marucloud/maru/delivery/registry"
	"github.com/marucloud/maru/delivery/run"
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/plan"
	"github.com/marucloud/maru/server"
)

// newRuns opens the Git repositories, and makes what carries out what follows from pushes to them.
func (c *controlPlane) newRuns(data string) (err error) {
	if c.repositories, err = source.Open(source.Config{Folder: filepath.Join(data, "git")}, c.log); err != nil {
		return err
	}
	c.runs, err = run.New(run.Config{Folder: filepath.Join(data, "runs")}, c.store, c.repositories, deployer{c}, c.log)
	if err != nil {
		return err
	}
	c.follower = follow.New(follow.Config{}, c.store, c.repositories, c.runs, c.secretOf, c.log)
	return nil
}

// secretOf gives the value of a secret that an app sees.
func (c *controlPlane) secretOf(ctx context.Context, scope maru.Scope, name string) ([]byte, error) {
	info, err := c.vault.Visible(ctx, scope, name)
	if err != nil {
		return nil, err
	}
	return c.vault.Value(ctx, scope, name, info.Version)
}

// deployer has the server deploy commits.
type deployer struct{ plane *controlPlane }

func (d deployer) Load(ctx context.Context, folder string, r maru.Run) (run.Loaded, error) {
	scope := r.Scope
	values, err := d.plane.server.Values(ctx, scope, entryOf(r))
	if err != nil {
		return run.Loaded{}, err
	}
	if r.Domain != "" {
		values["MARU_DOMAIN"] = r.Domain
	}
	loaded, err := compose.Load(ctx, compose.Options{Dir: folder, Root: folder, Values: values, Environment: scope.Environment})
	if err != nil {
		return run.Loaded{}, err
	}
	if loaded.App.Name != scope.App {
		return run.Loaded{}, maru.WithHint(maru.Errorf(maru.Invalid, "the compose file is of the app %s, and the repository of %s", loaded.App.Name, scope.App),
			"push to "+source.Prefix+loaded.App.Name+".git, or correct the name in the file")
	}
	l := run.Loaded{App: placed(loaded.App, r), Secrets: loaded.SecretValues, BuildSecrets: loaded.BuildSecrets, CI: loaded.CI}
	for _, warning := range loaded.Warnings {
		l.Warnings = append(l.Warnings, warning.String())
	}
	return l, nil
}

// placed gives the app with its routes where the run's environment has them. Production has them where the file does.
func placed(app maru.App, r maru.Run) maru.App {
	domain := r.Domain
	if r.Scope.Environment == maru.DefaultEnvironment {
		domain = ""
	}
	return plan.Place(app, domain, r.Preview != nil)
}

// Verify implements [run.Deployer].
func (d deployer) Verify(ctx context.Context, check run.Check, tell func(maru.RunLogLine)) (map[string]string, error) {
	r := check.Run
	v := verification{pipelines: d.plane.pipelines, check: check, tell: tell}
	var err error
	if v.vars, err = d.plane.server.WorkflowVars(ctx, r.Scope); err != nil {
		return nil, err
	}
	if check.Protected {
		if v.secrets, err = d.plane.workflowSecrets.Values(ctx, r.Scope); err != nil {
			return nil, err
		}
	}
	err = v.run(ctx)
	return v.images, err
}

// Build implements [run.Deployer].
func (d deployer) Build(ctx context.Context, r maru.Run, folder string, l run.Loaded, tell func(maru.RunLogLine)) error {
	return d.plane.server.BuildCommit(ctx, commitOf(r, folder, l), tell)
}

func (d deployer) Release(ctx context.Context, r maru.Run, origin maru.Origin, folder string, l run.Loaded, tell func(maru.RunLogLine)) (int, error) {
	c := commitOf(r, folder, l)
	c.Origin = origin
	return d.plane.server.ReleaseCommit(ctx, c, tell)
}

func commitOf(r maru.Run, folder string, l run.Loaded) server.Commit {
	return server.Commit{
		Scope: r.Scope, Again: r.Again, Folder: folder, App: l.App, Secrets: l.Secrets, BuildSecrets: l.BuildSecrets, By: r.By, Message: r.Message,
		Of: entryOf(r), Seed: r.Preview != nil && r.Preview.Clone == "", Images: imagesOf(r),
	}
}

// entryOf is the environments entry whose values and secrets a run's environment sees beside its own.
func entryOf(r maru.Run) string {
	if r.Preview == nil {
		return ""
	}
	return r.Preview.Of
}

// imagesOf are the images that a run does not choose.
func imagesOf(r maru.Run) map[string]string {
	if r.From == nil {
		return nil
	}
	return r.From.Images
}

func (d deployer) Presence(ctx context.Context, scope maru.Scope) (run.Presence, error) {
	deployed, volumes, err := d.plane.server.Present(ctx, scope)
	switch {
	case deployed:
		return run.Deployed, err
	case volumes:
		return run.Volumes, err
	}
	return run.Absent, err
}

func (d deployer) Begin(ctx context.Context, scope maru.Scope, clone string) error {
	return d.plane.server.BeginWith(ctx, scope, clone)
}

func (d deployer) Remove(ctx context.Context, scope maru.Scope) error {
	return d.plane.server.RemoveEnvironment(ctx, scope)
}

func (d deployer) Serving(ctx context.Context, scope maru.Scope) (run.Serving, error) {
	s, err := d.plane.server.Serving(ctx, scope)
	return run.Serving(s), err
}

func (d deployer) Follow(ctx context.Context, r maru.Run, rollout int, tell func(maru.RunLogLine)) error {
	return d.plane.server.FollowRollout(ctx, r.Scope, rollout, tell)
}

// own is the server as a service of the gateway. No app can have an empty scope.
var own = maru.ServiceID{Service: "maru"}

// ownRoutes leads what is for the server itself there, on the machine's own names. An app that has the very
// same route is older, and keeps it. Tokens don't go by the network in the clear.
func ownRoutes(p *platform) maru.ServiceTraffic {
	t := maru.ServiceTraffic{
		Service: own, Ports: []maru.Port{{Port: 1, Protocol: maru.TCP, App: "http"}},
		Endpoints: []maru.Endpoint{{Instance: "maru-server", Socket: p.layout.GatewaySocket(), Ready: true}},
		Since:     time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), // younger than any app
		Retry:     maru.Retry{Attempts: -1},
	}
	add := func(host string, secured *maru.RouteTLS) {
		for _, path := range []string{source.Prefix, registry.Prefix} {
			t.Routes = append(t.Routes, maru.Route{Host: host, Path: path, TLS: secured})
		}
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		add(host, nil)
	}
	if host, err := os.Hostname(); err == nil && host != "localhost" {
		secured := true
		add(host, &maru.RouteTLS{Redirect: &secured})
	}
	return t
}

// registryHosts are the hosts by which references of images name the registry: the machine's own names, at the
// gateway and the API. Without a port localhost is what other programs call images that are in no registry.
func (p *platform) registryHosts() []string {
	names := []string{"localhost", "127.0.0.1", "[::1]"}
	machine, err := os.Hostname()
	if err == nil && machine != "localhost" {
		names = append(names, machine)
	}
	var hosts []string
	for _, address := range []string{p.http, p.https, p.api} {
		port := portOf(address)
		if port == 0 {
			continue
		}
		for _, name := range names {
			hosts = append(hosts, name+":"+strconv.Itoa(int(port)))
		}
		if port == 80 || port == 443 {
			hosts = append(hosts, machine)
		}
	}
	return hosts
}

// withoutOwn keeps the server's own routes from a data plane that has no gateway.
type withoutOwn struct{ maru.DataPlane }

func (w withoutOwn) Update(u maru.TrafficUpdate) error {
	u.Services = slices.DeleteFunc(slices.Clone(u.Services), func(t maru.ServiceTraffic) bool { return t.Service == own })
	return w.DataPlane.Update(u)
}
