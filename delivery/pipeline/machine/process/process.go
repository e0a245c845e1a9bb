// Package process is a machine whose containers are folders and processes of this host, without any
// isolation: for tests. Images are names that it is given; a service is a program.
package process

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// Machine runs jobs in folders below Root.
type Machine struct {
	Root     string
	Images   func(reference string) bool // whether there is such an image; nil: all are there
	Programs map[string][]string         // what a service with the image runs
	Configs  map[string]maru.ImageConfig // of images of actions
	Env      map[string]string           // of every job
}

// container is a folder and the processes begun for it.
type container struct {
	machine *Machine
	dir     string
	env     []string
	tools   machine.Tools
	life    context.Context
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// Start implements [machine.Machine].
func (m *Machine) Start(ctx context.Context, spec machine.Spec) (_ machine.Container, err error) {
	if m.Images != nil && !m.Images(spec.Image.Reference) {
		return nil, maru.Errorf(maru.Invalid, "there is no image %s", spec.Image.Reference)
	}
	life, stop := context.WithCancel(context.Background())
	c := &container{machine: m, dir: filepath.Join(m.Root, spec.ID), life: life, stop: stop}
	defer func() {
		if err != nil {
			_ = c.Remove(context.WithoutCancel(ctx))
		}
	}()
	for _, dir := range []string{c.Paths().Workspace, c.Paths().Temp, c.Paths().Home} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	c.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Paths().Home, "LANG=C.UTF-8"}
	for k, v := range m.Env {
		c.env = append(c.env, k+"="+v)
	}
	for k, v := range spec.Env {
		c.env = append(c.env, k+"="+v)
	}
	for _, s := range spec.Services {
		spec.Say("starting service %s", s.Name)
		if err := m.serve(ctx, c, s); err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
	}
	var found strings.Builder
	code, err := c.Exec(ctx, maru.ExecCommand{Args: []string{"sh", "-c", machine.Look}, Dir: "/"}, nil, &found, io.Discard)
	if code == 127 || code == 126 {
		return nil, machine.NoShell(spec.Image.Reference)
	}
	if err != nil {
		return nil, err
	}
	c.tools, err = machine.ParseTools(found.String())
	return c, err
}

// serve starts a service and waits until it is healthy.
func (m *Machine) serve(ctx context.Context, c *container, s machine.Service) error {
	program, ok := m.Programs[s.Image.Reference]
	if !ok {
		return maru.Errorf(maru.Invalid, "there is no image %s", s.Image.Reference)
	}
	cmd := command(c.life, program)
	cmd.Dir = c.dir
	cmd.Env = append(cmd.Env, c.env...)
	for k, v := range s.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	over := make(chan struct{})
	c.work.Go(func() {
		_ = cmd.Wait()
		close(over)
	})
	patience := time.NewTimer(30 * time.Second)
	defer patience.Stop()
	for {
		if m.healthy(ctx, c, s) {
			return nil
		}
		select {
		case <-over:
			return maru.Errorf(maru.Invalid, "it ended: %s", cmd.ProcessState)
		case <-patience.C:
			return maru.Errorf(maru.Invalid, "it did not become healthy")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m *Machine) healthy(ctx context.Context, c *container, s machine.Service) bool {
	if s.Health != nil {
		code, err := c.Exec(ctx, maru.ExecCommand{Args: []string{"sh", "-c", s.Health.Command}}, nil, io.Discard, io.Discard)
		return err == nil && code == 0
	}
	for _, p := range s.Ports {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.Host))
		if err != nil {
			return false
		}
		_ = conn.Close()
	}
	return true
}

// Sweep implements [machine.Machine].
func (m *Machine) Sweep(context.Context) error {
	entries, err := os.ReadDir(m.Root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, removeAll(filepath.Join(m.Root, e.Name())))
	}
	return err
}

// Paths implements [machine.Container].
func (c *container) Paths() machine.Paths {
	return machine.Paths{Workspace: filepath.Join(c.dir, "workspace"), Temp: filepath.Join(c.dir, "temp"), Home: filepath.Join(c.dir, "home")}
}

// command begins a process group of its own, which is killed when ctx ends.
func command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// Tools implements [machine.Container].
func (c *container) Tools() machine.Tools { return c.tools }

// Exec implements [machine.Container].
func (c *container) Exec(ctx context.Context, run maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	c.work.Add(1)
	defer c.work.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.life, func() { cancel(maru.Errorf(maru.Conflict, "the container is gone")) })()
	cmd := command(ctx, run.Args)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.Dir = run.Dir
	if cmd.Dir == "" {
		cmd.Dir = c.Paths().Workspace
	}
	cmd.Env = append(cmd.Env, c.env...)
	for k, v := range run.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if path, ok := run.Env["PATH"]; ok {
		cmd.Path = lookPath(run.Args[0], path, cmd.Path)
	}
	err := cmd.Start()
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return 127, maru.Errorf(maru.Invalid, "there is no program %q: %w", run.Args[0], err)
	} else if err != nil {
		return 126, maru.Errorf(maru.Invalid, "%q can't be executed: %w", run.Args[0], err)
	}
	var signals errgroup.Group
	done := make(chan struct{})
	signals.Go(func() error {
		for {
			select {
			case <-done:
				return nil
			case name, more := <-run.Signals:
				if !more {
					return nil
				}
				_ = syscall.Kill(-cmd.Process.Pid, unix.SignalNum(name))
			}
		}
	})
	err = cmd.Wait()
	close(done)
	_ = signals.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return cmd.ProcessState.ExitCode(), nil
	}
	return 0, err
}

// lookPath finds a program as the command's own PATH says.
func lookPath(name, path, without string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, dir := range filepath.SplitList(path) {
		at := filepath.Join(dir, name)
		if info, err := os.Stat(at); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return at
		}
	}
	return without
}

// action is the job's own folder: its paths are the same.
type action struct {
	*container
	config maru.ImageConfig
}

// Beside implements [machine.Container].
func (c *container) Beside(_ context.Context, image machine.Image, _ func(string)) (machine.ActionContainer, error) {
	config, ok := c.machine.Configs[image.Reference]
	if !ok {
		return nil, maru.Errorf(maru.Invalid, "there is no image %s", image.Reference)
	}
	return action{c, config}, nil
}

func (a action) Config() maru.ImageConfig { return a.config }

// CopyIn leaves out what is not the job's: this is the host's file system.
func (a action) CopyIn(ctx context.Context, archive io.Reader) error {
	var own bytes.Buffer
	in, out := tar.NewReader(archive), tar.NewWriter(&own)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(h.Name, a.dir+"/")
		if h.Name = name; !ok {
			continue
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return machine.CopyIn(ctx, a.container, a.dir, &own)
}

func (a action) CopyOut(ctx context.Context, dir string, w io.Writer) error {
	return machine.CopyOut(ctx, a.container, dir, []string{"."}, w)
}

func (a action) Remove(context.Context) error { return nil }

// Remove implements [machine.Container].
func (c *container) Remove(context.Context) error {
	c.stop()
	c.work.Wait()
	return removeAll(c.dir)
}

// removeAll also removes folders that can't be written to, such as those of Go's module cache.
func removeAll(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o755)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
