package server

import (
	"context"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// repositoryService tells of apps' Git repositories.
type repositoryService struct{ *Server }

func (s repositoryService) repositories() (Repositories, error) {
	if s.deps.Repositories == nil {
		return nil, unsupported("Git repositories")
	}
	return s.deps.Repositories, nil
}

func (s repositoryService) Get(ctx context.Context, req *maruv1.RepositoryServiceGetRequest) (*maruv1.RepositoryServiceGetResponse, error) {
	repositories, err := s.repositories()
	if err != nil {
		return nil, err
	}
	r, err := repositories.Repository(ctx, repositoryOf(req.Scope))
	if err != nil {
		return nil, err
	}
	return &maruv1.RepositoryServiceGetResponse{Repository: repositoryProto(r)}, nil
}

func (s repositoryService) Protect(ctx context.Context, req *maruv1.RepositoryServiceProtectRequest) (*maruv1.RepositoryServiceProtectResponse, error) {
	repositories, err := s.repositories()
	if err != nil {
		return nil, err
	}
	r, err := repositories.Protect(ctx, repositoryOf(req.Scope), req.Pattern, !req.Release)
	if err != nil {
		return nil, err
	}
	return &maruv1.RepositoryServiceProtectResponse{Repository: repositoryProto(r)}, nil
}

// repositoryOf names the repository of an app, which has its commits for all environments.
func repositoryOf(scope *maruv1.Scope) maru.RepositoryID {
	return maru.RepositoryID{Project: scope.GetProject(), App: scope.GetApp()}
}

func repositoryProto(r maru.Repository) *maruv1.Repository {
	p := &maruv1.Repository{Project: r.ID.Project, App: r.ID.App, DefaultBranch: valid(r.Default), Protected: r.Protected}
	for _, b := range r.Branches {
		p.Branches = append(p.Branches, &maruv1.Branch{Name: valid(b.Name), Commit: b.Commit, Environment: b.Environment, Protected: b.Protected})
	}
	return p
}
