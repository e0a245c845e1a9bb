package cli

import (
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/compose"
	"github.com/marucloud/maru/internal/source"
)

// devIgnored is what nobody means when they save: what version control and editors keep beside files.
var devIgnored = []string{"**/.git", "**/.hg", "**/.svn", "**/*~", "**/.*.sw?", "**/.*.swpx", "**/4913", "**/.#*", "**/#*#", "**/.DS_Store", "**/___jb_*"}

// devRule is a rule of a service, ready to be held against paths.
type devRule struct {
	compose.WatchRule
	service string
	context string         // of the build that Path is in; "": none
	build   *source.Filter // what that build is given; nil: all
	ignore  *patternmatcher.PatternMatcher
	include *patternmatcher.PatternMatcher // nil: everything
}

// devRules gives the rules of the services, sorted by service and in the file's order. A service that is
// built and has no rules is built anew when what it is built from changes.
func devRules(loaded compose.Result, services []string) ([]*devRule, error) {
	var rules []*devRule
	for _, name := range slices.Sorted(maps.Keys(loaded.App.Services)) {
		if len(services) > 0 && !slices.Contains(services, name) {
			continue
		}
		service := loaded.App.Services[name]
		written := loaded.Watch[name]
		if len(written) == 0 {
			folders := buildFolders(maru.App{Services: map[string]maru.Service{name: service}}, nil)
			for _, folder := range slices.Sorted(maps.Keys(folders)) {
				written = append(written, compose.WatchRule{Path: folder, Action: compose.Rebuild})
			}
		}
		for _, w := range written {
			r, err := newDevRule(name, service.Build, w)
			if err != nil {
				return nil, err
			}
			rules = append(rules, r)
		}
	}
	return rules, nil
}

func newDevRule(service string, build *maru.Build, written compose.WatchRule) (*devRule, error) {
	r := &devRule{WatchRule: written, service: service}
	var err error
	if r.ignore, err = patternmatcher.New(slices.Concat(devIgnored, written.Ignore)); err != nil {
		return nil, maru.Errorf(maru.Invalid, "the patterns that %s ignores: %w", service, err)
	}
	if len(written.Include) > 0 {
		if r.include, err = patternmatcher.New(written.Include); err != nil {
			return nil, maru.Errorf(maru.Invalid, "the patterns that %s includes: %w", service, err)
		}
	}
	if build != nil {
		for folder, dockerfile := range buildFolders(maru.App{Services: map[string]maru.Service{service: {Build: build}}}, nil) {
			if _, inside := below(folder, written.Path); inside && len(folder) > len(r.context) {
				r.context = folder
				if r.build, err = source.NewFilter(folder, source.ScanOptions{Dockerfile: dockerfile}); err != nil {
					return nil, err
				}
			}
		}
	}
	return r, nil
}

// below gives the path within a folder, with forward slashes; "." for the folder itself.
func below(folder, name string) (string, bool) {
	relative, err := filepath.Rel(folder, name)
	relative = filepath.ToSlash(relative)
	return relative, err == nil && relative != ".." && !strings.HasPrefix(relative, "../")
}

// matches tells whether a change of the path is one that the rule follows.
func (r *devRule) matches(name string) bool {
	relative, inside := below(r.Path, name)
	if !inside || r.ignores(name, relative) {
		return false
	}
	if r.include == nil || relative == "." {
		return true
	}
	included, err := r.include.MatchesOrParentMatches(relative)
	return err == nil && included
}

func (r *devRule) ignores(name, relative string) bool {
	if relative != "." {
		if ignored, err := r.ignore.MatchesOrParentMatches(relative); err != nil || ignored {
			return true
		}
	}
	if r.build == nil {
		return false
	}
	inContext, _ := below(r.context, name)
	if inContext == "." {
		return false
	}
	kept, err := r.build.Keeps(inContext)
	return err != nil || !kept
}

// skips tells whether nothing below the folder can match.
func (r *devRule) skips(folder string) bool {
	relative, inside := below(r.Path, folder)
	if !inside {
		return true
	}
	if relative == "." {
		return false
	}
	if ignored, err := r.ignore.MatchesOrParentMatches(relative); err == nil && ignored && !r.ignore.Exclusions() {
		return true
	}
	if r.build != nil {
		inContext, _ := below(r.context, folder)
		if kept, err := r.build.Keeps(inContext); err == nil && !kept && r.build.Skips(inContext) {
			return true
		}
	}
	return false
}

// target gives the place of a path in the instances.
func (r *devRule) target(name string) string {
	relative, _ := below(r.Path, name)
	return path.Join(r.Target, relative)
}

// devApp is the app as it runs for who works on it: no route or port of it is one of another environment,
// and what is synced to has the helper that does it.
func devApp(app maru.App, rules []*devRule, o devOptions) maru.App {
	app.Services = maps.Clone(app.Services)
	for name, service := range app.Services {
		service.Routes = slices.Clone(service.Routes)
		for i, r := range service.Routes {
			service.Routes[i].Host = devHost(app.Name, r.Host, o.domain)
		}
		if !o.publish {
			service.Publish = slices.Clone(service.Publish)
			for i := range service.Publish {
				service.Publish[i].HostPort = 0
			}
		}
		if slices.ContainsFunc(rules, func(r *devRule) bool { return r.service == name && r.Action != compose.Rebuild }) {
			service.Container.Init = true
		}
		app.Services[name] = service
	}
	return app
}

// devHost gives the host of a route below the domain: shop.localhost becomes shop.DOMAIN, what is
// elsewhere keeps all of its name before it, and a route for every host has the app's name.
func devHost(app, host, domain string) string {
	if host == "" || host == "localhost" {
		host = strings.NewReplacer(".", "-", "_", "-").Replace(app)
	}
	return strings.TrimSuffix(host, ".localhost") + "." + domain
}
