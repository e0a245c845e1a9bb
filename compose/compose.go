// Package compose reads what the user writes: Compose Specification files, with Maru's own keys under
// x-maru, become a [maru.App].
//
// compose-go does the reading: overrides, include, extends, profiles, interpolation. Beside it this
// package keeps the files' YAML nodes, merged the same way, so that each error and warning is told at
// file, line and column. One table says of every key of the specification whether it is honored,
// warned about or refused; docs/compose.md is made from it.
package compose

import (
	"context"
	"io"
	"maps"
	"slices"

	"github.com/marucloud/maru"
)

// Options say what to load. The zero value loads the compose file of the working directory.
type Options struct {
	// Files are the compose files, later ones over earlier ones, relative to Dir; "-" is Stdin. Empty:
	// those of COMPOSE_FILE, else the first of compose.yaml, compose.yml, docker-compose.yaml and
	// docker-compose.yml in Dir or the nearest folder above it, with its override file.
	Files []string
	// Dir is the folder to look from; default the working directory. Relative paths in the files are
	// relative to the first file's folder, as in Docker Compose.
	Dir string
	// Root is the folder, absolute, that all files and build contexts have to be in, also by way of symbolic
	// links, and no bind mount may be of: it is not the user's, but one that is laid out for a while. Empty:
	// any folder.
	Root string
	// Stdin is read for the file "-".
	Stdin io.Reader
	// Profiles are the active profiles. Empty: those of COMPOSE_PROFILES.
	Profiles []string
	// EnvFiles give values to variables, later ones over earlier ones. Empty: .env beside the first file.
	EnvFiles []string
	// Env is the process environment. Its values win over Values, and those over EnvFiles.
	Env map[string]string
	// Values are the values that were set on the server for the environment, by maru env set.
	Values map[string]string
	// Name is the app's name. Empty: COMPOSE_PROJECT_NAME, else the file's name key, else the folder's name.
	Name string
	// Environment is where the app is to live; default production. Files see it as MARU_ENVIRONMENT.
	Environment string
}

// Result is what was loaded.
type Result struct {
	App      maru.App
	Warnings []Issue
	// SecretValues are the contents of the App's secrets that come from a file or a variable, by their
	// key in App.Secrets. They are never part of App.
	SecretValues map[string][]byte
	// BuildSecrets are the contents of build secrets, by service and by [maru.BuildSecret] ID.
	BuildSecrets map[string]map[string][]byte
	// Files are all files that were read, absolute and sorted: compose and env files, configs, secrets.
	Files []string
	// Bound are the host paths of the App's bind mounts, sorted.
	Bound []string
	// Watch says what of each service follows changes of files while one works on it, as develop.watch
	// has it, in its order. Services without such rules are left out.
	Watch map[string][]WatchRule
	// CI is who runs the app's pipelines, as x-maru.ci says: "maru", "github", "none" or "".
	CI string
}

// Load reads the files and gives the app. Its error is an [*Issues] with every fault found, not only
// the first, of kind Invalid, or Unsupported when all that is wrong is what Maru does not do; only the
// end of ctx is another error. The same input gives a byte-identical App in its JSON form.
func Load(ctx context.Context, o Options) (Result, error) {
	l := newLoad(o)
	if err := l.run(ctx); err != nil {
		return Result{}, err
	}
	if len(l.errors) > 0 {
		return Result{}, newIssues(l.errors)
	}
	sortIssues(l.warnings)
	return Result{
		App:          l.app,
		Warnings:     l.warnings,
		SecretValues: l.secrets,
		BuildSecrets: l.buildSecrets,
		Files:        slices.Sorted(maps.Keys(l.read)),
		Bound:        slices.Sorted(maps.Keys(l.bound)),
		Watch:        l.watch,
		CI:           l.ci,
	}, nil
}

// Name gives the app's name as Load would, and needs no more of the files than that: they may have
// faults, and lack values for their variables. Its error is an [*Issues].
func Name(o Options) (string, error) {
	l := newLoad(o)
	if l.prepare(context.Background()); len(l.errors) > 0 {
		return "", newIssues(l.errors)
	}
	name, ok := l.checkedName()
	if !ok {
		return "", newIssues(l.errors)
	}
	return name, nil
}
