package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// Limits of an app. They keep a mistake from filling the machine; nobody writes that much by hand.
const (
	maxServices = 1000
	maxReplicas = 10_000
)

// checkApp holds the whole app against what the rest of the server relies on: a client may be of any
// making.
func checkApp(scope maru.Scope, app maru.App) error {
	if app.Name != scope.App {
		return maru.Errorf(maru.Invalid, "the app is named %q, not %q", app.Name, scope.App)
	}
	if len(app.Services) == 0 {
		return maru.WithHint(maru.Errorf(maru.Invalid, "app %s has no services", app.Name), "`maru rm` removes an app")
	}
	if len(app.Services) > maxServices {
		return maru.Errorf(maru.Exhausted, "app %s has %d services; at most %d are allowed", app.Name, len(app.Services), maxServices)
	}
	if err := checkNames(app); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(app.Services)) {
		if err := checkService(app, app.Services[name]); err != nil {
			return maru.Errorf(maru.KindOf(err), "service %s: %w", name, err)
		}
	}
	return nil
}

func checkNames(app maru.App) error {
	for _, group := range []struct {
		what  string
		names []string
	}{
		{"service", slices.Sorted(maps.Keys(app.Services))},
		{"network", slices.Sorted(maps.Keys(app.Networks))},
		{"volume", slices.Sorted(maps.Keys(app.Volumes))},
		{"config", slices.Sorted(maps.Keys(app.Configs))},
		{"secret", slices.Sorted(maps.Keys(app.Secrets))},
	} {
		for _, name := range group.names {
			if err := maru.CheckName(group.what, name); err != nil {
				return err
			}
		}
	}
	for _, v := range app.Volumes {
		if err := checkExternal("volume", v.Name, v.External); err != nil {
			return err
		}
	}
	for _, n := range app.Networks {
		if err := checkExternal("network", n.Name, n.External); err != nil {
			return err
		}
	}
	for key, s := range app.Secrets {
		if err := maru.CheckName("secret", orDefault(s.Name, key)); err != nil {
			return err
		}
	}
	for key, c := range app.Configs {
		if err := maru.CheckName("config", orDefault(c.Name, key)); err != nil {
			return err
		}
		if len(c.Content) > maxConfig {
			return maru.Errorf(maru.Exhausted, "config %s has %d bytes; at most %d are allowed", key, len(c.Content), maxConfig)
		}
	}
	return nil
}

func checkExternal(what, name string, external bool) error {
	if !external || name == "" {
		return nil
	}
	return maru.CheckName(what, name)
}

func checkService(app maru.App, s maru.Service) error {
	if s.Kind != maru.LongRunning && s.Kind != maru.Job {
		return maru.Errorf(maru.Invalid, "kind %q is unknown", s.Kind)
	}
	if s.Image == "" && s.Build == nil {
		return maru.WithHint(maru.Errorf(maru.Invalid, "neither image nor build is given"), "say one of them in the compose file")
	}
	if s.Replicas < 0 || s.Replicas > maxReplicas {
		return maru.Errorf(maru.Invalid, "%d replicas are not possible", s.Replicas)
	}
	for _, d := range s.DependsOn {
		if _, ok := app.Services[d.Service]; !ok && !d.Optional {
			return maru.Errorf(maru.Invalid, "it depends on service %q, which the app does not have", d.Service)
		}
	}
	for name := range s.Networks {
		if _, ok := app.Networks[name]; !ok {
			return maru.Errorf(maru.Invalid, "network %q is not defined", name)
		}
	}
	for _, key := range s.SecretKeys() {
		if _, ok := app.Secrets[key]; !ok {
			return maru.Errorf(maru.Invalid, "secret %q is not defined", key)
		}
	}
	for _, r := range s.Routes {
		if err := r.Understood(); err != nil {
			return err
		}
	}
	for _, f := range s.Configs {
		if _, ok := app.Configs[f.Source]; !ok {
			return maru.Errorf(maru.Invalid, "config %q is not defined", f.Source)
		}
	}
	return checkMounts(app, s)
}

func checkMounts(app maru.App, s maru.Service) error {
	for _, m := range s.Container.Mounts {
		if !strings.HasPrefix(m.Target, "/") {
			return maru.Errorf(maru.Invalid, "mount target %q is no absolute path", m.Target)
		}
		switch m.Kind {
		case maru.VolumeMount:
			if _, ok := app.Volumes[m.Source]; m.Source != "" && !ok {
				return maru.Errorf(maru.Invalid, "volume %q is not defined", m.Source)
			}
		case maru.BindMount:
			if !strings.HasPrefix(m.Source, "/") {
				return maru.Errorf(maru.Invalid, "bind mount source %q is no absolute path", m.Source)
			}
		case maru.TmpfsMount, maru.ImageMount:
		default:
			return maru.Errorf(maru.Invalid, "mount kind %q is unknown", m.Kind)
		}
	}
	for _, f := range slices.Concat(s.Configs, s.Secrets) {
		if !strings.HasPrefix(f.Target, "/") {
			return maru.Errorf(maru.Invalid, "target %q of %s is no absolute path", f.Target, f.Source)
		}
	}
	return nil
}

// chosen gives the services that a request is about; no names: all.
func chosen(app maru.App, names []string) (map[string]maru.Service, error) {
	if len(names) == 0 {
		return app.Services, nil
	}
	services := make(map[string]maru.Service, len(names))
	for _, name := range names {
		service, ok := app.Services[name]
		if !ok {
			return nil, maru.WithHint(maru.Errorf(maru.NotFound, "app %s has no service %q", app.Name, name),
				fmt.Sprintf("it has: %s", strings.Join(slices.Sorted(maps.Keys(app.Services)), ", ")))
		}
		services[name] = service
	}
	return services, nil
}
