// Package worker is the process that makes images, maru builder: BuildKit, embedded, for Dockerfiles,
// and the way straight from Go source, both over the containerd of maru runtime, so that what is built
// is at once in the image store that instances start from.
//
// It is started on demand, ends when it is idle, and can be killed at any time: the build fails or is
// tried again, and the next worker removes what the killed one left. All that builds do happens within
// one cgroup and its budget, so that they never starve what serves.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/budget"
)

// Worker makes images.
type Worker struct {
	cfg Config
	log *slog.Logger
}

// New gives a worker that does nothing until Run.
func New(cfg Config, log *slog.Logger) (*Worker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg.withDefaults(), log: log}, nil
}

// processGroup is the cgroup, below the builder's, of the process itself; containers get one each.
const processGroup = "process"

// Confine puts this process, whose only purpose is to run a worker, under the builder's budget, and
// lowers its priorities. It is called before Run, once.
func Confine(cfg Config, log *slog.Logger) error {
	cfg = cfg.withDefaults()
	if err := budget.Apply(Cgroup(cfg.Layout), cfg.Budget, log); err != nil {
		return err
	}
	return budget.Enter(Cgroup(cfg.Layout), processGroup, cfg.Budget)
}

// Run serves builds to those who connect to l until ctx ends, or with nil when it has been idle for
// long enough. It closes l, and leaves the file of its unix socket.
func (w *Worker) Run(ctx context.Context, l net.Listener) error {
	if unix, ok := l.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	defer l.Close()
	m, err := w.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := newIdle(w.cfg.Idle)
	server := &http.Server{
		Handler:           idle.watch(build.Handler(m, w.log)),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelWarn),
	}
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve builds: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		select {
		case <-idle.expired():
			m.tidy(gctx)
			w.log.Info("idle: the builder ends")
		case <-gctx.Done():
			cancel()
		}
		// Builds were cancelled, or there are none: what is left is to answer.
		grace, stop := context.WithTimeoutCause(context.WithoutCancel(ctx), 20*time.Second, errors.New("builds did not stop in time"))
		defer stop()
		if err := server.Shutdown(grace); err != nil {
			return errors.Join(err, server.Close())
		}
		return nil
	})
	return errors.Join(group.Wait(), m.close())
}

func (w *Worker) runFolder() string { return filepath.Join(w.cfg.Layout.Run, "builder") }
