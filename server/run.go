package server

import (
	"context"
	"crypto/rand"
	"iter"
	"maps"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// Run runs a command once in a new instance of a service's release. The instance goes when the caller
// does.
func (s execService) Run(ctx context.Context, req *maruv1.RunRequest, stream *connect.ServerStream[maruv1.RunResponse]) error {
	id := strings.ToLower(rand.Text()[:8])
	w, err := s.deps.Jobs.Workload(ctx, fromScope(req.Scope).Service(req.Service), int(req.Release), id, req.Args)
	if err != nil {
		return err
	}
	shape(&w, req)
	if err := s.deps.Engine.Apply(ctx, w); err != nil {
		return err
	}
	defer s.forget(ctx, w.ID)
	if err := stream.Send(&maruv1.RunResponse{Message: &maruv1.RunResponse_Started{Started: &maruv1.RunStarted{Workload: w.ID.Name}}}); err != nil {
		return err
	}
	code, err := s.attend(ctx, w.ID, stream)
	if err != nil {
		return err
	}
	return stream.Send(&maruv1.RunResponse{Message: &maruv1.RunResponse_ExitCode{ExitCode: int32(code)}})
}

// shape makes the one-off as the caller wants it.
func shape(w *maru.Workload, req *maruv1.RunRequest) {
	c := &w.Container
	if len(req.Entrypoint) > 0 {
		c.Entrypoint = req.Entrypoint
	}
	if len(req.Env) > 0 {
		c.Env = maps.Clone(c.Env)
		if c.Env == nil {
			c.Env = map[string]string{}
		}
		maps.Copy(c.Env, req.Env)
	}
	c.User = orDefault(req.User, c.User)
	c.WorkDir = orDefault(req.Dir, c.WorkDir)
}

// forget removes a one-off, also when the caller is gone.
func (s *Server) forget(ctx context.Context, id maru.WorkloadID) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 30*time.Second,
		maru.Errorf(maru.Unavailable, "the engine did not answer in 30 s"))
	defer cancel()
	if err := s.deps.Engine.Remove(ctx, id); err != nil {
		s.log.WarnContext(ctx, "remove one-off", "workload", id.String(), "error", err)
	}
}

// attend tells what the one-off prints, until it has ended, and gives its exit code.
func (s execService) attend(ctx context.Context, id maru.WorkloadID, stream *connect.ServerStream[maruv1.RunResponse]) (int, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	exited := make(chan exitResult, 1)
	go func() {
		code, err := exitOf(s.deps.Engine.Watch(watching), id)
		exited <- exitResult{code, err}
	}()
	query := maru.LogQuery{Scope: id.Scope, Services: []string{id.Service}, Release: id.Name, Follow: true}
	entries, finish := logService(s).read(watching, query)
	after := map[string]string{}
	told := func(entry maru.LogEntry) error {
		after[entry.Instance] = entry.Cursor
		return stream.Send(outputProto(entry))
	}
	result, err := follow(ctx, entries, exited, told)
	stop()
	_ = finish()
	if err != nil {
		return 0, err
	}
	// What it wrote last may have been on its way when following stopped.
	query.Follow, query.After = false, after
	for entry, err := range s.deps.Logs.Logs(ctx, query) {
		if err != nil {
			return 0, err
		}
		if err := stream.Send(outputProto(entry)); err != nil {
			return 0, err
		}
	}
	return result.code, result.err
}

// follow tells entries until the one-off has ended.
func follow(ctx context.Context, entries <-chan maru.LogEntry, exited <-chan exitResult, told func(maru.LogEntry) error) (exitResult, error) {
	for {
		select {
		case entry, ok := <-entries:
			if !ok {
				entries = nil
				continue
			}
			if err := told(entry); err != nil {
				return exitResult{}, err
			}
		case result := <-exited:
			return result, nil
		case <-ctx.Done():
			return exitResult{}, ended(ctx)
		}
	}
}

type exitResult struct {
	code int
	err  error
}

func outputProto(e maru.LogEntry) *maruv1.RunResponse {
	return &maruv1.RunResponse{Message: &maruv1.RunResponse_Output{Output: &maruv1.LogEntryOutput{
		Stream: e.Stream, Line: []byte(e.Line), Partial: e.Partial,
	}}}
}

// exitOf waits for the workload's one instance to end.
func exitOf(observations iter.Seq2[maru.Observation, error], id maru.WorkloadID) (int, error) {
	for o, err := range observations {
		if err != nil {
			return 0, err
		}
		if o.Workload != id {
			continue
		}
		if o.Gone {
			break
		}
		for _, i := range o.Instances {
			switch i.Phase {
			case maru.PhaseDone:
				return 0, nil
			case maru.PhaseFailed:
				if i.LastExit == nil {
					return 0, maru.Errorf(maru.Conflict, "it could not be started: %s", i.Message)
				}
				return i.LastExit.Code, nil
			}
		}
	}
	return 0, maru.Errorf(maru.Interrupted, "it was removed before its end")
}
