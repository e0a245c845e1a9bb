package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/bin"
	"github.com/marucloud/maru/engine/local/cgroup"
	"github.com/marucloud/maru/engine/local/userns"
	"github.com/marucloud/maru/plan"
)

// lock makes sure that there is one engine in these folders.
func (e *Engine) lock() (unlock func(), err error) {
	for _, folder := range []string{e.cfg.Layout.Run, e.cfg.Layout.Data, e.cfg.Layout.RuntimeData()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(filepath.Join(e.cfg.Layout.RuntimeData(), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, maru.WithHint(maru.Errorf(maru.Conflict, "another engine runs in %s", e.cfg.Layout.Data),
			"stop it, or use other folders")
	}
	return func() { _ = f.Close() }, nil
}

// load finds what there is, takes up what is wanted, and removes the rest.
func (e *Engine) load(ctx context.Context) (err error) {
	if err := errors.Join(e.wanted.open(), e.records.open(), e.volumes.Open()); err != nil {
		return err
	}
	if e.programs, err = bin.Install(e.programsFolder()); err != nil {
		return err
	}
	if e.cgroups, err = cgroup.Open(); err != nil {
		return err
	}
	if e.host, err = findHostFacts(e.cgroups); err != nil {
		return err
	}
	e.host.seccomp, e.host.initProgram = e.programs.Seccomp, e.programs.Init
	if !e.host.seccomp {
		e.log.Warn("runc was built without libseccomp: instances run without a system call filter")
	}
	wanted, err := e.wanted.load()
	if err != nil {
		return err
	}
	records, err := e.records.load()
	if err != nil {
		return err
	}
	if err := cleanTempMounts(filepath.Join(e.cfg.Layout.Run, "tmpmounts")); err != nil {
		e.log.Warn("unmount what an earlier engine left", "error", err)
	}
	if err := e.cleanBundles(); err != nil {
		e.log.Warn("remove what an earlier engine left of containers", "error", err)
	}
	redirectLog(e.log)
	exits := e.readExits() // containerd forgets them while it loads
	if e.daemon, err = startDaemon(inNamespace(ctx), e.cfg.Layout); err != nil {
		return err
	}
	e.host.noUsers, e.host.noUserVolumes = e.tryUsers(ctx)
	e.images = newImageStore(e.daemon.client, e.cfg.Layout.ContainerdData(), e.cfg, e.log)
	for _, r := range records {
		if r.Addresses.V4.IsValid() && r.Addresses != e.cfg.Ranges.Host() {
			e.network.Reserve(r.Addresses)
		}
		e.ranges.reserve(r.Users)
	}
	if err := e.network.Setup(ctx); err != nil {
		return fmt.Errorf("set up network: %w", err)
	}
	return e.adopt(ctx, wanted, records, exits)
}

// cleanTempMounts sets the folder for containerd's passing mounts, and ends those that an engine died in.
func cleanTempMounts(folder string) error {
	if err := mount.SetTempMountLocation(folder); err != nil {
		return err
	}
	if _, err := mount.CleanupTempMounts(0); err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var failed []error
	for _, entry := range entries {
		failed = append(failed, os.Remove(filepath.Join(folder, entry.Name())))
	}
	return errors.Join(failed...)
}

// cleanBundles removes the bundles in whose removal an engine died. Containerd renames a bundle so that it
// begins with a dot before it removes it, and leaves it alone from then on.
func (e *Engine) cleanBundles() error {
	left, err := filepath.Glob(filepath.Join(bundlesFolder(e.cfg.Layout), ".*"))
	if err != nil {
		return err
	}
	var failed []error
	for _, bundle := range left {
		failed = append(failed, os.RemoveAll(bundle))
	}
	return errors.Join(failed...)
}

func (e *Engine) programsFolder() string { return filepath.Join(e.cfg.Layout.RuntimeData(), "bin") }

// adopt gives each wanted workload its actor with the instances that are there.
func (e *Engine) adopt(ctx context.Context, wanted []wantedWorkload, records map[string]record, exits map[string]maru.Exit) error {
	for _, kept := range wanted {
		e.workloads[kept.Workload.ID] = newWorkload(e, kept)
	}
	found, err := e.daemon.client.ContainerService().List(inNamespace(ctx))
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	byInstance := make(map[string][]containers.Container)
	for _, c := range found {
		if id := c.Labels[instanceLabel]; id != "" {
			byInstance[id] = append(byInstance[id], c)
		}
	}
	a := adoption{e: e, exits: exits, keep: make(map[string]bool)}
	for _, id := range slices.Sorted(maps.Keys(records)) {
		w := e.workloads[records[id].Workload]
		if w == nil {
			if err := e.records.file(id).forget(); err != nil {
				return err
			}
			continue
		}
		if err := a.instance(ctx, w, records[id], byInstance[id]); err != nil {
			return fmt.Errorf("adopt instance %s: %w", id, err)
		}
	}
	return e.sweep(ctx, a.keep)
}

// adoption takes up the instances that an earlier engine left.
type adoption struct {
	e     *Engine
	exits map[string]maru.Exit
	keep  map[string]bool // containers to leave alone
}

// instance takes up one instance: with its process if it runs, else to be started again. Containers
// that are not kept are swept.
func (a *adoption) instance(ctx context.Context, w *workload, rec record, found []containers.Container) error {
	inst := &instance{rec: rec, file: a.e.records.file(rec.ID), state: plan.InstanceNew}
	w.instances[rec.ID] = inst
	if rec.Holds {
		a.e.claims.take(claimed(w.want), w.id, rec.ID)
	}
	if !rec.Ended.IsZero() {
		inst.state = plan.InstanceEnded
		return nil
	}
	i := slices.IndexFunc(found, func(c containers.Container) bool { return attemptOf(c) == rec.Attempt })
	if i < 0 {
		return nil // its attempt did not get far enough to have a container
	}
	running, begun, err := a.running(ctx, w, inst, found[i])
	switch exit, known := a.exits[found[i].ID]; {
	case err != nil:
		return err
	case running != nil:
		a.keep[found[i].ID] = true
		inst.state, inst.attempt = plan.InstanceRunning, running
		inst.ready = rec.WasReady && !rec.ReadySince.IsZero() && rec.Draining.IsZero()
	case known:
		a.ended(w, inst, exit)
	case begun:
		// The machine went down, or its shim did, and nobody knows how it ended.
		a.ended(w, inst, maru.Exit{Code: unknownExit, At: time.Now().UTC()})
	}
	return nil
}

// unknownExit is the code of a process of which only is known that it is gone.
const unknownExit = 255

// ended takes in that an instance ended while the engine was away.
func (a *adoption) ended(w *workload, inst *instance, exit maru.Exit) {
	inst.state = plan.InstanceEnded
	inst.rec.Ended, inst.rec.LastExit = exit.At, &exit
	inst.rec.Failed = exit.Code != 0
	inst.rec.ReadySince = time.Time{}
	inst.rec.Ends = plan.CountEnds(w.want.Container.Restart, inst.rec.Ends, exit.At.Sub(startOf(inst.rec)))
	w.save(inst)
}

// startOf gives when the attempt was started, or at least when that was begun.
func startOf(rec record) time.Time {
	if rec.Started.IsZero() {
		return rec.Begun
	}
	return rec.Started
}

// running gives the attempt whose process lives in the container, or nil, and whether it may have lived.
func (a *adoption) running(ctx context.Context, w *workload, inst *instance, c containers.Container) (_ *attempt, begun bool, err error) {
	ctx = inNamespace(ctx)
	container, err := a.e.daemon.client.LoadContainer(ctx, c.ID)
	if err != nil {
		return nil, false, err
	}
	task, err := container.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	status, err := task.Status(ctx)
	if err != nil || status.Status != containerd.Running && status.Status != containerd.Paused {
		return nil, err != nil || status.Status != containerd.Created, nil // what can't be asked is no instance to keep
	}
	if status.Status == containerd.Paused {
		if err := task.Resume(ctx); err != nil {
			return nil, true, err
		}
	}
	spec, err := container.Spec(ctx)
	if err != nil {
		return nil, true, err
	}
	exit, err := task.Wait(context.WithoutCancel(ctx))
	if err != nil {
		return nil, true, err
	}
	inst.rec.Started = startOf(inst.rec)
	// An earlier version, which kept the instance meanwhile, has no users in its record.
	if mappings := spec.Linux.UIDMappings; len(mappings) > 0 {
		inst.rec.Users = userns.Range(mappings[0].HostID)
		a.e.ranges.reserve(inst.rec.Users)
	}
	want := w.want
	adopted := &attempt{
		instance: inst.rec.ID, number: inst.rec.Attempt, container: c.ID, cgroup: spec.Linux.CgroupsPath, cgroups: a.e.cgroups,
		folder: attemptFolder(a.e.cfg.Layout, c.ID), addresses: inst.rec.Addresses, workload: &want,
		process: spec.Process, task: task, exit: exit, started: inst.rec.Started,
	}
	// An instance whose image was taken away still runs.
	if record, err := a.e.images.find(ctx, want.Image); err == nil {
		if info, err := a.e.images.describe(ctx, record); err == nil {
			adopted.image = info
		}
	}
	return adopted, true, nil
}

func attemptOf(c containers.Container) int {
	n, err := strconv.Atoi(c.Labels[attemptLabel])
	if err != nil {
		return 0
	}
	return n
}

// adopted has the actor follow the attempts that it was given by an adoption.
func (w *workload) adopted(t lifetime) {
	for _, id := range slices.SortedFunc(maps.Keys(w.instances), strings.Compare) {
		if inst := w.instances[id]; inst.attempt != nil {
			w.watch(t, inst, inst.attempt)
		}
	}
}
