package compose

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// convert makes the app of what was read.
func (l *load) convert(context.Context) {
	known := len(l.errors)
	if l.check(); len(l.errors) > known {
		return
	}
	l.app.Services = map[string]maru.Service{}
	l.app.Networks = map[string]maru.Network{}
	l.app.Volumes = map[string]maru.Volume{}
	l.app.Configs = map[string]maru.Config{}
	l.app.Secrets = map[string]maru.SecretRef{}
	all := map[string]*service{}
	for _, name := range sortedKeys(l.proj.Services) {
		if err := maru.CheckName("service", name); err != nil {
			l.failErr(l.place("services", name), "services."+name, maru.Invalid, err)
		}
		all[name] = &service{l: l, name: name, in: l.proj.Services[name], keys: l.byName[name]}
		all[name].convert()
	}
	if len(all) == 0 {
		l.fail(l.place("services"), "", maru.Invalid, "the app has no services", "write at least one, or turn on a profile with --profile")
	}
	for _, name := range sortedKeys(all) {
		all[name].links(all)
		all[name].volumesFrom(all)
	}
	for _, name := range sortedKeys(all) {
		all[name].lifecycle()
		all[name].update()
		all[name].steps()
	}
	l.checkRoutes()
	checkHostPorts(all)
	for name, s := range all {
		l.app.Services[name] = s.out
	}
}

// service is one service on its way into the app.
type service struct {
	l    *load
	name string
	in   types.ServiceConfig
	keys maruKeys
	out  maru.Service
}

func (s *service) convert() {
	s.out = maru.Service{
		Image:      s.in.Image,
		Platform:   s.in.Platform,
		Pull:       pullPolicies[s.in.PullPolicy],
		Allow:      s.keys.allow.callers,
		AllowCalls: s.keys.allow.calls,
		Timeout:    s.keys.timeout,
		Retry:      s.keys.retry,
		Balance:    s.keys.balance,
		Limits:     s.keys.limits,
		Priority:   s.keys.priority,
		Faults:     s.keys.faults,
		Release:    s.keys.release,
		Seed:       s.keys.seed,
		After:      s.keys.after,
		Labels:     s.labels(),
	}
	if s.out.Pull == "" && s.in.PullPolicy != "" {
		s.out.Pull = "always" // daily, weekly, every_…: said in a warning
	}
	s.build()
	s.networks()
	s.ports()
	s.container()
	s.files()
	s.probes()
	s.routes()
	s.dependencies()
	s.develop()
}

var pullPolicies = map[string]string{
	"":               "",
	"always":         "always",
	"missing":        "missing",
	"if_not_present": "missing",
	"never":          "never",
	"build":          "build",
}

// at gives the place of a path in the service.
func (s *service) at(path ...string) position {
	return s.l.place(append([]string{"services", s.name}, path...)...)
}

// has tells whether the files say something at the path.
func (s *service) has(path ...string) bool {
	return s.node(path...) != nil
}

func (s *service) node(path ...string) *node {
	return s.l.src.get("services", s.name).get(path...)
}

func (s *service) path(path ...string) string {
	return s.l.pathOf(append([]string{"services", s.name}, path...))
}

// fail reports an error at a path in the service.
func (s *service) fail(kind maru.Kind, message, hint string, path ...string) {
	s.l.fail(s.at(path...), s.path(path...), kind, message, hint)
}

func (s *service) warn(message, hint string, path ...string) {
	s.l.warn(s.at(path...), s.path(path...), message, hint)
}

func (s *service) labels() map[string]string {
	labels := map[string]string{}
	if s.in.Deploy != nil {
		maps.Copy(labels, s.in.Deploy.Labels)
	}
	maps.Copy(labels, s.in.Labels)
	s.traefik(labels)
	if len(labels) == 0 {
		return nil
	}
	return labels
}

func (s *service) dependencies() {
	for _, name := range sortedKeys(s.in.DependsOn) {
		if _, ok := s.l.proj.Services[name]; !ok {
			continue // optional, and not part of the app
		}
		d := s.in.DependsOn[name]
		condition := maru.Condition(d.Condition)
		if condition == "" {
			condition = maru.Started
		}
		s.out.DependsOn = append(s.out.DependsOn, maru.Dependency{Service: name, Condition: condition, Restart: d.Restart, Optional: !d.Required})
	}
}

// links makes the aliases of links names of the linked service, on the networks that both are on.
func (s *service) links(all map[string]*service) {
	for i, link := range s.in.Links {
		target, alias, _ := strings.Cut(link, ":")
		to, ok := all[target]
		if !ok || alias == "" || alias == target {
			continue
		}
		at := []string{"links", fmt.Sprint(i)}
		for network := range s.out.Networks {
			if a, shared := to.out.Networks[network]; shared {
				a.Aliases = s.alias(a.Aliases, alias, at...)
				to.out.Networks[network] = a
			}
		}
	}
}

func withAlias(aliases []string, alias string) []string {
	if slices.Contains(aliases, alias) {
		return aliases
	}
	aliases = append(slices.Clip(aliases), alias)
	slices.Sort(aliases)
	return aliases
}

// checkRoutes reports two services that want the same requests.
func (l *load) checkRoutes() {
	taken := map[string]string{}
	for _, name := range sortedKeys(l.byName) {
		for _, r := range l.byName[name].routes {
			for _, id := range r.Claims() {
				if other, ok := taken[id]; ok && other != name && id != "/" {
					l.fail(r.at.key, r.path, maru.Invalid, fmt.Sprintf("the route %s leads to the service %s already", id, other), "give one of them a path, or another host")
				}
				taken[id] = name
			}
		}
	}
}
