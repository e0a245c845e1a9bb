package server

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// pipelineService runs workflows.
type pipelineService struct{ *Server }

func (s pipelineService) Run(ctx context.Context, req *maruv1.PipelineServiceRunRequest, stream *connect.ServerStream[maruv1.PipelineServiceRunResponse]) error {
	if s.deps.Pipelines == nil {
		return unsupported("pipelines")
	}
	folder, release, err := s.sources.Checkout(ctx, req.Source)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(context.Cause(s.closing)) })()
	return s.deps.Pipelines.Run(ctx, RunRequest{
		Scope: fromScope(req.Scope), Folder: folder, GitHub: req.Github, Workflows: req.Workflows, Event: req.Event, Ref: req.Ref, SHA: req.Sha,
		Base: req.Base, DefaultBranch: req.DefaultBranch, Message: req.Message, By: callerName(ctx), Inputs: req.Inputs,
	}, func(e maru.RunEvent) {
		if err := stream.Send(&maruv1.PipelineServiceRunResponse{Event: runEventProto(e)}); err != nil {
			cancel(lostStream(err))
		}
	})
}

func runEventProto(e maru.RunEvent) *maruv1.RunEvent {
	p := &maruv1.RunEvent{
		Kind: string(e.Kind), Time: timeProto(e.Time), Workflow: e.Workflow, Job: e.Job, Step: int32(e.Step), Name: e.Name, Conclusion: string(e.Conclusion),
		Text: e.Text, Level: e.Level, File: e.File, Line: int32(e.Line), Column: int32(e.Column), Bytes: e.Bytes, Outputs: e.Outputs,
	}
	if t := e.Tests; t != nil {
		p.Tests = &maruv1.TestReport{Format: t.Format, Passed: int32(t.Passed), Failed: int32(t.Failed), Skipped: int32(t.Skipped), Took: durationpb.New(t.Time)}
		for _, r := range t.Tests {
			p.Tests.Tests = append(p.Tests.Tests, &maruv1.TestResult{Suite: r.Suite, Name: r.Name, Message: r.Message, File: r.File, Line: int32(r.Line)})
		}
	}
	return p
}
