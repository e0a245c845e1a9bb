package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/cgroup"
	"github.com/marucloud/maru/engine/local/userns"
	"github.com/marucloud/maru/internal/crash"
	"github.com/marucloud/maru/internal/layout"
)

// Labels of the engine's containers and snapshots.
const (
	instanceLabel = "maru.cloud/instance"
	attemptLabel  = "maru.cloud/attempt"
)

// attempt is one container of an instance, with its process. It does not change but for taken and overDisk.
type attempt struct {
	instance  string
	number    int
	container string // containerd's ID of the container and of its snapshot
	cgroup    string
	cgroups   *cgroup.Hierarchies
	folder    string // of generated files
	addresses maru.Addresses
	workload  *maru.Workload
	image     imageInfo
	process   *specs.Process
	task      containerd.Task
	exit      <-chan containerd.ExitStatus
	started   time.Time
	taken     atomic.Bool // it is held, and its command was run
	overDisk  atomic.Bool // it is killed for going over its limit of the disk
}

// inNamespace gives the context that calls of containerd need.
func inNamespace(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, Namespace)
}

func rootLabelValue() string { return time.Now().UTC().Format(time.RFC3339) }

// instanceCgroup is the parent of the instances' cgroups.
func instanceCgroup(l layout.Layout) string { return path.Join(l.Cgroup(), "instances") }

func attemptFolder(l layout.Layout, container string) string {
	return filepath.Join(l.Run, "instances", container)
}

// attemptSecrets is the folder of the secrets that belong to the attempt alone.
func attemptSecrets(l layout.Layout, container string) string {
	return filepath.Join(secretsFolder(l), "instances", container)
}

// runcOptions tell the shim where runc is, and who owns the ends of the output that the instance has.
func (e *Engine) runcOptions(users userns.Range) *options.Options {
	owner := uint32(users.ID(0))
	return &options.Options{
		BinaryName: e.programs.Runc, Root: filepath.Join(e.cfg.Layout.Run, "runc"), IoUid: owner, IoGid: owner,
	}
}

// signal sends a signal to the attempt's first process. One that is gone is no error.
func (a *attempt) signal(ctx context.Context, number unix.Signal) error {
	if number == sigkill {
		a.hurry()
	}
	crash.Point("engine.signal.before")
	err := a.task.Kill(inNamespace(ctx), number)
	crash.Point("engine.signal.after")
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("signal %s to %s: %w", number, a.instance, err)
	}
	return nil
}

// hurry lets processes that are about to be killed use all the processor time there is: thousands of them
// would take minutes to end with what a container may have.
func (a *attempt) hurry() {
	_ = a.cgroups.UnlimitCPU(a.cgroup) // one that is gone needs none
}

// reap removes an ended attempt's task, container and file system. What is gone already is no error.
func (e *Engine) reap(ctx context.Context, container string) error {
	ctx = inNamespace(ctx)
	crash.Point("engine.task.delete.before")
	if err := e.deleteTask(ctx, container); err != nil {
		return fmt.Errorf("delete task %s: %w", container, err)
	}
	crash.Point("engine.task.delete.after")
	err := e.daemon.client.ContainerService().Delete(ctx, container)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete container %s: %w", container, err)
	}
	crash.Point("engine.container.delete.after")
	if err := e.removeSnapshots(ctx, container); err != nil {
		return fmt.Errorf("delete file system of %s: %w", container, err)
	}
	if err := e.removeSocket(ctx, container); err != nil {
		return fmt.Errorf("remove the shim's socket of %s: %w", container, err)
	}
	return errors.Join(os.RemoveAll(attemptFolder(e.cfg.Layout, container)), os.RemoveAll(attemptSecrets(e.cfg.Layout, container)))
}

// removeSocket removes the socket of a shim that was killed; one that ends by itself takes it along.
func (e *Engine) removeSocket(ctx context.Context, container string) error {
	address, err := shim.CreateSocketAddress(ctx, socketFolder(e.cfg.Layout), e.cfg.Layout.ContainerdSocket(), container, false)
	if err != nil {
		return err
	}
	if err := shim.RemoveSocket(address); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// deleteTask ends the container's task, whatever state it is in, and its shim.
func (e *Engine) deleteTask(ctx context.Context, container string) error {
	loaded, err := e.daemon.client.LoadContainer(ctx, container)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	task, err := loaded.Task(ctx, nil)
	if err == nil {
		_, err = task.Delete(ctx, containerd.WithProcessKill)
	}
	if !errdefs.IsNotFound(err) {
		return err
	}
	// The shim of an engine that died while it deleted the task has none any more, but is still there.
	_, err = e.daemon.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: container})
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// removeSnapshots removes the container's root file system and the images that it mounted.
func (e *Engine) removeSnapshots(ctx context.Context, container string) error {
	service := e.daemon.client.SnapshotService(snapshotter)
	var failed []error
	for i := range maxImageMounts + 1 {
		name := container
		if i > 0 {
			name = imageSnapshot(container, i-1)
		}
		err := service.Remove(ctx, name)
		if errdefs.IsNotFound(err) {
			if i > 0 {
				break
			}
			continue
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// newContainer writes down the container of an attempt.
func (e *Engine) newContainer(ctx context.Context, s *start, spec *specs.Spec) (containerd.Container, error) {
	return e.daemon.client.NewContainer(ctx, s.container,
		containerd.WithSnapshotter(snapshotter),
		func(_ context.Context, _ *containerd.Client, c *containers.Container) error {
			c.SnapshotKey = s.container
			return nil
		},
		containerd.WithImageName(s.workload.Image),
		containerd.WithRuntime(e.programs.Shim, e.runcOptions(s.rec.Users)),
		containerd.WithSpec(spec),
		containerd.WithContainerLabels(map[string]string{
			instanceLabel: s.rec.ID, attemptLabel: maru.Itoa(s.rec.Attempt),
		}))
}
