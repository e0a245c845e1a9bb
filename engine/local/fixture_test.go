package local_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
	"github.com/marucloud/maru/internal/layout"
)

// patience is how long anything may take before a test gives up.
const patience = 30 * time.Second

var engines atomic.Int64

// newConfig gives a configuration for an engine of its own, in new folders.
func newConfig(t testing.TB) local.Config {
	t.Helper()
	n := engines.Add(1)
	name := fmt.Sprintf("%s%c", testName, 'a'+rune(n%26))
	folder, err := os.MkdirTemp("/tmp", testName+"-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o711); err != nil { // who is root in an instance only gets to its root file system then
		t.Fatal(err)
	}
	return local.Config{
		Layout: layout.Layout{Name: name[max(0, len(name)-8):], Data: filepath.Join(folder, "d"), Run: filepath.Join(folder, "r")},
		Ranges: maru.Ranges{
			InstancesV4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(2 * n), 0, 0}), 16),
			InstancesV6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x6d, 0x74, byte(n), 0, 0, 0, 1}), 64),
			VirtualV4:   netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(2*n + 1), 0, 0}), 16),
			VirtualV6:   netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x6d, 0x74, byte(n), 0, 0, 0, 2}), 64),
		},
		Seed: 1,
	}
}

// logger writes an engine's log to the test's.
func logger(t testing.TB) *slog.Logger {
	level := slog.LevelWarn
	if os.Getenv("MARU_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: level}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// startEngine runs an engine until the test ends, with everything that it ran.
func startEngine(t testing.TB, cfg local.Config) (*local.Engine, func()) {
	t.Helper()
	e, err := local.New(cfg, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	t.Cleanup(func() {
		if !t.Failed() {
			removeAll(t, e)
		}
		stop()
	})
	return e, stop
}

// removeAll removes all workloads and waits until they are gone.
func removeAll(t testing.TB, e maru.Engine) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	left := make(map[maru.WorkloadID]bool)
	synced := false
	for o, err := range e.Watch(ctx) {
		if maru.KindOf(err) == maru.Unavailable {
			return
		}
		switch {
		case err != nil:
			t.Errorf("watch: %v", err)
			return
		case o.Synced:
			synced = true
		case o.Gone:
			delete(left, o.Workload)
		default:
			if !left[o.Workload] {
				left[o.Workload] = true
				if err := e.Remove(ctx, o.Workload); err != nil {
					t.Errorf("remove: %v", err)
				}
			}
			for _, instance := range o.Instances {
				if instance.Phase == maru.PhaseDraining {
					if d, ok := e.(maru.Drainer); ok {
						_ = d.Drained(ctx, instance.ID)
					}
				}
			}
		}
		if synced && len(left) == 0 {
			return
		}
	}
	t.Errorf("workloads are not gone: %v", left)
}

// observe waits until an observation of the workload is as wanted, and gives it.
func observe(t testing.TB, e maru.Engine, id maru.WorkloadID, what string, wanted func(maru.Observation) bool) maru.Observation {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last maru.Observation
	for o, err := range e.Watch(ctx) {
		if err != nil {
			t.Fatalf("watch: %v", err)
		}
		if o.Workload != id {
			continue
		}
		if last = o; wanted(o) {
			return o
		}
	}
	t.Fatalf("%s: not %s; last seen: %s", id, what, maru.Raw(last))
	return last
}

// ready is that all instances that are wanted are ready.
func ready(o maru.Observation) bool {
	count := 0
	for _, instance := range o.Instances {
		if instance.Ready && instance.Phase == maru.PhaseRunning {
			count++
		}
	}
	return count == o.Wanted && count == len(o.Instances)
}

var program = sync.OnceValues(func() ([]byte, error) {
	folder, err := os.MkdirTemp("/tmp", testName+"-")
	if err != nil {
		return nil, err
	}
	out := filepath.Join(folder, "program")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", out, "./testdata/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(err, errors.New(string(output)))
	}
	return os.ReadFile(out)
})

// file is an entry of an image.
type file struct {
	path     string
	mode     int64
	uid, gid int
	content  string
	link     string
}

// newImage makes an image with the test program at /program and the files.
func newImage(t testing.TB, change func(*v1.Config), files ...file) v1.Image {
	t.Helper()
	content, err := program()
	if err != nil {
		t.Fatal(err)
	}
	base := []file{
		{path: "etc/", mode: 0o755}, {path: "tmp/", mode: 0o1777}, {path: "mnt/", mode: 0o755},
		{path: "etc/passwd", mode: 0o644, content: "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n"},
		{path: "etc/group", mode: 0o644, content: "root:x:0:\nweb:x:1001:\nextra:x:2000:web\nmore:x:3000:\n"},
		{path: "program", mode: 0o755, content: string(content)},
	}
	image, err := mutate.AppendLayers(empty.Image, newLayer(t, base), newLayer(t, files))
	if err != nil {
		t.Fatal(err)
	}
	described, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	described = described.DeepCopy()
	described.OS, described.Architecture = "linux", "amd64"
	described.Config.Entrypoint = []string{"/program"}
	described.Config.Env = []string{"PATH=/", "FROM_IMAGE=yes"}
	if change != nil {
		change(&described.Config)
	}
	image, err = mutate.ConfigFile(image, described)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func newLayer(t testing.TB, files []file) v1.Layer {
	t.Helper()
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	for _, f := range files {
		header := &tar.Header{Name: f.path, Mode: f.mode, Uid: f.uid, Gid: f.gid, Typeflag: tar.TypeReg, Size: int64(len(f.content)), Linkname: f.link}
		switch {
		case strings.HasSuffix(f.path, "/"):
			header.Typeflag = tar.TypeDir
		case f.link != "":
			header.Typeflag = tar.TypeSymlink
		}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// archiveOf gives the image as docker save would.
func archiveOf(t testing.TB, tag string, image v1.Image) io.Reader {
	t.Helper()
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(ref, image, &archive); err != nil {
		t.Fatal(err)
	}
	return &archive
}

// loadImage loads an image with the test program into the engine and gives its reference.
func loadImage(t testing.TB, e maru.Images, change func(*v1.Config), files ...file) string {
	t.Helper()
	loaded, err := e.Load(t.Context(), archiveOf(t, "test/program:1", newImage(t, change, files...)))
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded) != 1 {
		t.Fatalf("loaded %d images", len(loaded))
	}
	return loaded[0].Reference
}

// newWorkload gives a workload of one instance that serves HTTP.
func newWorkload(service, release, image string) maru.Workload {
	scope := maru.Scope{Project: "default", Environment: "test", App: "app"}
	return maru.Workload{
		ID: scope.Service(service).Workload(release), Kind: maru.LongRunning, Image: image, Replicas: 1,
		Ports:    []maru.Port{{Port: 8080, Protocol: maru.TCP}},
		Networks: []maru.NetworkID{{Scope: scope, Network: "default"}},
	}
}

func apply(t testing.TB, e maru.Engine, w maru.Workload) {
	t.Helper()
	if err := e.Apply(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

// run runs the test program in an instance and gives what it printed.
func run(t testing.TB, e maru.Execer, instance string, args ...string) string {
	t.Helper()
	code, out, err := tryRun(t, e, instance, args...)
	if err != nil || code != 0 {
		t.Fatalf("%v: exit code %d, %v: %s", args, code, err, out)
	}
	return out
}

func tryRun(t testing.TB, e maru.Execer, instance string, args ...string) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	code, err := e.Exec(ctx, instance, maru.ExecCommand{Args: append([]string{"/program"}, args...)}, nil, &out, &out)
	return code, strings.TrimSpace(out.String()), err
}

func get(url string) (string, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return strings.TrimSpace(string(body)), err
}
