package server

import (
	"context"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// runService tells of runs, and decides about them.
type runService struct{ *Server }

func (s runService) runs() (Runs, error) {
	if s.deps.Runs == nil {
		return nil, unsupported("runs")
	}
	return s.deps.Runs, nil
}

func (s runService) List(ctx context.Context, req *maruv1.RunServiceListRequest) (*maruv1.RunServiceListResponse, error) {
	runs, err := s.runs()
	if err != nil {
		return nil, err
	}
	all, err := runs.Runs(ctx, fromScope(req.Scope))
	if err != nil {
		return nil, err
	}
	res := &maruv1.RunServiceListResponse{}
	for _, run := range all {
		res.Runs = append(res.Runs, runProto(run))
	}
	return res, nil
}

func (s runService) Logs(ctx context.Context, req *maruv1.RunServiceLogsRequest, stream *connect.ServerStream[maruv1.RunServiceLogsResponse]) error {
	runs, err := s.runs()
	if err != nil {
		return err
	}
	scope := fromScope(req.Scope)
	run, lines, err := runs.Log(ctx, scope, int(req.Number), req.Follow)
	if err != nil {
		return err
	}
	if err := stream.Send(&maruv1.RunServiceLogsResponse{Run: runProto(run)}); err != nil {
		return err
	}
	for line, err := range lines {
		if err != nil {
			return err
		}
		if err := stream.Send(&maruv1.RunServiceLogsResponse{Line: runLogLineProto(line)}); err != nil {
			return err
		}
	}
	if err := ended(ctx); err != nil {
		return err
	}
	run, _, err = runs.Log(ctx, scope, run.Number, false)
	if err != nil {
		return err
	}
	return stream.Send(&maruv1.RunServiceLogsResponse{Run: runProto(run)})
}

func (s runService) Retry(ctx context.Context, req *maruv1.RunServiceRetryRequest) (*maruv1.RunServiceRetryResponse, error) {
	runs, err := s.runs()
	if err != nil {
		return nil, err
	}
	run, err := runs.Retry(ctx, fromScope(req.Scope), int(req.Number), req.All, callerName(ctx))
	return &maruv1.RunServiceRetryResponse{Run: runProto(run)}, err
}

func (s runService) Cancel(ctx context.Context, req *maruv1.RunServiceCancelRequest) (*maruv1.RunServiceCancelResponse, error) {
	runs, err := s.runs()
	if err != nil {
		return nil, err
	}
	run, err := runs.Cancel(ctx, fromScope(req.Scope), int(req.Number), callerName(ctx))
	return &maruv1.RunServiceCancelResponse{Run: runProto(run)}, err
}

func (s runService) Approve(ctx context.Context, req *maruv1.RunServiceApproveRequest) (*maruv1.RunServiceApproveResponse, error) {
	runs, err := s.runs()
	if err != nil {
		return nil, err
	}
	run, err := runs.Approve(ctx, fromScope(req.Scope), int(req.Number), callerName(ctx))
	return &maruv1.RunServiceApproveResponse{Run: runProto(run)}, err
}

// Promote makes a run of what runs in another environment, which the caller has to be allowed to see.
func (s runService) Promote(ctx context.Context, req *maruv1.RunServicePromoteRequest) (*maruv1.RunServicePromoteResponse, error) {
	if s.deps.Environments == nil {
		return nil, unsupported("promotion")
	}
	if err := maru.CheckName("environment", req.From); err != nil {
		return nil, err
	}
	scope := fromScope(req.Scope)
	source := scope
	source.Environment = req.From
	if c, _ := callerOf(ctx); !c.Scope.Covers(source) {
		return nil, maru.WithHint(maru.Errorf(maru.Denied, "%s: limited to %s, which does not have %s", c.Name, scopeText(c.Scope), scopeText(source)),
			"use a token for both environments")
	}
	run, err := s.deps.Environments.Promote(ctx, scope, req.From, callerName(ctx))
	if err != nil {
		return nil, err
	}
	return &maruv1.RunServicePromoteResponse{Run: runProto(run)}, nil
}

func runProto(r maru.Run) *maruv1.Run {
	from := ""
	if r.From != nil {
		from = r.From.Environment
	}
	return &maruv1.Run{
		From:  from,
		Scope: scopeProto(r.Scope), Number: int32(r.Number), Branch: valid(r.Branch), Commit: r.Commit, Message: valid(r.Message), By: r.By,
		Of: int32(r.Of), Phase: string(r.Phase), Reason: valid(r.Reason), Hint: valid(r.Hint), Rollout: int32(r.Rollout), Manual: r.Manual,
		Created: timeProto(r.Created), Started: timeProto(r.Started), Ended: timeProto(r.Ended),
		Again: r.Again, Approved: timeProto(r.Approved), ApprovedBy: r.ApprovedBy, Tested: timeProto(r.Tested),
	}
}

func runLogLineProto(l maru.RunLogLine) *maruv1.RunLogLine {
	return &maruv1.RunLogLine{Time: timeProto(l.Time), Service: l.Service, Output: l.Output, Text: valid(l.Text)}
}
