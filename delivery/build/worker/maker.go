package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/budget"
	"github.com/marucloud/maru/delivery/build/buildnet"
	"github.com/marucloud/maru/delivery/build/dockerfile"
	"github.com/marucloud/maru/delivery/build/golang"
	"github.com/marucloud/maru/delivery/build/imagestore"
	"github.com/marucloud/maru/delivery/build/sandbox"
)

// maker is a running worker's parts. BuildKit is started by the first build that needs it.
type maker struct {
	cfg    Config
	log    *slog.Logger
	client *containerd.Client
	store  *imagestore.Store
	golang *golang.Builder

	mu     sync.Mutex
	solver *dockerfile.Solver
	net    *buildnet.Provider
}

var _ build.Builder = (*maker)(nil)

func (w *Worker) open() (*maker, error) {
	cfg := w.cfg
	for _, dir := range []string{cfg.Layout.BuilderData(), w.runFolder()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make builder folder: %w", err)
		}
	}
	if err := budget.Apply(Cgroup(cfg.Layout), cfg.Budget, w.log); err != nil {
		return nil, err
	}
	if err := w.clean(); err != nil {
		return nil, err
	}
	client, err := containerd.New(cfg.Layout.ContainerdSocket(),
		containerd.WithDefaultNamespace(cfg.Namespace), containerd.WithTimeout(30*time.Second))
	if err != nil {
		return nil, maru.WithHint(maru.Errorf(maru.Unavailable, "containerd at %s: %w", cfg.Layout.ContainerdSocket(), err),
			"see whether `maru runtime` runs")
	}
	m := &maker{cfg: cfg, log: w.log, client: client, store: imagestore.New(client, cfg.Snapshotter)}
	runner := sandbox.New(cfg.Runc, w.runFolder(), Cgroup(cfg.Layout))
	m.golang, err = golang.New(filepath.Join(cfg.Layout.BuilderData(), "go"), m.store, runner, cfg.Getenv, w.log)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	m.net = buildnet.New(buildnet.Config{
		Name: cfg.Layout.Name, Range: cfg.Network, Forbidden: cfg.Forbidden, Run: w.runFolder(),
	}, w.log)
	return m, nil
}

func (m *maker) close() error {
	var err error
	if m.solver != nil {
		err = m.solver.Close() // and its network
	}
	return errors.Join(err, m.client.Close())
}

// Build makes the image by the way that the request names.
func (m *maker) Build(ctx context.Context, req build.Request, progress func(build.Event)) (maru.Image, error) {
	if req.Build.Go != nil {
		return m.golang.Build(ctx, req, progress)
	}
	s, err := m.buildkit()
	if err != nil {
		return maru.Image{}, err
	}
	return s.Build(ctx, req, progress)
}

// Prune drops cached results of both ways; each may keep half.
func (m *maker) Prune(ctx context.Context, keep int64) (int64, error) {
	s, err := m.buildkit()
	if err != nil {
		return 0, err
	}
	layers, err := s.Prune(ctx, keep/2)
	if err != nil {
		return layers, err
	}
	compiled, err := m.golang.Prune(ctx, keep/2)
	return layers + compiled, err
}

// tidy keeps what Go builds keep within bounds; BuildKit does so itself after each build.
func (m *maker) tidy(ctx context.Context) {
	bounds := m.cfg.cacheBounds()
	keep := bounds.MaxBytes
	var disk unix.Statfs_t
	if err := unix.Statfs(m.cfg.Layout.BuilderData(), &disk); err == nil && int64(disk.Bavail)*disk.Bsize < bounds.MinFree {
		keep = 0
	}
	freed, err := m.golang.Prune(ctx, keep)
	switch {
	case err != nil:
		m.log.Warn("the cache of Go builds was not cut back", "error", err)
	case freed > 0:
		m.log.Info("cut back the cache of Go builds", "bytes", freed)
	}
}

func (m *maker) buildkit() (*dockerfile.Solver, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.solver != nil {
		return m.solver, nil
	}
	s, err := dockerfile.Open(dockerfile.Config{
		Root:        filepath.Join(m.cfg.Layout.BuilderData(), "buildkit"),
		Run:         filepath.Join(m.cfg.Layout.Run, "builder"),
		Containerd:  m.cfg.Layout.ContainerdSocket(),
		Namespace:   m.cfg.Namespace,
		Snapshotter: m.cfg.Snapshotter,
		Runc:        m.cfg.Runc,
		Cgroup:      Cgroup(m.cfg.Layout),
		Parallel:    m.cfg.Parallel,
		Cache:       m.cfg.cacheBounds(),
		Mirrors:     m.cfg.Mirrors,
		Network:     m.net,
		Forbidden:   m.forbidden,
	}, m.store, m.log)
	if err != nil {
		return nil, err
	}
	m.solver = s
	return s, nil
}

// forbidden tells what a build may not fetch from: this machine, and what its steps can't reach.
func (m *maker) forbidden(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() || m.cfg.Network.Contains(a) {
		return true
	}
	for _, p := range m.cfg.Forbidden {
		if p.Contains(a) {
			return true
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, address := range own {
		if n, ok := address.(*net.IPNet); ok && n.IP.Equal(a.AsSlice()) {
			return true
		}
	}
	return false
}

const maxCache = 20 << 30

// cacheBounds are those of each way to build: half of what the config says, or else of shares of the
// disk.
func (c Config) cacheBounds() dockerfile.CacheBounds {
	bounds := dockerfile.CacheBounds{MaxBytes: c.Cache.MaxBytes, MinFree: c.Cache.MinFree}
	var disk unix.Statfs_t
	if err := unix.Statfs(c.Layout.BuilderData(), &disk); err != nil {
		disk.Blocks, disk.Bsize = maxCache, 1
	}
	tenth := int64(disk.Blocks) / 10 * disk.Bsize
	if bounds.MaxBytes == 0 {
		bounds.MaxBytes = min(tenth, maxCache)
	}
	if bounds.MinFree == 0 {
		bounds.MinFree = tenth
	}
	bounds.MaxBytes /= 2
	return bounds
}
