// Package dockerfile makes images from Dockerfiles with BuildKit, embedded in the process, over the
// runtime's containerd: base images, cached layers and results are in the one image store.
//
// Build steps run in containers by runc alone, so that they are no instances to the engine, each in a
// network namespace of its own. The Dockerfile language is the one that the embedded BuildKit knows: a
// "# syntax=docker/dockerfile:1" line, of any minor version, is taken as a wish for that; a line that
// names another frontend is refused, because it would fetch and run a program.
package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache/remotecache"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor/resources"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/network"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	bkcontainerd "github.com/moby/buildkit/worker/containerd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/marucloud/maru"
)

// Config is where a Solver keeps things and what it may use. All of it is required, but for Mirrors.
type Config struct {
	Root        string // folder of the cache
	Run         string // folder of what lives while steps run
	Containerd  string // its socket
	Namespace   string
	Snapshotter string
	Runc        string
	Cgroup      string // parent of the steps' cgroups
	Parallel    int
	Cache       CacheBounds
	Mirrors     map[string][]string
	Network     network.Provider
	Forbidden   func(netip.Addr) bool // addresses that ADD may not fetch from
}

// CacheBounds are in bytes.
type CacheBounds struct {
	MaxBytes int64
	MinFree  int64
}

// Images is where the images are named.
type Images interface {
	// Name gives names to the image of the digest; NotFound.
	Name(ctx context.Context, digest string, names []string) (maru.Image, error)
}

// Solver is BuildKit, running.
type Solver struct {
	cfg      Config
	images   Images
	log      *slog.Logger
	client   *bkclient.Client
	control  *control.Controller
	server   *grpc.Server
	served   chan struct{}
	platform ocispec.Platform
	stop     context.CancelFunc
}

// Open starts BuildKit. It is to be closed.
func Open(cfg Config, images Images, log *slog.Logger) (*Solver, error) {
	if err := os.MkdirAll(cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("make cache folder: %w", err)
	}
	quiet(log)
	ctx, stop := context.WithCancel(context.Background()) // of BuildKit's own loops, until Close
	s := &Solver{cfg: cfg, images: images, log: log, stop: stop, served: make(chan struct{}),
		platform: platforms.Normalize(platforms.DefaultSpec())}
	if err := s.open(ctx); err != nil {
		stop()
		return nil, fmt.Errorf("start BuildKit: %w", err)
	}
	return s, nil
}

func (s *Solver) open(ctx context.Context) error {
	opt, err := s.workerOpt()
	if err != nil {
		return err
	}
	w, err := base.NewWorker(ctx, opt)
	if err != nil {
		return errors.Join(err, opt.MetadataStore.Close())
	}
	if err := guardSources(w, s.cfg.Forbidden); err != nil {
		return errors.Join(err, w.Close())
	}
	workers := &worker.Controller{}
	if err := workers.Add(w); err != nil {
		return errors.Join(err, w.Close())
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(s.cfg.Root, "cache.db"))
	if err != nil {
		return errors.Join(err, w.Close())
	}
	history, err := boltutil.SafeOpen(filepath.Join(s.cfg.Root, "history.db"), 0o600, &bolt.Options{NoFreelistSync: true, Timeout: 10 * time.Second})
	if err != nil {
		return errors.Join(err, cache.Close(), w.Close())
	}
	sessions, err := session.NewManager()
	if err != nil {
		return errors.Join(err, history.Close(), cache.Close(), w.Close())
	}
	none := int64(0)
	s.control, err = control.NewController(control.Opt{
		SessionManager:            sessions,
		WorkerController:          workers,
		Frontends:                 map[string]frontend.Frontend{"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), builder.Build)},
		CacheManager:              solver.NewCacheManager(ctx, "local", cache, worker.NewCacheResultStorage(workers)),
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{},
		ResolveCacheImporterFuncs: cacheImporters(sessions, w.ContentStore(), opt.RegistryHosts),
		Entitlements:              []string{entitlements.EntitlementNetworkHost.String()},
		HistoryDB:                 history,
		HistoryConfig:             &config.HistoryConfig{MaxEntries: &none},
		CacheStore:                cache,
		LeaseManager:              w.LeaseManager(),
		ContentStore:              w.ContentStore(),
		GarbageCollect:            w.GarbageCollect,
		GracefulStop:              ctx.Done(),
	})
	if err != nil {
		return errors.Join(err, history.Close(), cache.Close(), w.Close())
	}
	return s.serve(ctx)
}

// serve gives the controller a client: they speak over a connection in memory.
func (s *Solver) serve(ctx context.Context) error {
	listener := bufconn.Listen(1 << 20)
	s.server = grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(64<<20),
		grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor))
	s.control.Register(s.server)
	go func() {
		defer close(s.served)
		_ = s.server.Serve(listener)
	}()
	var err error
	s.client, err = bkclient.New(ctx, "passthrough:///buildkit",
		bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	return err
}

