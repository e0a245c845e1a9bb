package server

import (
	"context"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// secretService keeps secrets. Values are never given back.
type secretService struct{ *Server }

// vault has the secrets of instances, or those of workflows.
func (s secretService) vault(ci bool) (Secrets, error) {
	if !ci {
		return s.deps.Secrets, nil
	}
	if s.deps.WorkflowSecrets == nil {
		return nil, unsupported("pipelines")
	}
	return s.deps.WorkflowSecrets, nil
}

// secretName gives the name as it is kept: those of workflows have no case.
func secretName(ci bool, name string) (string, error) {
	if ci {
		name = strings.ToUpper(name)
		return name, maru.CheckWorkflowName("secret", name)
	}
	return name, maru.CheckName("secret", name)
}

const maxSecret = 512 << 10

func (s secretService) Set(ctx context.Context, req *maruv1.SecretServiceSetRequest) (*maruv1.SecretServiceSetResponse, error) {
	name, err := secretName(req.Ci, req.Name)
	if err == nil {
		err = checkSecret(name, req.Value)
	}
	if err != nil {
		return nil, err
	}
	vault, err := s.vault(req.Ci)
	if err != nil {
		return nil, err
	}
	version, changed, err := vault.SetSecret(ctx, callerName(ctx), fromScope(req.Scope), name, req.Value)
	return &maruv1.SecretServiceSetResponse{Version: int32(version), Unchanged: !changed}, err
}

func checkSecret(name string, value []byte) error {
	if len(value) > maxSecret {
		return maru.Errorf(maru.Exhausted, "secret %q has %d bytes; at most %d are allowed", name, len(value), maxSecret)
	}
	return nil
}

func (s secretService) List(ctx context.Context, req *maruv1.SecretServiceListRequest) (*maruv1.SecretServiceListResponse, error) {
	vault, err := s.vault(req.Ci)
	if err != nil {
		return nil, err
	}
	all, err := vault.Secrets(ctx, fromScope(req.Scope))
	res := &maruv1.SecretServiceListResponse{}
	for _, i := range all {
		res.Secrets = append(res.Secrets, &maruv1.Secret{
			Scope: scopeProto(i.Scope), Name: i.Name, Version: int32(i.Version), Updated: timeProto(i.Updated), By: i.By,
		})
	}
	return res, err
}

func (s secretService) Remove(ctx context.Context, req *maruv1.SecretServiceRemoveRequest) (*maruv1.SecretServiceRemoveResponse, error) {
	scope := fromScope(req.Scope)
	vault, err := s.vault(req.Ci)
	if err != nil {
		return nil, err
	}
	var inUse []string
	if !req.Ci {
		if inUse, err = s.secretsInUse(ctx, scope); err != nil {
			return nil, err
		}
	}
	for _, name := range req.Names {
		if slices.Contains(inUse, name) {
			return nil, maru.WithHint(maru.Errorf(maru.Conflict, "secret %q is used by a release", name),
				"deploy the app without it first; releases that one can roll back to count too")
		}
	}
	for _, name := range req.Names {
		if req.Ci {
			name = strings.ToUpper(name)
		}
		if err := vault.RemoveSecret(ctx, callerName(ctx), scope, name); err != nil {
			return nil, err
		}
	}
	return &maruv1.SecretServiceRemoveResponse{}, nil
}

// secretsInUse names the secrets that releases of the app use, or for what an environment's apps share,
// of any of them.
func (s *Server) secretsInUse(ctx context.Context, scope maru.Scope) ([]string, error) {
	scopes := []maru.Scope{scope}
	if scope.App == "" {
		apps, err := s.deps.State.Apps(ctx, scope)
		if err != nil {
			return nil, err
		}
		scopes = nil
		for _, a := range apps {
			scopes = append(scopes, a.Scope)
		}
	}
	var names []string
	for _, in := range scopes {
		versions, err := s.deps.Jobs.SecretsInUse(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			names = append(names, v.Name)
		}
	}
	return names, nil
}
