package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/compose"
)

// place is the scope without an app.
func (s *shell) place() *maruv1.Scope {
	p := &maruv1.Scope{Project: s.project, Environment: s.environment}
	if p.Project == "" {
		p.Project = maru.DefaultProject
	}
	if p.Environment == "" {
		p.Environment = maru.DefaultEnvironment
	}
	return p
}

// scopeOrAll is that of the app which the command is about, or where none is meant that of all.
func (s *shell) scopeOrAll(ctx context.Context) (*maruv1.Scope, error) {
	scope, err := s.scope(ctx)
	if err != nil && len(s.files) == 0 {
		return s.place(), nil
	}
	return scope, err
}

// scope is that of the app which the command is about: named by --app, or by the compose file here,
// or the only one there is.
func (s *shell) scope(ctx context.Context) (*maruv1.Scope, error) {
	p := s.place()
	if s.app != "" {
		p.App = s.app
		return p, nil
	}
	name, nameErr := compose.Name(s.composeOptions(nil))
	if nameErr == nil {
		p.App = name
		return p, nil
	}
	if len(s.files) > 0 {
		return nil, nameErr
	}
	connected, err := s.connect()
	if err != nil {
		return nil, err
	}
	list, err := connected.Apps.List(ctx, &maruv1.ListRequest{Scope: p})
	if err != nil {
		return nil, err
	}
	switch len(list.Apps) {
	case 0:
		return nil, maru.WithHint(maru.Errorf(maru.NotFound, "there is no app in %s/%s", p.Project, p.Environment), "deploy one with 'maru deploy'")
	case 1:
		return list.Apps[0].Scope, nil
	}
	var names []string
	for _, a := range list.Apps {
		names = append(names, a.Scope.App)
	}
	return nil, misuse{maru.WithHint(maru.Errorf(maru.Invalid, "there are several apps: %s", strings.Join(names, ", ")),
		"say which with --app, or go to the folder of its compose file")}
}

func (s *shell) composeOptions(values map[string]string) compose.Options {
	o := compose.Options{Files: s.files, Profiles: s.profiles, EnvFiles: s.envFiles, Env: map[string]string{},
		Values: values, Name: s.app, Environment: s.place().Environment, Stdin: s.Stdin}
	for _, variable := range s.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		o.Env[name] = value
	}
	return o
}

// load reads the compose file, with the values that the server has for its variables.
func (s *shell) load(ctx context.Context) (compose.Result, error) {
	connected, err := s.connect()
	if err != nil {
		return compose.Result{}, err
	}
	scope := s.place()
	if scope.App, err = compose.Name(s.composeOptions(nil)); err != nil {
		return compose.Result{}, err
	}
	values, err := connected.Env.List(ctx, &maruv1.EnvServiceListRequest{Scope: scope, Effective: true})
	if err != nil {
		return compose.Result{}, err
	}
	return compose.Load(ctx, s.composeOptions(values.Values))
}

// showWarnings tells what of the file does not have the effect that its author may expect.
func (s *shell) showWarnings(warnings []compose.Issue) {
	if s.quiet {
		return
	}
	style := styles(s.Stderr)
	for _, w := range warnings {
		line := style.warn("warning:") + " " + w.String()
		if w.Hint != "" {
			line += " (" + w.Hint + ")"
		}
		_, _ = s.Stderr.Write([]byte(line + "\n"))
	}
}

// statusHere is the status of the app that the command is about.
func (s *shell) statusHere(ctx context.Context) (*maruv1.AppStatus, error) {
	scope, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	connected, err := s.connect()
	if err != nil {
		return nil, err
	}
	response, err := connected.Apps.Status(ctx, &maruv1.StatusRequest{Scope: scope})
	if err != nil {
		return nil, err
	}
	return response.App, nil
}

// onApp runs a command that is about one app of a connected server.
func (s *shell) onApp(run func(ctx context.Context, call appCall) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		connected, err := s.connect()
		if err != nil {
			return err
		}
		scope, err := s.scope(c.Context())
		if err != nil {
			return err
		}
		return run(c.Context(), appCall{connected, scope, args})
	}
}

// appCall is what a command about one app works with.
type appCall struct {
	*client.Client
	scope *maruv1.Scope
	args  []string
}
