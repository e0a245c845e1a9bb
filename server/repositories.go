package server

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

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
	following, followErr := s.following(ctx, repositoryOf(req.Scope))
	if followErr != nil {
		return nil, followErr
	}
	if maru.KindOf(err) == maru.NotFound && following != nil {
		r, err = maru.Repository{ID: repositoryOf(req.Scope)}, nil // nothing was fetched yet
	}
	if err != nil {
		return nil, err
	}
	p := repositoryProto(r)
	p.Following = following
	return &maruv1.RepositoryServiceGetResponse{Repository: p}, nil
}

// following tells what a repository follows; nil: none.
func (s repositoryService) following(ctx context.Context, id maru.RepositoryID) (*maruv1.Following, error) {
	if s.deps.Followed == nil {
		return nil, nil
	}
	status, err := s.deps.Followed.Following(ctx, id)
	if maru.KindOf(err) == maru.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.followingProto(status), nil
}

func (s repositoryService) Follow(ctx context.Context, req *maruv1.RepositoryServiceFollowRequest) (*maruv1.RepositoryServiceFollowResponse, error) {
	if s.deps.Followed == nil {
		return nil, unsupported("following repositories")
	}
	p := req.Following
	if p == nil {
		return nil, maru.Errorf(maru.Invalid, "it is not said what to follow")
	}
	to, err := s.deps.Followed.Follow(ctx, maru.Following{
		ID: repositoryOf(req.Scope), URL: p.Url, Branches: p.Branches, Every: p.Every.AsDuration(), Credentials: p.Credentials, Webhook: p.Webhook,
		Forge: maru.Forge(p.Forge), API: p.Api, By: callerName(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &maruv1.RepositoryServiceFollowResponse{Following: s.followingProto(maru.FollowingStatus{Following: to})}, nil
}

func (s repositoryService) Unfollow(ctx context.Context, req *maruv1.RepositoryServiceUnfollowRequest) (*maruv1.RepositoryServiceUnfollowResponse, error) {
	if s.deps.Followed == nil {
		return nil, unsupported("following repositories")
	}
	return &maruv1.RepositoryServiceUnfollowResponse{}, s.deps.Followed.Unfollow(ctx, repositoryOf(req.Scope))
}

func (s repositoryService) followingProto(f maru.FollowingStatus) *maruv1.Following {
	p := &maruv1.Following{
		Url: f.URL, Branches: f.Branches, Every: durationpb.New(f.Every), Credentials: f.Credentials, Webhook: f.Webhook, Forge: string(f.Forge), Api: f.API,
		By: f.By, Since: timeProto(f.Since), Looked: timeProto(f.Looked), Error: valid(f.Error),
	}
	if f.Webhook != "" {
		p.Hook = hooksPrefix + f.ID.String()
	}
	return p
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
