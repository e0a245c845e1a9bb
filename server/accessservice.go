package server

import (
	"context"
	"slices"
	"time"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// accessService keeps tokens and grants.
type accessService struct{ *Server }

func (s accessService) WhoAmI(ctx context.Context, _ *maruv1.WhoAmIRequest) (*maruv1.WhoAmIResponse, error) {
	c, _ := callerOf(ctx)
	return &maruv1.WhoAmIResponse{Name: c.Name, Role: string(c.Role), Scope: scopeProto(c.Scope), Method: c.Method}, nil
}

func (s accessService) CreateToken(ctx context.Context, req *maruv1.CreateTokenRequest) (*maruv1.CreateTokenResponse, error) {
	t := maru.Token{Name: req.Name, Role: maru.Role(req.Role), Scope: fromScope(req.Scope), SSHKeys: req.SshKeys}
	if err := maru.CheckName("token", t.Name); err != nil {
		return nil, err
	}
	if !t.Role.Valid() {
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "role %q is unknown", req.Role), "use read, deploy or admin")
	}
	if req.Ttl != nil {
		if req.Ttl.AsDuration() <= 0 {
			return nil, maru.Errorf(maru.Invalid, "the token's life %s is over before it begins", req.Ttl.AsDuration())
		}
		t.Expires = time.Now().Add(req.Ttl.AsDuration()).UTC()
	}
	secret, made, err := s.deps.Tokens.CreateToken(ctx, callerName(ctx), t)
	if err != nil {
		return nil, err
	}
	return &maruv1.CreateTokenResponse{Secret: secret, Token: tokenProto(made)}, nil
}

func (s accessService) ListTokens(ctx context.Context, _ *maruv1.ListTokensRequest) (*maruv1.ListTokensResponse, error) {
	tokens, err := s.visibleTokens(ctx)
	res := &maruv1.ListTokensResponse{}
	for _, t := range tokens {
		res.Tokens = append(res.Tokens, tokenProto(t))
	}
	return res, err
}

func (s accessService) RevokeToken(ctx context.Context, req *maruv1.RevokeTokenRequest) (*maruv1.RevokeTokenResponse, error) {
	tokens, err := s.visibleTokens(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(tokens, func(t maru.Token) bool { return t.ID == req.Id })
	if i < 0 {
		i = slices.IndexFunc(tokens, func(t maru.Token) bool { return t.Name == req.Id })
	}
	if i < 0 {
		return nil, maru.WithHint(maru.Errorf(maru.NotFound, "token %q does not exist", req.Id), "`maru login ls` lists the tokens")
	}
	return &maruv1.RevokeTokenResponse{}, s.deps.Tokens.RevokeToken(ctx, callerName(ctx), tokens[i].ID)
}

// visibleTokens are those whose scope is within an administrator's; others see their own.
func (s accessService) visibleTokens(ctx context.Context) ([]maru.Token, error) {
	c, _ := callerOf(ctx)
	tokens, err := s.deps.Tokens.Tokens(ctx)
	return slices.DeleteFunc(slices.Clone(tokens), func(t maru.Token) bool {
		return t.ID != c.TokenID && (!c.Role.Includes(maru.RoleAdmin) || !c.Scope.Covers(t.Scope))
	}), err
}

func (s accessService) ListGrants(ctx context.Context, _ *maruv1.ListGrantsRequest) (*maruv1.ListGrantsResponse, error) {
	c, _ := callerOf(ctx)
	grants, err := s.deps.Grants.Grants(ctx)
	res := &maruv1.ListGrantsResponse{}
	for _, g := range grants {
		if c.Scope.Covers(g.Scope) || g.Scope.Covers(c.Scope) {
			res.Grants = append(res.Grants, grantProto(g))
		}
	}
	return res, err
}

func (s accessService) AddGrants(ctx context.Context, req *maruv1.AddGrantsRequest) (*maruv1.AddGrantsResponse, error) {
	scope := fromScope(req.Scope)
	if err := checkScope(scope, pattern); err != nil {
		return nil, err
	}
	for _, ability := range req.Abilities {
		if err := s.deps.Grants.AddGrant(ctx, callerName(ctx), maru.Grant{Scope: scope, Ability: ability}); err != nil {
			return nil, err
		}
	}
	return &maruv1.AddGrantsResponse{}, nil
}

func (s accessService) RemoveGrants(ctx context.Context, req *maruv1.RemoveGrantsRequest) (*maruv1.RemoveGrantsResponse, error) {
	for _, ability := range req.Abilities {
		if err := s.deps.Grants.RemoveGrant(ctx, callerName(ctx), fromScope(req.Scope), ability); err != nil {
			return nil, err
		}
	}
	return &maruv1.RemoveGrantsResponse{}, nil
}
