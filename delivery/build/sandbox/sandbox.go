// Package sandbox runs single commands in containers that a build needs for itself: straight by runc,
// with folders of the host as their file system, without privileges, and without a network unless one
// is given. Nothing of it is visible to containerd.
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/marucloud/maru"
)

// Runner runs commands in containers. It is safe for concurrent use.
type Runner struct {
	runc   string
	state  string
	cgroup string
}

// New gives a runner that uses the runc program, keeps what a running container needs in the folder
// state, and puts containers into cgroups below cgroup.
func New(runc, state, cgroup string) *Runner {
	return &Runner{runc: runc, state: state, cgroup: cgroup}
}

// Mount puts a folder or file of the host into the container.
type Mount struct {
	Source   string
	Target   string
	ReadOnly bool
}

// Command is what to run.
type Command struct {
	Root    string // folder with the mount points; read only in the container
	Args    []string
	Env     []string
	Dir     string
	User    uint32 // and group
	Mounts  []Mount
	Network string // file of a network namespace; "": one with nothing in it
	Stdout  io.Writer
	Stderr  io.Writer
}

// Run runs the command to its end and gives its exit code. An error says that it could not be run, or
// that ctx ended; then nothing of it is left either.
func (r *Runner) Run(ctx context.Context, cmd Command) (int, error) {
	if err := os.MkdirAll(filepath.Join(r.state, "runc"), 0o700); err != nil {
		return 0, fmt.Errorf("make sandbox folder: %w", err)
	}
	bundle, err := os.MkdirTemp(r.state, "go-")
	if err != nil {
		return 0, fmt.Errorf("make sandbox bundle: %w", err)
	}
	defer os.RemoveAll(bundle)
	id := filepath.Base(bundle)
	data, err := json.Marshal(spec(cmd, filepath.Join(r.cgroup, id)))
	if err != nil {
		return 0, fmt.Errorf("encode sandbox: %w", err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600); err != nil {
		return 0, fmt.Errorf("write sandbox: %w", err)
	}
	return r.run(ctx, cmd, bundle, id)
}

func (r *Runner) run(ctx context.Context, cmd Command, bundle, id string) (int, error) {
	logFile := filepath.Join(bundle, "log.json")
	run := exec.Command(r.runc, "--root", filepath.Join(r.state, "runc"), "--log", logFile, "--log-format", "json",
		"run", "--bundle", bundle, id)
	run.Stdout, run.Stderr = cmd.Stdout, cmd.Stderr
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := run.Start(); err != nil {
		return 0, maru.Errorf(maru.Unavailable, "start %s: %w", r.runc, err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { r.kill(id, ended) })
	err := run.Wait()
	close(ended)
	if !stop() {
		r.delete(id)
		return 0, maru.Errorf(maru.Interrupted, "%s: %w", filepath.Base(cmd.Args[0]), context.Cause(ctx))
	}
	if err == nil {
		return 0, nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		r.delete(id)
		return 0, fmt.Errorf("wait for sandbox: %w", err)
	}
	if message := runcError(logFile); message != "" {
		r.delete(id)
		return 0, fmt.Errorf("sandbox: %s", message)
	}
	return exit.ExitCode(), nil
}

// kill asks until the container is gone: it may not have been made yet when the first asks.
func (r *Runner) kill(id string, ended <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r.delete(id)
		select {
		case <-ended:
			return
		case <-tick.C:
		}
	}
}

func (r *Runner) delete(id string) {
	_ = exec.Command(r.runc, "--root", filepath.Join(r.state, "runc"), "delete", "--force", id).Run()
}

// runcError gives what runc itself complained of; its exit code alone may be the command's.
func runcError(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	var last string
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			last = entry.Msg
		}
	}
	return last
}
