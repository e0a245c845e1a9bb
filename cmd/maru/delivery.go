package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/compose"
	"github.com/marucloud/maru/delivery/run"
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/server"
)

// newRuns opens the Git repositories, and makes what carries out what follows from pushes to them.
func (c *controlPlane) newRuns(data string) (err error) {
	if c.repositories, err = source.Open(source.Config{Folder: filepath.Join(data, "git")}, c.log); err != nil {
		return err
	}
	c.runs, err = run.New(run.Config{Folder: filepath.Join(data, "runs")}, c.store, c.repositories, deployer{c}, c.log)
	return err
}

// deployer has the server deploy commits.
type deployer struct{ plane *controlPlane }

func (d deployer) Load(ctx context.Context, folder string, scope maru.Scope) (run.Loaded, error) {
	values, err := d.plane.server.Values(ctx, scope)
	if err != nil {
		return run.Loaded{}, err
	}
	loaded, err := compose.Load(ctx, compose.Options{Dir: folder, Root: folder, Values: values, Environment: scope.Environment})
	if err != nil {
		return run.Loaded{}, err
	}
	if loaded.App.Name != scope.App {
		return run.Loaded{}, maru.WithHint(maru.Errorf(maru.Invalid, "the compose file is of the app %s, and the repository of %s", loaded.App.Name, scope.App),
			"push to "+source.Prefix+loaded.App.Name+".git, or correct the name in the file")
	}
	l := run.Loaded{App: loaded.App, Secrets: loaded.SecretValues, BuildSecrets: loaded.BuildSecrets, CI: loaded.CI}
	for _, warning := range loaded.Warnings {
		l.Warnings = append(l.Warnings, warning.String())
	}
	return l, nil
}

// Verify implements [run.Deployer].
func (d deployer) Verify(ctx context.Context, check run.Check, tell func(maru.RunLogLine)) error {
	r := check.Run
	_, standard, err := d.plane.repositories.Branches(ctx, maru.RepositoryID{Project: r.Scope.Project, App: r.Scope.App})
	if err != nil {
		return err
	}
	v := verification{pipelines: d.plane.pipelines, check: check, defaultBranch: standard, tell: tell}
	if v.vars, err = d.plane.server.WorkflowVars(ctx, r.Scope); err != nil {
		return err
	}
	if check.Protected {
		if v.secrets, err = d.plane.workflowSecrets.Values(ctx, r.Scope); err != nil {
			return err
		}
	}
	return v.run(ctx)
}

func (d deployer) Release(ctx context.Context, r maru.Run, folder string, l run.Loaded, tell func(maru.RunLogLine)) (int, error) {
	return d.plane.server.ReleaseCommit(ctx, server.Commit{
		Scope: r.Scope, Name: r.Commit, Folder: folder, App: l.App, Secrets: l.Secrets, BuildSecrets: l.BuildSecrets, By: r.By, Message: r.Message,
	}, tell)
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
		t.Routes = append(t.Routes, maru.Route{Host: host, Path: source.Prefix, TLS: secured})
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

// withoutOwn keeps the server's own routes from a data plane that has no gateway.
type withoutOwn struct{ maru.DataPlane }

func (w withoutOwn) Update(u maru.TrafficUpdate) error {
	u.Services = slices.DeleteFunc(slices.Clone(u.Services), func(t maru.ServiceTraffic) bool { return t.Service == own })
	return w.DataPlane.Update(u)
}
