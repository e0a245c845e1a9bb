package server

import (
	"context"
	"maps"
	"slices"

	"github.com/marucloud/maru"
)

// problem is why an app can't be deployed.
type problem struct {
	service string
	err     error
}

// problems tells what keeps the services from being deployed by this caller: parts of the host that
// were not granted, and folders of a machine that is not this one.
func (s *Server) problems(ctx context.Context, scope maru.Scope, services map[string]maru.Service) ([]problem, error) {
	var all []problem
	c, _ := callerOf(ctx)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if c.Method != viaToken {
			break
		}
		for _, m := range services[name].Container.Mounts {
			if m.Kind == maru.BindMount {
				all = append(all, problem{name, maru.WithHint(
					maru.Errorf(maru.Denied, "service %s mounts %s, a folder of the machine that you are on: the server is another", name, m.Source),
					"use a config or a volume, or copy the files into the image")})
			}
		}
	}
	err := s.deps.Grants.Check(ctx, scope, services)
	if maru.KindOf(err) == maru.Denied {
		return append(all, problem{err: err}), nil
	}
	return all, err
}
