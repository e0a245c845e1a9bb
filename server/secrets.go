package server

import (
	"context"
	"slices"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// secretService keeps secrets. Values are never given back.
type secretService struct{ *Server }

const maxSecret = 512 << 10

func (s secretService) Set(ctx context.Context, req *maruv1.SecretServiceSetRequest) (*maruv1.SecretServiceSetResponse, error) {
	if err := checkSecret(req.Name, req.Value); err != nil {
		return nil, err
	}
	version, changed, err := s.deps.Secrets.SetSecret(ctx, callerName(ctx), fromScope(req.Scope), req.Name, req.Value)
	return &maruv1.SecretServiceSetResponse{Version: int32(version), Unchanged: !changed}, err
}

func checkSecret(name string, value []byte) error {
	if err := maru.CheckName("secret", name); err != nil {
		return err
	}
	if len(value) > maxSecret {
		return maru.Errorf(maru.Exhausted, "secret %q has %d bytes; at most %d are allowed", name, len(value), maxSecret)
	}
	return nil
}

func (s secretService) List(ctx context.Context, req *maruv1.SecretServiceListRequest) (*maruv1.SecretServiceListResponse, error) {
	all, err := s.deps.Secrets.Secrets(ctx, fromScope(req.Scope))
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
	inUse, err := s.secretsInUse(ctx, scope)
	if err != nil {
		return nil, err
	}
	for _, name := range req.Names {
		if slices.Contains(inUse, name) {
			return nil, maru.WithHint(maru.Errorf(maru.Conflict, "secret %q is used by a release", name),
				"deploy the app without it first; releases that one can roll back to count too")
		}
	}
	for _, name := range req.Names {
		if err := s.deps.Secrets.RemoveSecret(ctx, callerName(ctx), scope, name); err != nil {
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
