package local

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/loguri"
	"github.com/marucloud/maru/engine/local/network"
	"github.com/marucloud/maru/engine/local/userns"
	"github.com/marucloud/maru/internal/crash"
)

// maxImageMounts is how many images one instance can mount.
const maxImageMounts = 16

func imageSnapshot(container string, index int) string {
	return container + "-image-" + strconv.Itoa(index)
}

// start brings up one attempt of an instance. It works on copies and belongs to one goroutine.
type start struct {
	e         *Engine
	log       *slog.Logger
	workload  *maru.Workload
	rec       record
	version   uint64
	file      *recordFile
	container string
	folder    string
	addresses maru.Addresses // of the record, or allocated
	netns     string
}

// run starts the attempt. When it fails nothing of the attempt is left. The addresses are those that
// the instance has from then on, also when it failed.
func (s *start) run(ctx context.Context) (_ *attempt, err error) {
	select {
	case s.e.limit <- struct{}{}:
		defer func() { <-s.e.limit }()
	case <-ctx.Done():
		return nil, interrupted(ctx)
	}
	ctx = inNamespace(ctx)
	defer func() {
		if err == nil {
			return
		}
		if failed := s.e.reap(context.WithoutCancel(ctx), s.container); failed != nil {
			s.log.Error("clean up after a failed start", "error", failed)
		}
	}()
	defer s.e.cgroups.Hasten()()
	if s.addresses, err = s.address(); err != nil {
		return nil, err
	}
	s.rec.Addresses = s.addresses
	record, err := s.e.images.find(ctx, s.workload.Image)
	if err != nil {
		return nil, err
	}
	image, err := s.e.images.describe(ctx, record)
	if err != nil {
		return nil, err
	}
	if s.rec.Users, err = s.users(image); err != nil {
		return nil, err
	}
	mounts, err := s.prepare(ctx, image)
	if err != nil {
		return nil, err
	}
	spec, err := newSpec(ctx, specInput{
		Workload: *s.workload, Instance: s.rec.ID, Image: image, Host: s.e.host, Hostname: hostname(*s.workload, s.rec.ID),
		Netns: s.netns, Users: s.rec.Users, Userns: s.e.network.UserNamespace(s.rec.ID), Cgroup: s.cgroup(), Mounts: mounts, Warn: s.log,
	})
	if err != nil {
		return nil, err
	}
	return s.launch(ctx, image, spec)
}

// address gives the instance's addresses: those it has had, or new ones.
func (s *start) address() (maru.Addresses, error) {
	switch {
	case s.workload.Container.Host.HostNetwork:
		return s.e.cfg.Ranges.Host(), nil
	case s.rec.Addresses.V4.IsValid():
		return s.rec.Addresses, nil
	}
	return s.e.network.Allocate()
}

// users gives the users that the instance is outside: those it has had, or new ones; the zero Range
// when it has the host's.
func (s *start) users(image imageInfo) (userns.Range, error) {
	switch {
	case !ownUsers(*s.workload, image, s.e.host):
		s.e.ranges.free(s.rec.Users)
		return 0, nil
	case s.rec.Users != 0:
		return s.rec.Users, nil
	}
	return s.e.ranges.take()
}

func (s *start) cgroup() string { return path.Join(instanceCgroup(s.e.cfg.Layout), s.container) }

