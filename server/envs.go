package server

import (
	"context"
	"maps"
	"regexp"
	"strings"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// envService keeps values for ${VAR} in compose files.
type envService struct{ *Server }

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func envKey(s maru.Scope) maru.Key { return maru.Key{Kind: kindEnv, Name: s.String()} }

func (s envService) Set(ctx context.Context, req *maruv1.EnvServiceSetRequest) (*maruv1.EnvServiceSetResponse, error) {
	for name, value := range req.Values {
		if !variableForm.MatchString(name) {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "variable name %q is not allowed", name),
				"use letters, digits and '_', not beginning with a digit")
		}
		if strings.ContainsRune(value, 0) {
			return nil, maru.Errorf(maru.Invalid, "the value of %s has a zero byte", name)
		}
	}
	err := update(ctx, s.deps.Store, envKey(fromScope(req.Scope)), func(now map[string]string) (map[string]string, bool) {
		next := maps.Clone(now)
		if next == nil {
			next = map[string]string{}
		}
		maps.Copy(next, req.Values)
		return next, len(next) > 0
	})
	return &maruv1.EnvServiceSetResponse{}, err
}

func (s envService) List(ctx context.Context, req *maruv1.EnvServiceListRequest) (*maruv1.EnvServiceListResponse, error) {
	scope := fromScope(req.Scope)
	values, _, err := load[map[string]string](ctx, s.deps.Store, envKey(scope))
	if err != nil || !req.Effective || scope.App == "" {
		return &maruv1.EnvServiceListResponse{Values: values}, err
	}
	all, _, err := load[map[string]string](ctx, s.deps.Store, envKey(sharedBy(scope)))
	if err != nil {
		return nil, err
	}
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, values)
	return &maruv1.EnvServiceListResponse{Values: all}, nil
}

func (s envService) Remove(ctx context.Context, req *maruv1.EnvServiceRemoveRequest) (*maruv1.EnvServiceRemoveResponse, error) {
	missing := ""
	err := update(ctx, s.deps.Store, envKey(fromScope(req.Scope)), func(now map[string]string) (map[string]string, bool) {
		next := maps.Clone(now)
		missing = ""
		for _, name := range req.Names {
			if _, ok := next[name]; !ok {
				missing = name
				return now, len(now) > 0
			}
			delete(next, name)
		}
		return next, len(next) > 0
	})
	if err == nil && missing != "" {
		err = maru.WithHint(maru.Errorf(maru.NotFound, "%s has no value %s", scopeText(fromScope(req.Scope)), missing),
			"`maru env ls` lists the values")
	}
	return &maruv1.EnvServiceRemoveResponse{}, err
}

// sharedBy gives the scope of what all apps of the scope's environment share.
func sharedBy(s maru.Scope) maru.Scope {
	s.App = ""
	return s
}
