// Package supervisor starts the platform's processes, keeps them running and holds their listening
// sockets, so that a connection that comes while a process is away waits instead of being refused.
//
// It holds nothing else: when it dies the processes go on, and the next supervisor finds them by a
// mark in their environment, takes their sockets back (pidfd_getfd(2)) and watches over them again.
// Under systemd units take its place.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// Config says what to supervise.
type Config struct {
	Run       string // folder for sockets and locks; also marks this installation's processes
	Socket    string // where the supervisor listens for Client
	Processes []Spec
}

// Spec is one process.
type Spec struct {
	Name    string
	Command []string // program and arguments
	Sockets []Socket // inherited by the process under their names
	// Folder is handed over open, as "folder", to a process that may not enter the folders above it; "": none.
	Folder   string
	UID, GID int           // the user to run as
	OnDemand bool          // started when a connection waits at its first socket; ending with 0 is no fault
	Overlap  bool          // a restart starts the successor, waits until it is ready, then ends the process
	Grace    time.Duration // between the signal to end and SIGKILL; 0: 30 s
}

// Socket is a listening socket that is held for a process.
type Socket struct {
	Name, Network, Address string
	Mode                   os.FileMode // of a unix socket
	UID, GID               int         // owner of a unix socket
}

// Supervisor runs the processes.
type Supervisor struct {
	cfg          Config
	log          *slog.Logger
	held         *holder
	notify       *notifier
	processes    []*process
	shutdown     chan struct{} // closed by the first request to shut down
	shutdownOnce sync.Once
	stopped      chan struct{} // closed when all processes have ended
}

// New gives a supervisor. It starts nothing.
func New(cfg Config, log *slog.Logger) *Supervisor {
	return &Supervisor{cfg: cfg, log: log, held: newHolder(), shutdown: make(chan struct{}), stopped: make(chan struct{})}
}

// Run adopts or starts the processes and keeps them running until ctx ends or a client asks for
// shutdown; then it ends them in reverse order. Conflict: another supervisor has this installation.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Run, 0o755); err != nil {
		return fmt.Errorf("make run folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(s.cfg.Run, "supervisor.lock"), s.cfg.Socket)
	if err != nil {
		return err
	}
	defer unlock()
	if s.notify, err = newNotifier(filepath.Join(s.cfg.Run, "notify.sock")); err != nil {
		return err
	}
	defer s.notify.close()
	defer s.held.closeAll()

	adopted := findMarked(s.cfg.Run, s.log)
	for _, spec := range s.cfg.Processes {
		p := newProcess(spec, s.cfg.Run, s.held, s.notify, s.log.With("process", spec.Name))
		if a := adopted[spec.Name]; a != nil {
			s.log.Info("adopting a running process", "process", spec.Name, "pid", a.pid())
			if err := s.held.takeBack(a); err != nil {
				s.log.Warn("could not take back the sockets of a running process", "process", spec.Name, "error", err)
			}
			p.adopted = a
		}
		s.processes = append(s.processes, p)
	}
	for _, p := range s.processes {
		if err := s.held.open(ctx, p.spec.Sockets); err != nil {
			return err
		}
	}
	return s.supervise(ctx)
}

func (s *Supervisor) supervise(ctx context.Context) error {
	listener, err := listenClients(s.cfg.Socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	var clients errgroup.Group
	clients.Go(func() error { s.serve(ctx, listener); return nil })
	clients.Go(func() error { s.notify.run(); return nil })

	// Each process has its own context, so that they can be ended one after the other.
	var running errgroup.Group
	for _, p := range s.processes {
		running.Go(func() error { p.run(); return nil })
	}
	select {
	case <-ctx.Done():
	case <-s.shutdown:
	}
	for i := len(s.processes) - 1; i >= 0; i-- {
		s.processes[i].end()
	}
	err = running.Wait()
	_ = listener.Close() // before anybody learns that this one ends: see lock
	close(s.stopped)
	s.notify.close()
	return errors.Join(err, clients.Wait())
}

// endTime is how long a supervisor that answers no more may take to end.
const endTime = 5 * time.Second

// lock takes an exclusive lock on a file until the returned function is called or the process ends. It
// waits for a supervisor that is just ending, which is one that holds the lock and does not answer at
// socket.
func lock(ctx context.Context, path, socket string) (func(), error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, endTime, errors.New("the one before does not end"))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		_, err := Client{Socket: socket}.Status(ctx)
		if err == nil || ctx.Err() != nil {
			_ = file.Close()
			return nil, maru.WithHint(maru.Errorf(maru.Conflict, "Maru is running already with %s", filepath.Dir(path)),
				"look with 'maru status', stop it with 'maru shutdown'")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return func() { _ = file.Close() }, nil
}
