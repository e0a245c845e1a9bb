package local

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/marucloud/maru"
)

// Volumes implements [maru.Volumes].
func (e *Engine) Volumes(ctx context.Context) ([]maru.VolumeStatus, error) {
	if err := e.await(ctx); err != nil {
		return nil, err
	}
	all, err := e.volumes.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		for _, a := range e.users(all[i].ID) {
			all[i].Holders = append(all[i].Holders, a.instance)
		}
	}
	return all, nil
}

// users gives the running attempts that mount the volume.
func (e *Engine) users(id maru.VolumeID) []*attempt {
	return slices.DeleteFunc(e.attempts(), func(a *attempt) bool { return !mountsVolume(*a.workload, id) })
}

func mountsVolume(w maru.Workload, id maru.VolumeID) bool {
	for _, m := range w.Container.Mounts {
		if m.Kind == maru.VolumeMount && m.Source != "" && w.Volumes[m.Source] == id {
			return true
		}
	}
	return false
}

// RemoveVolume implements [maru.Volumes]. A wanted workload that mounts the volume counts as a holder,
// whether or not an instance of it runs just now.
func (e *Engine) RemoveVolume(ctx context.Context, id maru.VolumeID) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	if err := checkVolume(id); err != nil {
		return err
	}
	deleteContent, err := e.takeVolume(id)
	if err != nil {
		return err
	}
	if err := deleteContent(); err != nil {
		e.log.Warn("delete what was in a volume", "volume", id.String(), "error", err) // it is out of the way; the next start tries again
	}
	return nil
}

// takeVolume removes the volume, unless a workload has it.
func (e *Engine) takeVolume(id maru.VolumeID) (deleteContent func() error, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, actor := range e.workloads {
		if mountsVolume(actor.spec, id) {
			return nil, maru.WithHint(maru.Errorf(maru.Conflict, "volume %s is in use by %s", id, actor.id), "remove the service first")
		}
	}
	return e.volumes.Remove(id)
}

// ExportVolume implements [maru.Volumes].
func (e *Engine) ExportVolume(ctx context.Context, id maru.VolumeID, w io.Writer) (err error) {
	if err := e.await(ctx); err != nil {
		return err
	}
	if err := checkVolume(id); err != nil {
		return err
	}
	if _, err := e.volumes.Path(id); err != nil {
		return err
	}
	for _, a := range e.users(id) {
		if err := e.cgroups.Freeze(a.cgroup); err != nil {
			if maru.KindOf(err) == maru.NotFound {
				continue // it ended just now
			}
			return err
		}
		defer func() { err = errors.Join(err, e.thaw(a)) }()
	}
	return e.volumes.Export(ctx, id, w)
}

// thaw lets a frozen instance go on, unless it is gone.
func (e *Engine) thaw(a *attempt) error {
	err := e.cgroups.Thaw(a.cgroup)
	if maru.KindOf(err) == maru.NotFound {
		return nil
	}
	return err
}

// ImportVolume implements [maru.Volumes].
func (e *Engine) ImportVolume(ctx context.Context, id maru.VolumeID, r io.Reader) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	if err := checkVolume(id); err != nil {
		return err
	}
	return e.volumes.Import(ctx, id, r)
}
