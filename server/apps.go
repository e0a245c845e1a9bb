package server

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// appService deploys apps and tells how they are.
type appService struct{ *Server }

func (s appService) Restart(ctx context.Context, req *maruv1.RestartRequest) (*maruv1.RestartResponse, error) {
	r, err := s.deps.Control.Restart(ctx, fromScope(req.Scope), req.Services, callerName(ctx))
	if err != nil {
		return nil, err
	}
	return &maruv1.RestartResponse{Rollout: rolloutProto(r)}, nil
}

func (s appService) Scale(ctx context.Context, req *maruv1.ScaleRequest) (*maruv1.ScaleResponse, error) {
	if len(req.Replicas) == 0 {
		return nil, maru.Errorf(maru.Invalid, "no service is named")
	}
	replicas := make(map[string]int, len(req.Replicas))
	for name, n := range req.Replicas {
		if n < -1 || n > maxReplicas {
			return nil, maru.Errorf(maru.Invalid, "service %s can't have %d instances", name, n)
		}
		replicas[name] = int(n)
	}
	return &maruv1.ScaleResponse{}, s.deps.Control.Scale(ctx, fromScope(req.Scope), replicas, callerName(ctx))
}

func (s appService) Stop(ctx context.Context, req *maruv1.StopRequest) (*maruv1.StopResponse, error) {
	return &maruv1.StopResponse{}, s.deps.Control.Stop(ctx, fromScope(req.Scope), req.Services, callerName(ctx))
}

func (s appService) Start(ctx context.Context, req *maruv1.StartRequest) (*maruv1.StartResponse, error) {
	return &maruv1.StartResponse{}, s.deps.Control.Start(ctx, fromScope(req.Scope), req.Services, callerName(ctx))
}

func (s appService) Remove(ctx context.Context, req *maruv1.RemoveRequest) (*maruv1.RemoveResponse, error) {
	r, err := s.deps.Control.Remove(ctx, fromScope(req.Scope), callerName(ctx))
	if err != nil {
		return nil, err
	}
	return &maruv1.RemoveResponse{Rollout: rolloutProto(r)}, nil
}

func (s appService) List(ctx context.Context, req *maruv1.ListRequest) (*maruv1.ListResponse, error) {
	apps, err := s.deps.State.Apps(ctx, fromScope(req.Scope))
	res := &maruv1.ListResponse{}
	for _, a := range apps {
		res.Apps = append(res.Apps, s.summaryProto(a))
	}
	return res, err
}

func (s appService) Status(ctx context.Context, req *maruv1.StatusRequest) (*maruv1.StatusResponse, error) {
	status, err := s.deps.State.Status(ctx, fromScope(req.Scope))
	if err != nil {
		return nil, err
	}
	if len(req.Services) > 0 {
		if err := hasServices(status, req.Services); err != nil {
			return nil, err
		}
		status.Services = slices.DeleteFunc(slices.Clone(status.Services), func(v maru.ServiceStatus) bool {
			return !slices.Contains(req.Services, v.Name)
		})
	}
	app := s.appProto(status)
	if s.deps.Runs != nil {
		git, ok, err := s.deps.Runs.Git(ctx, status.Scope)
		if err != nil {
			return nil, err
		}
		if ok {
			app.Git = gitProto(git)
		}
	}
	if s.deps.Receivers != nil {
		troubles, err := s.deps.Receivers.Troubles(ctx, status.Scope)
		if err != nil {
			return nil, err
		}
		for _, trouble := range troubles {
			app.Notices = append(app.Notices, valid(trouble))
		}
	}
	return &maruv1.StatusResponse{App: app}, nil
}

func gitProto(g maru.GitStatus) *maruv1.GitStatus {
	return &maruv1.GitStatus{
		Branch: valid(g.Branch), Tip: g.Tip, Commit: g.Commit, Rollout: int32(g.Rollout),
		TakenBack: valid(g.TakenBack), Revert: valid(g.Revert), Message: valid(g.Message),
	}
}

