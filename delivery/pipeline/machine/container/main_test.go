package container_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
	"github.com/marucloud/maru/internal/layout"
	"github.com/marucloud/maru/test/images"
	"github.com/marucloud/maru/test/inside"
)

// testName names the cgroups and folders of this run.
var testName string

func TestMain(m *testing.M) { os.Exit(inside.Run(m, "p", &testName)) }

// startEngine runs an engine until the test ends.
func startEngine(t *testing.T) *local.Engine {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", testName+"-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o711); err != nil {
		t.Fatal(err)
	}
	e, err := local.New(local.Config{
		Layout: layout.Layout{Name: testName, Data: filepath.Join(folder, "d"), Run: filepath.Join(folder, "r")},
		Ranges: maru.Ranges{
			InstancesV4: netip.MustParsePrefix("10.90.0.0/16"), InstancesV6: netip.MustParsePrefix("fd6d:90::/64"),
			VirtualV4: netip.MustParsePrefix("10.91.0.0/16"), VirtualV6: netip.MustParsePrefix("fd6d:91::/64"),
		},
		Seed: 1,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	return e
}

// dataPlane tells the engine's kernel balancing, as the server does.
type dataPlane struct {
	engine  *local.Engine
	mu      sync.Mutex
	version uint64
}

func (d *dataPlane) update(u maru.TrafficUpdate) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version++
	u.Version, u.Full = d.version, d.version == 1
	if err := d.engine.Update(u); err != nil {
		panic(err)
	}
	return d.version
}

func (d *dataPlane) Set(services ...maru.ServiceTraffic) uint64 {
	return d.update(maru.TrafficUpdate{Services: services})
}

func (d *dataPlane) Remove(ids ...maru.ServiceID) uint64 {
	return d.update(maru.TrafficUpdate{Removed: ids})
}

func (d *dataPlane) InForce(context.Context) error { return nil }

// jobImage makes an image for jobs, with the greeter.
func jobImage(t *testing.T, e maru.Images, tag string, command ...string) string {
	t.Helper()
	greeter := filepath.Join(t.TempDir(), "greeter")
	build := exec.Command("go", "build", "-o", greeter, "./testdata/greeter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	image, err := images.OfHost(images.JobPrograms, map[string]string{"bin/greeter": greeter}, v1.Config{Cmd: command})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(ref, image, &archive); err != nil {
		t.Fatal(err)
	}
	loaded, err := e.Load(t.Context(), &archive)
	if err != nil || len(loaded) != 1 {
		t.Fatalf("load: %v", err)
	}
	return loaded[0].Reference
}
