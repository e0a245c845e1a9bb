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

// envKey names the values of a scope, or with ci the variables of its workflows.
func envKey(s maru.Scope, ci bool) maru.Key {
	if ci {
		return maru.Key{Kind: kindVars, Name: s.String()}
	}
	return maru.Key{Kind: kindEnv, Name: s.String()}
}

// valueName gives the name as it is kept: those of workflows have no case.
func valueName(ci bool, name string) (string, error) {
	if ci {
		name = strings.ToUpper(name)
		return name, maru.CheckWorkflowName("variable", name)
	}
	if !variableForm.MatchString(name) {
		return name, maru.WithHint(maru.Errorf(maru.Invalid, "variable name %q is not allowed", name), "use letters, digits and '_', not beginning with a digit")
	}
	return name, nil
}

func (s envService) Set(ctx context.Context, req *maruv1.EnvServiceSetRequest) (*maruv1.EnvServiceSetResponse, error) {
	values := map[string]string{}
	for given, value := range req.Values {
		name, err := valueName(req.Ci, given)
		if err != nil {
			return nil, err
		}
		values[name] = value
		if strings.ContainsRune(value, 0) {
			return nil, maru.Errorf(maru.Invalid, "the value of %s has a zero byte", name)
		}
	}
	err := update(ctx, s.deps.Store, envKey(fromScope(req.Scope), req.Ci), func(now map[string]string) (map[string]string, bool) {
		next := maps.Clone(now)
		if next == nil {
			next = map[string]string{}
		}
		maps.Copy(next, values)
		return next, len(next) > 0
	})
	return &maruv1.EnvServiceSetResponse{}, err
}

func (s envService) List(ctx context.Context, req *maruv1.EnvServiceListRequest) (*maruv1.EnvServiceListResponse, error) {
	scope := fromScope(req.Scope)
	values, _, err := load[map[string]string](ctx, s.deps.Store, envKey(scope, req.Ci))
	if err != nil || !req.Effective || scope.App == "" {
		return &maruv1.EnvServiceListResponse{Values: values}, err
	}
	all, _, err := load[map[string]string](ctx, s.deps.Store, envKey(sharedBy(scope), req.Ci))
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
	err := update(ctx, s.deps.Store, envKey(fromScope(req.Scope), req.Ci), func(now map[string]string) (map[string]string, bool) {
		next := maps.Clone(now)
		missing = ""
		for _, name := range req.Names {
			if req.Ci {
				name = strings.ToUpper(name)
			}
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
