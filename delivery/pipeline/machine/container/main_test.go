package container_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
	"github.com/marucloud/maru/engine/local/cgroup"
	"github.com/marucloud/maru/internal/layout"
	"github.com/marucloud/maru/test/images"
)

// insideVariable is set when the test binary runs inside its own namespaces.
const insideVariable = "MARU_TEST_INSIDE"

var testName = "p" + fmt.Sprint(os.Getpid()%100000)

// TestMain runs the tests inside network, mount and process namespaces of their own, so that they touch
// nothing of the machine's, and everything that they start ends with them.
func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		if err := enter(); err != nil {
			fmt.Fprintln(os.Stderr, "enter namespaces:", err)
			os.Exit(1)
		}
		testName = os.Getenv(insideVariable)
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Println("these tests run containers, which needs root")
		os.Exit(1)
	}
	inside := exec.Command("/proc/self/exe", os.Args[1:]...)
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	inside.Env = append(os.Environ(), insideVariable+"="+testName)
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := inside.Run()
	cleanUp()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(loopback)
}

func cleanUp() {
	if groups, err := cgroup.Open(); err == nil {
		for _, name := range groups.Children("/") {
			if strings.HasPrefix(name, testName) {
				_ = groups.Remove("/" + name)
			}
		}
	}
	folders, _ := filepath.Glob("/tmp/" + testName + "-*")
	for _, folder := range folders {
		_ = os.RemoveAll(folder)
	}
}

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
