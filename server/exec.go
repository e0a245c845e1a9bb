package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// execService reaches into instances.
type execService struct{ *Server }

func (s execService) Exec(ctx context.Context, stream *connect.BidiStream[maruv1.ExecRequest, maruv1.ExecResponse]) error {
	if s.deps.Execer == nil {
		return unsupported("way into instances")
	}
	first, err := stream.Receive()
	if err != nil {
		return lostStream(err)
	}
	if run := first.GetRun(); run != nil {
		return s.runHeld(ctx, run, stream)
	}
	start := first.GetStart()
	if start == nil || len(start.Args) == 0 {
		return maru.Errorf(maru.Invalid, "the stream does not begin with a command")
	}
	instance, err := s.pick(ctx, fromScope(start.Scope), start.Service, start.Instance)
	if err != nil {
		return err
	}
	command := maru.ExecCommand{Args: start.Args, Env: start.Env, User: start.User, Dir: start.Dir, TTY: start.Tty}
	return s.converse(ctx, instance, command, start.Stdin, stream)
}

// converse runs a command in an instance, with its streams led to the caller's.
func (s execService) converse(ctx context.Context, instance string, command maru.ExecCommand, stdin bool, stream *connect.BidiStream[maruv1.ExecRequest, maruv1.ExecResponse]) error {
	var mu sync.Mutex
	send := func(m *maruv1.ExecResponse) error {
		mu.Lock()
		defer mu.Unlock()
		return stream.Send(m)
	}
	if err := send(&maruv1.ExecResponse{Message: &maruv1.ExecResponse_Started{Started: &maruv1.ExecStarted{Instance: instance}}}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in := newExecInput(stdin)
	go in.read(stream.Receive, cancel)
	defer in.stop()
	stdout := messageWriter(func(p []byte) error {
		return send(&maruv1.ExecResponse{Message: &maruv1.ExecResponse_Stdout{Stdout: p}})
	})
	stderr := messageWriter(func(p []byte) error {
		return send(&maruv1.ExecResponse{Message: &maruv1.ExecResponse_Stderr{Stderr: p}})
	})
	command.Size, command.Signals = in.sizes, in.signals
	code, err := s.deps.Execer.Exec(ctx, instance, command, in.stdin(), stdout, stderr)
	switch {
	case err != nil && code != 0:
		return send(&maruv1.ExecResponse{Message: &maruv1.ExecResponse_Failed{Failed: &maruv1.ExecFailed{
			Message: err.Error(), Hint: maru.HintOf(err), ExitCode: int32(code),
		}}})
	case err != nil:
		return err
	}
	return send(&maruv1.ExecResponse{Message: &maruv1.ExecResponse_ExitCode{ExitCode: int32(code)}})
}

// signalBacklog is how many signals may wait for a command that is just starting.
const signalBacklog = 16

// execInput is what a caller sends to a command.
type execInput struct {
	sizes   chan maru.TermSize
	signals chan string
	reader  *io.PipeReader
	writer  *io.PipeWriter
}

func newExecInput(stdin bool) *execInput {
	in := &execInput{sizes: make(chan maru.TermSize, 1), signals: make(chan string, signalBacklog)}
	if stdin {
		in.reader, in.writer = io.Pipe()
	}
	return in
}

// stdin is nil when the caller sends none.
func (in *execInput) stdin() io.Reader {
	if in.reader == nil {
		return nil
	}
	return in.reader
}

// read takes messages until the stream ends, which the return of the handler makes it do. A caller that
// is gone ends the command.
func (in *execInput) read(receive func() (*maruv1.ExecRequest, error), cancel context.CancelCauseFunc) {
	defer close(in.sizes)
	defer close(in.signals)
	for {
		m, err := receive()
		if err != nil {
			if in.writer != nil {
				_ = in.writer.Close()
			}
			if !errors.Is(err, io.EOF) {
				cancel(lostStream(err))
			}
			return
		}
		switch m := m.Message.(type) {
		case *maruv1.ExecRequest_Stdin:
			if in.writer != nil {
				_, _ = in.writer.Write(m.Stdin) // a command that reads no more is not the caller's fault
			}
		case *maruv1.ExecRequest_StdinClosed:
			if in.writer != nil {
				_ = in.writer.Close()
			}
		case *maruv1.ExecRequest_Size:
			in.resize(maru.TermSize{Rows: uint16(m.Size.GetRows()), Cols: uint16(m.Size.GetCols())})
		case *maruv1.ExecRequest_Signal:
			select {
			case in.signals <- m.Signal:
			default: // whoever sends so many means no particular one
			}
		}
	}
}

// resize tells the newest size; one that was not taken yet is of no interest any more.
func (in *execInput) resize(size maru.TermSize) {
	for {
		select {
		case in.sizes <- size:
			return
		default:
		}
		select {
		case <-in.sizes:
		default:
		}
	}
}

func (in *execInput) stop() {
	if in.reader != nil {
		_ = in.reader.Close()
	}
}

func lostStream(err error) error {
	if errors.Is(err, io.EOF) {
		return maru.Errorf(maru.Invalid, "the stream ended too soon")
	}
	if maru.KindOf(err) != maru.Internal {
		return err
	}
	return maru.Errorf(maru.Interrupted, "the caller is gone: %w", err)
}

// pick finds an instance of a service: the one named, else the first that is ready, else any that runs.
func (s *Server) pick(ctx context.Context, scope maru.Scope, service, instance string) (string, error) {
	if instance != "" {
		w, found, err := s.deps.State.Instance(ctx, scope, instance)
		if err != nil {
			return "", err
		}
		if service != "" && w.Service != service {
			return "", maru.Errorf(maru.NotFound, "instance %s is one of service %s, not of %s", found.ID, w.Service, service)
		}
		return found.ID, nil
	}
	status, err := s.deps.State.Status(ctx, scope)
	if err != nil {
		return "", err
	}
	if err := hasServices(status, []string{service}); err != nil {
		return "", err
	}
	running := ""
	for _, v := range status.Services {
		if v.Name != service {
			continue
		}
		for _, i := range v.Instances {
			if i.Phase != maru.PhaseRunning || strings.Contains(i.Workload, ".") {
				continue
			}
			if i.Ready {
				return i.ID, nil
			}
			running = i.ID
		}
	}
	if running == "" {
		return "", maru.WithHint(maru.Errorf(maru.Conflict, "service %s has no running instance", service),
			fmt.Sprintf("`maru status` tells why; `maru run %s COMMAND` starts one of its own", service))
	}
	return running, nil
}
