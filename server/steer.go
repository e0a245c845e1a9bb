package server

import (
	"context"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func (s appService) Promote(ctx context.Context, req *maruv1.PromoteRequest) (*maruv1.PromoteResponse, error) {
	r, err := s.deps.Control.Promote(ctx, fromScope(req.Scope), req.Services, req.All, callerName(ctx))
	if err != nil {
		return nil, err
	}
	return &maruv1.PromoteResponse{Rollout: rolloutProto(r)}, nil
}

func (s appService) Abort(ctx context.Context, req *maruv1.AbortRequest) (*maruv1.AbortResponse, error) {
	r, err := s.deps.Control.Abort(ctx, fromScope(req.Scope), callerName(ctx))
	if err != nil {
		return nil, err
	}
	s.awaitTraffic(ctx)
	return &maruv1.AbortResponse{Rollout: rolloutProto(r)}, nil
}

func (s appService) Pause(ctx context.Context, req *maruv1.PauseRequest) (*maruv1.PauseResponse, error) {
	r, err := s.deps.Control.Pause(ctx, fromScope(req.Scope), true, callerName(ctx))
	if err != nil {
		return nil, err
	}
	return &maruv1.PauseResponse{Rollout: rolloutProto(r)}, nil
}

func (s appService) Resume(ctx context.Context, req *maruv1.ResumeRequest) (*maruv1.ResumeResponse, error) {
	r, err := s.deps.Control.Pause(ctx, fromScope(req.Scope), false, callerName(ctx))
	if err != nil {
		return nil, err
	}
	return &maruv1.ResumeResponse{Rollout: rolloutProto(r)}, nil
}

// verdictProto leaves out what no judge said.
func verdictProto(v *maru.Verdict) *maruv1.Verdict {
	if v == nil || v.Outcome == "" {
		return nil
	}
	return &maruv1.Verdict{Outcome: v.Outcome, Why: valid(v.Why), Against: int32(v.Against), Requests: v.Requests, At: timeProto(v.At)}
}

// verdictsOf are the newest that are kept of each release, by service and number.
func verdictsOf(rollouts []maru.Rollout) map[string]map[int]*maru.Verdict {
	out := map[string]map[int]*maru.Verdict{}
	for _, r := range rollouts {
		for name, e := range r.Services {
			if e.Verdict == nil || out[name][e.To] != nil {
				continue
			}
			if out[name] == nil {
				out[name] = map[int]*maru.Verdict{}
			}
			out[name][e.To] = e.Verdict
		}
	}
	return out
}