// Close ends BuildKit. No build may be in progress.
func (s *Solver) Close() error {
	err := s.client.Close()
	s.server.Stop()
	<-s.served
	s.stop()
	return errors.Join(err, s.control.Close())
}

// workerOpt takes BuildKit's containerd worker, but runs steps by runc: without a shim, a step starts
// in half the time, and containerd has no containers that the engine would have to tell apart.
func (s *Solver) workerOpt() (base.WorkerOpt, error) {
	opt, err := bkcontainerd.NewWorkerOpt(bkcontainerd.WorkerOptions{
		Root:            s.cfg.Root,
		Address:         s.cfg.Containerd,
		SnapshotterName: s.cfg.Snapshotter,
		Namespace:       s.cfg.Namespace,
		NetworkOpt:      netproviders.Opt{Mode: "host"},
		ParallelismSem:  semaphore.NewWeighted(int64(s.cfg.Parallel)),
	})
	if err != nil {
		return opt, err
	}
	opt.Applier = syncedApplier{opt.Applier}
	if opt.ProxyProvider != nil {
		if err := opt.ProxyProvider.Close(); err != nil {
			return opt, err
		}
		opt.ProxyProvider = nil
	}
	if opt.ResourceMonitor, err = resources.NewMonitor(); err != nil {
		return opt, err
	}
	opt.NetworkProviders = map[pb.NetMode]network.Provider{
		pb.NetMode_UNSET: s.cfg.Network,
		pb.NetMode_HOST:  network.NewHostProvider(),
		pb.NetMode_NONE:  network.NewNoneProvider(),
	}
	opt.Executor, err = runcexecutor.New(runcexecutor.Opt{
		Root:                s.cfg.Run,
		CommandCandidates:   []string{s.cfg.Runc},
		DefaultCgroupParent: s.cfg.Cgroup,
		ResourceMonitor:     opt.ResourceMonitor,
	}, opt.NetworkProviders)
	if err != nil {
		return opt, err
	}
	opt.Platforms = []ocispec.Platform{s.platform}
	opt.RegistryHosts = registryHosts(s.cfg.Mirrors)
	opt.GCPolicy = policy(s.cfg.Cache)
	return opt, nil
}

// policy keeps what is quick to make again for a week, and everything within the bounds.
func policy(c CacheBounds) []bkclient.PruneInfo {
	bounded := bkclient.PruneInfo{MaxUsedSpace: c.MaxBytes, MinFreeSpace: c.MinFree}
	all := bounded
	all.All = true
	return []bkclient.PruneInfo{
		{
			Filter:       []string{"type==source.local,type==exec.cachemount,type==source.git.checkout"},
			KeepDuration: 7 * 24 * time.Hour,
			MaxUsedSpace: c.MaxBytes / 4,
		},
		{KeepDuration: 60 * 24 * time.Hour, MaxUsedSpace: c.MaxBytes, MinFreeSpace: c.MinFree},
		bounded,
		all,
	}
}

// Prune drops what was used longest ago until at most keep bytes are left.
func (s *Solver) Prune(ctx context.Context, keep int64) (int64, error) {
	freed := make(chan bkclient.UsageInfo, 32)
	sum := make(chan int64, 1)
	go func() {
		var n int64
		for u := range freed {
			n += u.Size
		}
		sum <- n
	}()
	opts := []bkclient.PruneOption{bkclient.PruneAll}
	if keep > 0 {
		opts = append(opts, bkclient.WithKeepOpt(0, 0, keep, 0))
	}
	err := s.client.Prune(ctx, freed, opts...)
	close(freed)
	n := <-sum
	if err != nil {
		return n, fmt.Errorf("prune build cache: %w", err)
	}
	return n, nil
}
