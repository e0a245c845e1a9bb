package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/marucloud/maru/internal/mounts"
)

// Ready returns when the engine has found what there is, or can't any more: the error.
func (e *Engine) Ready(ctx context.Context) error { return e.await(ctx) }

// Purge stops all instances of an installation at once and removes what they have on the machine:
// containers, mounts, networks, rules and cgroups. What is left are the folders of the layout, with
// nothing mounted in them. Conflict while an engine runs.
func Purge(ctx context.Context, cfg Config, log *slog.Logger) error {
	e, err := New(cfg, log)
	if err != nil {
		return err
	}
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	// What nobody wants is swept while loading.
	if err := errors.Join(os.RemoveAll(e.wanted.folder), os.RemoveAll(e.records.folder)); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	loadErr := e.load(ctx)
	if e.daemon != nil {
		e.daemon.stop()
	}
	failed := []error{loadErr, e.network.Teardown(ctx)}
	if e.cgroups != nil {
		failed = append(failed, e.cgroups.Remove(instanceCgroup(e.cfg.Layout)), e.cgroups.Remove(e.cfg.Layout.Cgroup()))
	}
	failed = append(failed, mounts.Unmount(e.cfg.Layout.Run), mounts.Unmount(e.cfg.Layout.Data))
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	return nil
}