// hasServices tells whether the app has all the services.
func hasServices(status maru.AppStatus, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(status.Services, func(v maru.ServiceStatus) bool { return v.Name == name }) {
			return maru.WithHint(maru.Errorf(maru.NotFound, "app %s has no service %q", status.Scope.App, name), "`maru ps` lists them")
		}
	}
	return nil
}

func (s appService) Watch(ctx context.Context, req *maruv1.WatchRequest, stream *connect.ServerStream[maruv1.WatchResponse]) error {
	for status, err := range s.deps.State.Watch(ctx, fromScope(req.Scope)) {
		if err != nil {
			return err
		}
		if err := stream.Send(&maruv1.WatchResponse{App: s.appProto(status)}); err != nil {
			return err
		}
	}
	return ended(ctx)
}

// ended tells why a stream of states ended: because the caller left.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return maru.Errorf(maru.Interrupted, "the request ended: %w", context.Cause(ctx))
}

func (s appService) Releases(ctx context.Context, req *maruv1.ReleasesRequest) (*maruv1.ReleasesResponse, error) {
	scope := fromScope(req.Scope)
	releases, err := s.deps.State.Releases(ctx, scope, req.Service)
	if err != nil {
		return nil, err
	}
	status, err := s.deps.State.Status(ctx, scope)
	if err != nil {
		return nil, err
	}
	rollouts, err := s.deps.State.Rollouts(ctx, scope)
	if err != nil {
		return nil, err
	}
	verdicts := verdictsOf(rollouts)
	serving := map[string]int{}
	for _, v := range status.Services {
		serving[v.Name] = v.Release
	}
	res := &maruv1.ReleasesResponse{}
	for _, r := range limited(releases, req.Limit) {
		res.Releases = append(res.Releases, releaseProto(r, serving[r.Service.Service] == r.Number, verdicts[r.Service.Service][r.Number]))
	}
	return res, nil
}

func (s appService) Rollouts(ctx context.Context, req *maruv1.RolloutsRequest) (*maruv1.RolloutsResponse, error) {
	rollouts, err := s.deps.State.Rollouts(ctx, fromScope(req.Scope))
	res := &maruv1.RolloutsResponse{}
	for _, r := range limited(rollouts, req.Limit) {
		res.Rollouts = append(res.Rollouts, rolloutProto(r))
	}
	return res, err
}

func limited[T any](all []T, limit int32) []T {
	if limit <= 0 || int(limit) > len(all) {
		return all
	}
	return all[:limit]
}

func (s appService) Usage(ctx context.Context, req *maruv1.UsageRequest) (*maruv1.UsageResponse, error) {
	if s.deps.Meter == nil {
		return nil, unsupported("measurements")
	}
	owners, err := s.owners(ctx, fromScope(req.Scope))
	if err != nil {
		return nil, err
	}
	all, err := s.deps.Meter.Usage(ctx)
	if err != nil {
		return nil, err
	}
	res := &maruv1.UsageResponse{At: timestamppb.New(time.Now())}
	for _, u := range all {
		if w, ok := owners[u.Instance]; ok {
			res.Usage = append(res.Usage, usageProto(w, u))
		}
	}
	return res, nil
}

// owners tells whose the instances within the scope are.
func (s *Server) owners(ctx context.Context, scope maru.Scope) (map[string]maru.WorkloadID, error) {
	apps, err := s.deps.State.Apps(ctx, scope)
	if err != nil {
		return nil, err
	}
	owners := map[string]maru.WorkloadID{}
	for _, a := range apps {
		status, err := s.deps.State.Status(ctx, a.Scope)
		if maru.KindOf(err) == maru.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, v := range status.Services {
			for _, i := range v.Instances {
				owners[i.ID] = a.Scope.Service(v.Name).Workload(i.Workload)
			}
		}
	}
	return owners, nil
}
