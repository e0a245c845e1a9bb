package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru/engine/local/bin"
	"github.com/marucloud/maru/internal/layout"
)

// sweep removes what belongs to no instance: containers with their tasks and shims, file systems,
// networks, cgroups, anonymous volumes, folders. It is called while nothing is under way.
func (e *Engine) sweep(ctx context.Context, keep map[string]bool) error {
	instances := make(map[string]bool)
	for _, w := range e.workloads {
		for id := range w.instances {
			instances[id] = true
		}
	}
	if err := e.sweepContainers(ctx, keep); err != nil {
		return err
	}
	var failed []error
	failed = append(failed, e.sweepShims(keep), e.sweepLeases(ctx), e.sweepSnapshots(ctx, keep), e.sweepNetworks(ctx, instances), e.volumes.KeepAnonymous(instances))
	for _, name := range e.cgroups.Children(instanceCgroup(e.cfg.Layout)) {
		if !keep[name] {
			failed = append(failed, e.cgroups.Remove(path.Join(instanceCgroup(e.cfg.Layout), name)))
		}
	}
	failed = append(failed, e.sweepFolders(keep))
	if err := errors.Join(failed...); err != nil {
		// What can't be removed now is in nobody's way, and the next start tries again.
		e.log.Error("remove what belongs to nothing", "error", err)
	}
	return nil
}

func (e *Engine) sweepContainers(ctx context.Context, keep map[string]bool) error {
	found, err := e.daemon.client.ContainerService().List(inNamespace(ctx))
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	programs := []string{}
	var group errgroup.Group
	group.SetLimit(e.cfg.Starts)
	for _, c := range found {
		if builders := c.Labels[instanceLabel] == ""; builders || keep[c.ID] {
			programs = append(programs, c.Runtime.Name)
			continue
		}
		e.log.Info("removing a container that belongs to nothing", "container", c.ID)
		group.Go(func() error { return e.reap(ctx, c.ID) })
	}
	return errors.Join(group.Wait(), bin.Clean(e.programsFolder(), programs))
}

// builderLabel marks the leases that the builder takes for itself.
const builderLabel = "maru.cloud/builder"

// sweepLeases removes the leases of calls that an engine died in. Those of the builder, which may be at
// work, tell so; what has no end is no call's.
func (e *Engine) sweepLeases(ctx context.Context) error {
	ctx = inNamespace(ctx)
	service := e.daemon.client.LeasesService()
	found, err := service.List(ctx)
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	var failed []error
	for _, l := range found {
		if l.Labels["containerd.io/gc.expire"] == "" || l.Labels["buildkit/lease.temporary"] != "" || l.Labels[builderLabel] != "" {
			continue
		}
		if err := service.Delete(ctx, l); err != nil && !errdefs.IsNotFound(err) {
			failed = append(failed, fmt.Errorf("remove lease %s: %w", l.ID, err))
		}
	}
	return errors.Join(failed...)
}

func (e *Engine) sweepSnapshots(ctx context.Context, keep map[string]bool) error {
	ctx = inNamespace(ctx)
	service := e.daemon.client.SnapshotService(snapshotter)
	var stray []string
	err := service.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		container, _, _ := strings.Cut(info.Name, "-image-")
		ours := info.Labels[instanceLabel] != "" || strings.HasPrefix(info.Name, lendPrefix)
		if ours && !keep[info.Name] && !keep[container] {
			stray = append(stray, info.Name)
		}
		return nil
	})
	failed := []error{err}
	for _, name := range stray {
		if err := service.Remove(ctx, name); err != nil && !errdefs.IsNotFound(err) {
			failed = append(failed, fmt.Errorf("remove file system %s: %w", name, err))
		}
	}
	return errors.Join(failed...)
}

func (e *Engine) sweepNetworks(ctx context.Context, instances map[string]bool) error {
	keep := make([]string, 0, len(instances))
	for id := range instances {
		keep = append(keep, id)
	}
	return e.network.Sweep(ctx, keep)
}

// sweepFolders removes the folders of attempts that are gone.
func (e *Engine) sweepFolders(keep map[string]bool) error {
	var failed []error
	for _, folder := range []func(layout.Layout, string) string{attemptFolder, attemptSecrets} {
		entries, err := os.ReadDir(folder(e.cfg.Layout, ""))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, entry := range entries {
			if !keep[entry.Name()] {
				failed = append(failed, os.RemoveAll(folder(e.cfg.Layout, entry.Name())))
			}
		}
	}
	return errors.Join(failed...)
}

// sweepInterval is how often the engine tries again to remove what it could not.
const sweepInterval = time.Minute

// leave remembers a container that could not be removed.
func (e *Engine) leave(container string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.strays[container] = true
}

// sweepLoop removes containers that could not be removed when they ended.
func (e *Engine) sweepLoop(ctx context.Context) error {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		e.mu.Lock()
		strays := slices.Sorted(maps.Keys(e.strays))
		e.mu.Unlock()
		for _, container := range strays {
			if err := e.reap(ctx, container); err != nil {
				e.log.Error("remove what is left of an attempt", "container", container, "error", err)
				continue
			}
			e.mu.Lock()
			delete(e.strays, container)
			e.mu.Unlock()
		}
	}
}
