package local

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

const (
	diskInterval = 250 * time.Millisecond // between looks at the disk
	diskAtLeast  = 30 * time.Second       // an instance is measured at least so often
)

// measured is what was found of an instance's root file system.
type measured struct {
	at   time.Time
	left int64 // bytes until its limit
	free int64 // bytes of the disk then
}

// watchDisk kills instances that write more to their root file system than they may. To measure one is to walk
// through its files, so that is done only when the disk has lost as much since the last time as it had left.
func (e *Engine) watchDisk(ctx context.Context) error {
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	known := map[string]measured{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := map[string]measured{}
		for _, a := range e.attempts() {
			limit := a.workload.Container.Resources.Disk
			if limit <= 0 {
				continue
			}
			free, err := freeDisk(e.cfg.Layout.Data)
			if err != nil {
				e.log.Warn("could not look at the disk", "error", err)
				break
			}
			m, ok := known[a.container]
			if !ok {
				m = measured{time.Now(), limit, free}
			}
			if m.free-free >= m.left || time.Since(m.at) >= diskAtLeast {
				m = measured{time.Now(), limit - e.written(ctx, a), free}
			}
			now[a.container] = m
			if m.left < 0 && !a.overDisk.Swap(true) {
				e.log.Warn("instance writes more to the disk than it may", "instance", a.instance, "limit", limit)
				if err := a.signal(ctx, unix.SIGKILL); err != nil {
					e.log.Error("kill an instance that fills the disk", "instance", a.instance, "error", err)
					a.overDisk.Store(false)
				}
			}
		}
		known = now
	}
}

// written gives how many bytes an instance's root file system has over its image; 0 when it is just going.
func (e *Engine) written(ctx context.Context, a *attempt) int64 {
	used, err := e.daemon.client.SnapshotService(snapshotter).Usage(inNamespace(ctx), a.container)
	if err != nil {
		return 0
	}
	return used.Size
}

// freeDisk gives how many bytes are free of the file system with a folder.
func freeDisk(folder string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, err
	}
	return int64(s.Bfree) * s.Bsize, nil
}
