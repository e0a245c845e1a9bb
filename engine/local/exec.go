package local

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

const (
	execCleanup       = 10 * time.Second // for the container to start or remove a process
	firstSizePatience = 100 * time.Millisecond
	maxProbeOutput    = 4 << 10
	terminalDefault   = "TERM=xterm"
)

// Exec implements [maru.Execer]. When ctx ends the process is killed.
func (e *Engine) Exec(ctx context.Context, instance string, cmd maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	a, err := e.find(ctx, instance)
	if err != nil {
		return 0, err
	}
	if len(cmd.Args) == 0 {
		if cmd.Args, err = a.take(); err != nil {
			return 0, err
		}
		defer a.release(ctx)
	}
	process, err := execProcess(a, cmd)
	if err != nil {
		return 0, err
	}
	if cmd.TTY && cmd.Size != nil {
		process.ConsoleSize = firstSize(ctx, cmd.Size)
	}
	code, err := e.exec(ctx, a, process, cmd, stdin, stdout, stderr)
	if err != nil && code == 0 {
		return 0, fmt.Errorf("exec in %s: %w", instance, err)
	}
	return code, err
}

// firstSize gives the terminal's initial size, with which the process is to start. A caller that does
// not know it yet is not waited for.
func firstSize(ctx context.Context, sizes <-chan maru.TermSize) *specs.Box {
	soon := time.NewTimer(firstSizePatience)
	defer soon.Stop()
	select {
	case size := <-sizes:
		return &specs.Box{Height: uint(size.Rows), Width: uint(size.Cols)}
	case <-soon.C:
	case <-ctx.Done():
	}
	return nil
}

// execProcess is the instance's own process with another command.
func execProcess(a *attempt, cmd maru.ExecCommand) (*specs.Process, error) {
	process := *a.process
	process.Args, process.Terminal = cmd.Args, cmd.TTY
	process.Env = slices.Clone(process.Env)
	if cmd.TTY {
		process.Env = setEnv(process.Env, terminalDefault)
	}
	process.Env = overlayEnv(process.Env, cmd.Env)
	if cmd.Dir != "" {
		process.Cwd = cleanTarget(cmd.Dir)
	}
	if cmd.User != "" {
		who, err := lookUpUser(a.image, cmd.User, nil)
		if err != nil {
			return nil, err
		}
		process.User = who
	}
	return &process, nil
}

// within does something short that goes on when the caller goes away.
func within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), execCleanup, maru.Errorf(maru.Unavailable, "the container does not answer"))
	defer cancel()
	return do(ctx)
}

// discard kills and forgets a process.
func discard(ctx context.Context, process containerd.Process) error {
	return within(ctx, func(ctx context.Context) error {
		_, err := process.Delete(ctx, containerd.WithProcessKill)
		return err
	})
}

// startExec starts a further process in the attempt's container.
func (e *Engine) startExec(ctx context.Context, a *attempt, process *specs.Process, streams *execStreams) (containerd.Process, <-chan containerd.ExitStatus, error) {
	defer e.cgroups.Hasten()()
	started, err := a.task.Exec(ctx, "exec-"+rand.Text(), process, streams.creator(e.cfg.Layout.Run, process.Terminal))
	if err != nil {
		return nil, nil, err
	}
	exit, err := started.Wait(context.WithoutCancel(ctx))
	if err == nil {
		// Not to be interrupted half-way: what was not known to have started could not be killed.
		err = within(ctx, started.Start)
	}
	if err != nil {
		_ = discard(ctx, started) // the error before tells more
		return nil, nil, err
	}
	return started, exit, nil
}

// exec runs a further process in the attempt's container to its end.
func (e *Engine) exec(ctx context.Context, a *attempt, process *specs.Process, cmd maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (code int, err error) {
	ctx = inNamespace(ctx)
	streams := newExecStreams(stdin, stdout, stderr)
	started, exit, err := e.startExec(ctx, a, process, streams)
	if err != nil {
		return notStarted(process.Args[0], err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer stop(nil)
	serving.Go(func() { resize(ctx, started, cmd.Size) })
	serving.Go(func() { signal(ctx, started, cmd.Signals) })
	serving.Go(func() { streams.closeStdin(ctx, started) })
	select {
	case status := <-exit:
		streams.drain(ctx, started)
		e.clear(ctx, a, cmd)
		err := within(ctx, func(ctx context.Context) error {
			_, err := started.Delete(ctx)
			return err
		})
		if err != nil && !errdefs.IsNotFound(err) {
			return 0, execError(err)
		}
		return int(status.ExitCode()), nil
	case <-ctx.Done():
		e.clear(ctx, a, cmd)
		_ = discard(ctx, started) // if it is gone by now, so much the better
		return 0, interrupted(ctx)
	}
}

// clear ends all that runs in the attempt's container but its first process when ctx has ended, if the command
// has it alone.
func (e *Engine) clear(ctx context.Context, a *attempt, cmd maru.ExecCommand) {
	if !cmd.Alone || ctx.Err() == nil {
		return
	}
	err := e.cgroups.Kill(a.cgroup, int(a.task.Pid()))
	if cores := a.workload.Container.Resources.CPUs; cores > 0 { // the limit was lifted
		err = errors.Join(err, e.cgroups.LimitCPU(a.cgroup, cores))
	}
	if err != nil && maru.KindOf(err) != maru.NotFound {
		e.log.Warn("end what runs in an instance", "instance", a.instance, "error", err)
	}
}

// resize passes the terminal's sizes on until ctx ends.
func resize(ctx context.Context, process containerd.Process, size <-chan maru.TermSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case s, more := <-size:
			if !more {
				return
			}
			_ = process.Resize(ctx, uint32(s.Cols), uint32(s.Rows)) // a process that just ended has no terminal
		}
	}
}

// signal passes signals on until ctx ends. One that this system does not know is left out.
func signal(ctx context.Context, process containerd.Process, signals <-chan string) {
	for {
		select {
		case <-ctx.Done():
			return
		case name, more := <-signals:
			if !more {
				return
			}
			if number := unix.SignalNum(name); number != 0 {
				_ = process.Kill(ctx, number) // a process that just ended needs none
			}
		}
	}
}

// notStarted says why a command could not be started, with the exit code that shells give for it.
func notStarted(program string, err error) (int, error) {
	err = execError(err)
	var failure *startFailure
	if !errors.As(err, &failure) {
		return 0, err
	}
	switch failure.code {
	case codeNotFound:
		return codeNotFound, maru.WithHint(maru.Errorf(maru.Invalid, "there is no program %q in the image", program),
			"name one that the image has; an image without a shell has none for pipes and variables either")
	case codeNotExecutable:
		return codeNotExecutable, maru.WithHint(maru.Errorf(maru.Invalid, "%q can't be executed: %w", program, failure),
			"see whether it is a program for this machine, and may be executed by its user (chmod +x)")
	}
	return 0, err
}

func execError(err error) error {
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return maru.Errorf(maru.Conflict, "the instance is ending: %w", err)
	}
	return runtimeError(err)
}

// execProbe runs a probe's command and gives the end of its output.
func (e *Engine) execProbe(ctx context.Context, a *attempt, args []string) (code int, output string, err error) {
	process := *a.process
	process.Args, process.Terminal = args, false
	var out tail
	code, err = e.exec(ctx, a, &process, maru.ExecCommand{}, nil, &out, &out)
	return code, out.String(), err
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - maxProbeOutput; over > 0 {
		t.data = bytes.Clone(t.data[over:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}
