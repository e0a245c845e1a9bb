package server

import (
	"bytes"
	"context"
	"time"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func (s appService) Rollback(ctx context.Context, req *maruv1.RollbackRequest) (*maruv1.RollbackResponse, error) {
	scope := fromScope(req.Scope)
	to, err := s.admitRollback(ctx, scope, int(req.To))
	if err != nil {
		return nil, err
	}
	r, changed, err := s.deps.Control.Rollback(ctx, scope, to, callerName(ctx))
	if err != nil || !changed {
		return &maruv1.RollbackResponse{}, err
	}
	return &maruv1.RollbackResponse{Rollout: rolloutProto(r)}, nil
}

// admitRollback gives the rollout whose state is to come back; to 0: the last that succeeded with another
// state than the present one. It refuses what reaches into the host by a grant that was taken back.
func (s *Server) admitRollback(ctx context.Context, scope maru.Scope, to int) (int, error) {
	rollouts, err := s.deps.State.Rollouts(ctx, scope)
	if err != nil {
		return 0, err
	}
	status, err := s.deps.State.Status(ctx, scope)
	if err != nil {
		return 0, err
	}
	all, err := s.deps.State.Releases(ctx, scope, "")
	if err != nil {
		return 0, err
	}
	releases := map[string]map[int]maru.Release{}
	for _, r := range all {
		of := releases[r.Service.Service]
		if of == nil {
			of = map[int]maru.Release{}
			releases[r.Service.Service] = of
		}
		of[r.Number] = r
	}
	target, found := rollbackTarget(rollouts, status, releases, to)
	if !found {
		return 0, maru.WithHint(maru.Errorf(maru.NotFound, "%s has no such earlier state to go back to", scope), "`maru releases` lists those that are kept")
	}
	services := map[string]maru.Service{}
	for name, number := range target.After {
		services[name] = releases[name][number].Spec
	}
	return target.Number, s.deps.Grants.Check(ctx, scope, services)
}

func rollbackTarget(rollouts []maru.Rollout, status maru.AppStatus, releases map[string]map[int]maru.Release, to int) (maru.Rollout, bool) {
	serving := map[string]int{}
	for _, v := range status.Services {
		if v.Release != 0 {
			serving[v.Name] = v.Release
		}
	}
	underWay := status.Rollout != nil && !status.Rollout.Phase.Final()
	for _, r := range rollouts {
		wanted := r.Number == to
		if to == 0 {
			wanted = r.Phase == maru.Succeeded && r.Cause != "remove" && (underWay || !sameState(r.After, serving, releases))
		}
		if wanted {
			return r, true
		}
	}
	return maru.Rollout{}, false
}

// sameState tells whether two states of an app run the same, whatever their releases' numbers: a restart
// makes new ones.
func sameState(a, b map[string]int, releases map[string]map[int]maru.Release) bool {
	if len(a) != len(b) {
		return false
	}
	for name, number := range a {
		one, known := releases[name][number]
		other, runs := releases[name][b[name]]
		if !known || !runs || !bytes.Equal(contentOf(one), contentOf(other)) {
			return false
		}
	}
	return true
}

// contentOf leaves out of a release what does not decide how it runs.
func contentOf(r maru.Release) []byte {
	r.Number, r.Created, r.By, r.Message, r.Source = 0, time.Time{}, "", "", ""
	r.Spec.Image, r.Spec.Build, r.Spec.Pull, r.Spec.Update, r.Spec.Replicas = "", nil, "", maru.Update{}, 0
	return maru.Raw(r)
}
