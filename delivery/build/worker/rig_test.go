package worker_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/opencontainers/image-spec/identity"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/buildtest"
	"github.com/marucloud/maru/delivery/build/worker"
	"github.com/marucloud/maru/internal/layout"
)

// rig is a running worker with its containerd.
type rig struct {
	layout layout.Layout
	ctd    *containerd.Client
	client *build.Client
}

func newRig(tb testing.TB, change func(*worker.Config)) *rig {
	tb.Helper()
	l, ctd := buildtest.Containerd(tb)
	cfg := worker.Config{Layout: l, Runc: buildtest.Runc(tb), Idle: -1, Getenv: buildtest.Getenv}
	if change != nil {
		change(&cfg)
	}
	w, err := worker.New(cfg, buildtest.Log(tb))
	if err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("unix", l.BuilderSocket())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, listener) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			tb.Errorf("worker ended: %v", err)
		}
		leftOver(tb, l)
		if err := worker.Clean(l); err != nil {
			tb.Errorf("clean: %v", err)
		}
	})
	return &rig{layout: l, ctd: ctd, client: build.Dial(l.BuilderSocket())}
}

// leftOver tells of what builds should have taken with them. Groups that are still needed are given.
func leftOver(tb testing.TB, l layout.Layout, needed ...string) {
	tb.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, filepath.Join(l.Run, "builder")) {
			tb.Errorf("mount left over: %s", line)
		}
	}
	states, _ := filepath.Glob("/run/runc/*/state.json")
	for _, file := range states {
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), l.Run) {
			tb.Errorf("container left over: %s", file)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*" + worker.Cgroup(l) + "/*/")
	more, _ := filepath.Glob("/sys/fs/cgroup/*" + worker.Cgroup(l) + "/buildkit/*/")
	for _, g := range append(groups, more...) {
		if name := filepath.Base(g); name != "buildkit" && !slices.Contains(needed, name) {
			tb.Errorf("cgroup left over: %s", g)
		}
	}
}

func (r *rig) build(tb testing.TB, req build.Request) (maru.Image, []build.Event, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var events []build.Event
	image, err := r.client.Build(ctx, req, func(e build.Event) { events = append(events, e) })
	return image, events, err
}

func (r *rig) mustBuild(tb testing.TB, req build.Request) (maru.Image, []build.Event) {
	tb.Helper()
	image, events, err := r.build(tb, req)
	if err != nil {
		for _, e := range events {
			tb.Logf("%d %s: %s %s %s", e.Step, e.Name, e.Status, e.Log, e.Error)
		}
		tb.Fatalf("%v (hint: %s)", err, maru.HintOf(err))
	}
	return image, events
}

// files mounts an image, read only, and gives the folder. That it can be shows that it is unpacked.
func (r *rig) files(tb testing.TB, ref string) string {
	tb.Helper()
	ctx := context.Background()
	record, err := r.ctd.GetImage(ctx, ref)
	if err != nil {
		tb.Fatal(err)
	}
	diffs, err := record.RootFS(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	key := "view-" + filepath.Base(tb.TempDir()) + "-" + filepath.Base(tb.Name())
	mounts, err := r.ctd.SnapshotService("overlayfs").View(ctx, key, identity.ChainID(diffs).String(),
		snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "test"}))
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	if err := mount.All(mounts, dir); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := mount.UnmountAll(dir, 0); err != nil {
			tb.Error(err)
		}
		if err := r.ctd.SnapshotService("overlayfs").Remove(ctx, key); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

func folder(tb testing.TB, files map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	write(tb, dir, files)
	return dir
}

func write(tb testing.TB, dir string, files map[string]string) {
	tb.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

func output(events []build.Event) string {
	var lines []string
	for _, e := range events {
		if e.Log != "" {
			lines = append(lines, e.Log)
		}
	}
	return strings.Join(lines, "\n")
}

// statusOf gives how the step ended whose name contains part.
func statusOf(events []build.Event, part string) build.Status {
	var last build.Status
	for _, e := range events {
		if strings.Contains(e.Name, part) && e.Status != "" {
			last = e.Status
		}
	}
	return last
}
