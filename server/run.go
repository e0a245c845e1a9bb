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

// Run begins a command in a new instance of a service's release. What is kept of it goes some time after
// its end.
func (s execService) Run(ctx context.Context, req *maruv1.RunRequest) (*maruv1.RunResponse, error) {
	w, err := s.oneOff(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := s.deps.Engine.Apply(ctx, w); err != nil {
		return nil, err
	}
	return &maruv1.RunResponse{Workload: w.ID.Name}, nil
}

// runHeld runs a command in a new instance with the caller's streams. The instance goes when the command
// ends or the caller does.
func (s execService) runHeld(ctx context.Context, run *maruv1.RunStart, stream *connect.BidiStream[maruv1.ExecRequest, maruv1.ExecResponse]) error {
	w, err := s.oneOff(ctx, run.Command)
	if err != nil {
		return err
	}
	w.Held = true
	w.Container.TTY, w.Container.Stdin = false, false // those are the command's, and not of what holds it
	defer s.forget(ctx, w.ID)
	if err := s.deps.Engine.Apply(ctx, w); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	instance, err := startOf(s.deps.Engine.Watch(watching), w.ID)
	if err != nil {
		return err
	}
	stop()
	return s.converse(ctx, instance, maru.ExecCommand{TTY: run.Tty}, run.Stdin, stream)
}

// oneOff is the workload that the request describes.
func (s execService) oneOff(ctx context.Context, req *maruv1.RunRequest) (maru.Workload, error) {
	id := strings.ToLower(rand.Text()[:8])
	w, err := s.deps.Jobs.Workload(ctx, fromScope(req.Scope).Service(req.Service), int(req.Release), id, req.Args)
	if err != nil {
		return maru.Workload{}, err
	}
	shape(&w, req)
	return w, nil
}

// shape makes the one-off as the caller wants it.
func shape(w *maru.Workload, req *maruv1.RunRequest) {
	c := &w.Container
	if req.Entrypoint != nil {
		c.Entrypoint, c.Command = req.Entrypoint.Args, req.Args
		if c.Entrypoint == nil {
			c.Entrypoint = []string{}
		}
		if c.Command == nil {
			c.Command = []string{}
		}
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

// startOf waits until the workload's one instance runs, and gives its ID.
func startOf(observations iter.Seq2[maru.Observation, error], id maru.WorkloadID) (string, error) {
	for o, err := range observations {
		if err != nil {
			return "", err
		}
		if o.Workload != id {
			continue
		}
		if o.Gone {
			break
		}
		for _, i := range o.Instances {
			switch i.Phase {
			case maru.PhaseRunning:
				return i.ID, nil
			case maru.PhaseDone, maru.PhaseFailed:
				return "", maru.Errorf(maru.Conflict, "its instance could not be started: %s", i.Message)
			}
		}
	}
	return "", maru.Errorf(maru.Interrupted, "it was removed before its start")
}