// prepare does at the same time what does not depend on each other: the record, the network, the root
// file system and the mounts.
func (s *start) prepare(ctx context.Context, image imageInfo) (mounts []specs.Mount, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.file.save(s.version, s.rec) })
	if !s.workload.Container.Host.HostNetwork {
		group.Go(func() (err error) {
			crash.Point("engine.network.attach.before")
			s.netns, err = s.e.network.Attach(ctx, s.rec.ID, network.Spec{
				Service: s.workload.ID.ServiceID, Networks: s.workload.Networks, Isolated: s.workload.Isolated, Addresses: s.addresses,
				Users: s.rec.Users,
			})
			crash.Point("engine.network.attach.after")
			return err
		})
	}
	group.Go(func() error {
		options := []snapshots.Opt{snapshots.WithLabels(map[string]string{rootLabel: rootLabelValue(), instanceLabel: s.rec.ID})}
		if mappings := s.rec.Users.Mappings(); mappings != nil {
			options = append(options, containerd.WithUserNSRemapperLabels(mappings, mappings))
		}
		_, err := s.e.daemon.client.SnapshotService(snapshotter).Prepare(ctx, s.container, image.parent, options...)
		crash.Point("engine.snapshot.prepare.after")
		if err != nil {
			return fmt.Errorf("root file system: %w", present(err))
		}
		return nil
	})
	group.Go(func() (err error) {
		if err := os.MkdirAll(s.folder, 0o700); err != nil {
			return err
		}
		etc, err := writeEtc(s.folder, etcInput{
			Workload: *s.workload, Instance: s.rec.ID, Hostname: hostname(*s.workload, s.rec.ID),
			Addresses: s.addresses, Gateway: s.e.network.Host(), Host: s.e.host, Owner: s.rec.Users.ID(0),
		})
		if err != nil {
			return err
		}
		mounts, err = s.prepareMounts(ctx, image)
		mounts = append(etc, mounts...)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return dropShadowed(mounts), nil
}

// dropShadowed lets a mount that the user put at a generated file's place win.
func dropShadowed(mounts []specs.Mount) []specs.Mount {
	last := make(map[string]int)
	for i, m := range mounts {
		last[m.Destination] = i
	}
	var kept []specs.Mount
	for i, m := range mounts {
		if last[m.Destination] == i {
			kept = append(kept, m)
		}
	}
	return kept
}

// launch makes container and task, and starts the process.
func (s *start) launch(ctx context.Context, image imageInfo, spec *specs.Spec) (*attempt, error) {
	crash.Point("engine.container.create.before")
	container, err := s.e.newContainer(ctx, s, spec)
	if err != nil {
		return nil, fmt.Errorf("make container: %w", err)
	}
	crash.Point("engine.task.create.before")
	address := loguri.Format(s.e.logs.Dir(s.workload.ID, s.rec.ID), s.rec.Attempt)
	task, err := container.NewTask(ctx, logTo(address, s.workload.Container.TTY))
	if err != nil {
		return nil, runtimeError(err)
	}
	crash.Point("engine.task.create.after")
	exit, err := task.Wait(context.WithoutCancel(ctx))
	if err != nil {
		return nil, fmt.Errorf("wait for container: %w", err)
	}
	if cores := s.workload.Container.Resources.CPUs; cores > 0 {
		if err := s.e.cgroups.LimitCPU(s.cgroup(), cores); err != nil {
			return nil, fmt.Errorf("limit processor time: %w", err)
		}
	}
	if err := task.Start(ctx); err != nil {
		return nil, runtimeError(err)
	}
	crash.Point("engine.task.start.after")
	return &attempt{
		instance: s.rec.ID, number: s.rec.Attempt, container: s.container, cgroup: s.cgroup(), cgroups: s.e.cgroups,
		folder: s.folder, addresses: s.addresses, workload: s.workload, image: image, process: spec.Process,
		task: task, exit: exit, started: time.Now(),
	}, nil
}

// logTo gives the task's output to its shim's log.
func logTo(address string, terminal bool) cio.Creator {
	return func(string) (cio.IO, error) {
		return logIO{cio.Config{Terminal: terminal, Stdout: address}}, nil
	}
}

// logIO is the IO of a task whose output the shim takes care of.
type logIO struct{ config cio.Config }

func (l logIO) Config() cio.Config { return l.config }
func (logIO) Cancel()              {}
func (logIO) Wait()                {}
func (logIO) Close() error         { return nil }

// startFailure is why a container could not be started, in the words of the OCI runtime.
type startFailure struct {
	reason string
	code   int // as shells have it
}

// Exit codes of shells for what could not be started.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
	codeNotStarted    = 128
)

func (f *startFailure) Error() string { return f.reason }

// runtimeError takes what matters to people out of an error of the OCI runtime.
func runtimeError(err error) error {
	text := err.Error()
	for _, frame := range []string{"error during container init: ", "unable to start container process: ", "OCI runtime create failed: ", "OCI runtime start failed: "} {
		if _, after, found := strings.Cut(text, frame); found {
			text = after
			break
		}
	}
	failure := &startFailure{reason: strings.TrimSpace(text), code: codeNotStarted}
	switch {
	case strings.Contains(text, "exec") && (strings.Contains(text, "no such file or directory") || strings.Contains(text, "not found")):
		failure.code = codeNotFound
	case strings.Contains(text, "exec") && (strings.Contains(text, "permission denied") || strings.Contains(text, "is a directory")):
		failure.code = codeNotExecutable
	}
	return maru.Errorf(maru.Invalid, "the container could not be started: %w", failure)
}
