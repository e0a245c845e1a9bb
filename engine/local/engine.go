package local

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/bin"
	"github.com/marucloud/maru/engine/local/cgroup"
	"github.com/marucloud/maru/engine/local/logs"
	"github.com/marucloud/maru/engine/local/network"
	"github.com/marucloud/maru/engine/local/volume"
)

// shutdownGrace is how long actions that are under way may take to end when the engine stops.
const shutdownGrace = 5 * time.Second

var errStopped = maru.Errorf(maru.Unavailable, "the engine has stopped")

// Engine runs workloads as containers on this machine. It implements [maru.Engine], [maru.Drainer],
// [maru.Logs], [maru.Execer], [maru.Forwarder], [maru.Meter], [maru.Volumes], [maru.Images],
// [maru.ImageSaver], [maru.Repositories], [maru.Uploads] and [maru.DataPlane]. Its methods wait until Run has found what there is.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	seed    uint64
	hub     *hub
	logs    *logs.Logs
	network *network.Network
	wanted  *wantedStore
	records *recordStore
	volumes *volume.Store
	claims  *claims
	ranges  *userRanges
	limit   chan struct{} // tokens of instances that are being started

	ready   chan struct{} // closed when loading is over; loaded says how it went
	loaded  error
	stopped chan struct{} // closed when Run returns

	// Set while loading, before ready is closed.
	daemon   *daemon
	images   *imageStore
	programs bin.Programs
	cgroups  *cgroup.Hierarchies
	host     hostFacts

	begun chan *workload // new actors, for Run to run

	mu        sync.Mutex
	workloads map[maru.WorkloadID]*workload
	running   map[string]handle // by instance
	strays    map[string]bool   // containers that could not be removed
}

var (
	_ maru.Engine    = (*Engine)(nil)
	_ maru.Drainer   = (*Engine)(nil)
	_ maru.Logs      = (*Engine)(nil)
	_ maru.Execer    = (*Engine)(nil)
	_ maru.Forwarder = (*Engine)(nil)
	_ maru.Meter     = (*Engine)(nil)
	_ maru.Volumes   = (*Engine)(nil)
	_ maru.Images    = (*Engine)(nil)
	_ maru.DataPlane = (*Engine)(nil)

	_ maru.ImageSaver  = (*Engine)(nil)
	_ maru.Constrained = (*Engine)(nil)

	_ maru.Repositories = (*Engine)(nil)
	_ maru.Uploads      = (*Engine)(nil)
)

// New makes an engine. It touches nothing before Run. Invalid when cfg is.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	net, err := network.New(network.Config{
		Name: cfg.Layout.Name, RunDir: cfg.Layout.Run, Ranges: cfg.Ranges, NoMesh: cfg.NoMesh,
	}, log)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		cfg:       cfg,
		log:       log,
		seed:      cfg.Seed,
		hub:       newHub(),
		logs:      logs.New(cfg.Layout.LogData(), cfg.Logs, log),
		network:   net,
		wanted:    newWantedStore(cfg.Layout),
		records:   newRecordStore(cfg.Layout),
		volumes:   volume.New(cfg.Layout.VolumeData()),
		claims:    newClaims(),
		ranges:    newUserRanges(),
		limit:     make(chan struct{}, cfg.Starts),
		ready:     make(chan struct{}),
		stopped:   make(chan struct{}),
		workloads: make(map[maru.WorkloadID]*workload),
		running:   make(map[string]handle),
		begun:     make(chan *workload),
		strays:    make(map[string]bool),
	}
	if e.seed == 0 {
		e.seed = rand.Uint64()
	}
	return e, nil
}

// Run finds what there is, keeps what is wanted alive, and serves the methods, until ctx ends.
// Instances go on when it returns. Conflict when another engine runs in the same folders. It can be
// called once.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.stopped)
	unlock, err := e.lock()
	if err != nil {
		return e.fail(err)
	}
	defer unlock()
	defer e.hub.close()
	work, endWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endWork(errStopped)
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(shutdownGrace, func() { endWork(errStopped) })
	})()
	group, life := errgroup.WithContext(ctx)
	defer func() {
		if e.images != nil {
			e.images.repositories.stop()
		}
		if e.daemon != nil {
			e.daemon.stop()
		}
	}()
	if err := e.load(work); err != nil {
		return e.fail(fmt.Errorf("start engine: %w", err))
	}
	actors := slices.Collect(maps.Values(e.workloads))
	for _, actor := range actors {
		actor.announce()
	}
	for _, actor := range actors {
		group.Go(func() error { actor.run(lifetime{life, work}); return nil })
	}
	group.Go(func() error { return e.network.Run(life) })
	group.Go(func() error { return e.logs.Run(life) })
	group.Go(func() error { return e.sweepLoop(life) })
	group.Go(func() error { return e.watchDisk(life) })
	group.Go(func() error {
		for {
			select {
			case actor := <-e.begun:
				group.Go(func() error { actor.run(lifetime{life, work}); return nil })
			case <-life.Done():
				return nil
			}
		}
	})
	close(e.ready)
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// fail makes the methods answer with the error for which Run ends.
func (e *Engine) fail(err error) error {
	e.loaded = maru.Errorf(maru.Unavailable, "the engine did not start: %w", err)
	close(e.ready)
	return err
}

// await returns when the engine has loaded, or can't any more.
func (e *Engine) await(ctx context.Context) error {
	select {
	case <-e.ready:
		if e.loaded != nil {
			return e.loaded
		}
	case <-ctx.Done():
		return interrupted(ctx)
	}
	select {
	case <-e.stopped:
		return errStopped
	default:
		return nil
	}
}

// Update implements [maru.DataPlane].
func (e *Engine) Update(update maru.TrafficUpdate) error {
	<-e.ready
	if e.loaded != nil {
		return e.loaded
	}
	return e.network.Update(update)
}

func interrupted(ctx context.Context) error {
	return maru.Errorf(maru.Interrupted, "%w", context.Cause(ctx))
}
