package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// helper is the program of the engine that is in each instance with a reaper, and packs and unpacks files there.
const helper = "/dev/init"

// action is the container of an action that is an image, beside the job's.
type action struct {
	job      *job
	id       maru.WorkloadID
	instance string
	config   maru.ImageConfig
}

// Beside implements [machine.Container].
func (j *job) Beside(ctx context.Context, image machine.Image, progress func(string)) (_ machine.ActionContainer, err error) {
	references, err := j.images(ctx, machine.Spec{Image: image, Progress: progress})
	if err != nil {
		return nil, err
	}
	found, err := j.parts.Images.Image(ctx, references[0])
	if err != nil {
		return nil, err
	}
	j.actions++
	w := j.workload(fmt.Sprintf("action-%d", j.actions), found.Reference, j.spec.CPUs, j.spec.Memory, 0, nil)
	w.Container.Init = true
	w.Container.Entrypoint, w.Container.Command = []string{"--hold"}, []string{}
	w.Container.ExtraHosts = j.hosts
	a := &action{job: j, id: w.ID, config: found.Config}
	j.workloads = append(j.workloads, w.ID)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Remove(context.WithoutCancel(ctx)))
		}
	}()
	if err := j.parts.Engine.Apply(ctx, w); err != nil {
		return nil, fmt.Errorf("start the action's container: %w", err)
	}
	running, err := j.await(ctx, []maru.WorkloadID{w.ID}, false)
	if err != nil {
		return nil, fmt.Errorf("start the action's container: %w", err)
	}
	a.instance = running[w.ID].ID
	j.tell(w, running[w.ID])
	return a, j.parts.Traffic.InForce(ctx)
}

// Config implements [machine.ActionContainer].
func (a *action) Config() maru.ImageConfig { return a.config }

// CopyIn implements [machine.ActionContainer].
func (a *action) CopyIn(ctx context.Context, archive io.Reader) error {
	return a.help(ctx, archive, io.Discard, "--sync")
}

// CopyOut implements [machine.ActionContainer].
func (a *action) CopyOut(ctx context.Context, dir string, w io.Writer) error {
	return a.help(ctx, nil, w, "--pack", dir)
}

// help has the engine's helper do something in there, as root.
func (a *action) help(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	var complaint strings.Builder
	code, err := a.Exec(ctx, maru.ExecCommand{Args: append([]string{helper}, args...), User: "0:0", Dir: "/"}, stdin, stdout, &complaint)
	if err == nil && code != 0 {
		err = maru.Errorf(maru.Unavailable, "%s in the action's container: exit code %d: %s", args[0], code, strings.TrimSpace(complaint.String()))
	}
	return err
}

// Exec implements [machine.ActionContainer].
func (a *action) Exec(ctx context.Context, cmd maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	return a.job.execIn(ctx, a.instance, cmd, stdin, stdout, stderr)
}

// Remove implements [machine.ActionContainer].
func (a *action) Remove(ctx context.Context) error {
	j := a.job
	j.removing.Lock()
	defer j.removing.Unlock()
	if j.removed {
		return nil
	}
	if err := j.parts.Engine.Remove(ctx, a.id); err != nil {
		return err
	}
	j.parts.Traffic.Remove(a.id.ServiceID)
	if err := j.gone(ctx, func(id maru.WorkloadID) bool { return id == a.id }); err != nil {
		return err
	}
	j.workloads = slices.DeleteFunc(j.workloads, func(id maru.WorkloadID) bool { return id == a.id })
	j.told = slices.DeleteFunc(j.told, func(id maru.ServiceID) bool { return id == a.id.ServiceID })
	return nil
}
