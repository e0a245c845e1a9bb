// Package buildtest gives tests of builds a containerd to build with, and runc.
package buildtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/log"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	// The plug-ins that the runtime's containerd has, as far as builds need them.
	_ "github.com/containerd/containerd/v2/core/runtime/v2"
	_ "github.com/containerd/containerd/v2/plugins/content/local/plugin"
	_ "github.com/containerd/containerd/v2/plugins/diff/walking/plugin"
	_ "github.com/containerd/containerd/v2/plugins/events"
	_ "github.com/containerd/containerd/v2/plugins/gc"
	_ "github.com/containerd/containerd/v2/plugins/leases"
	_ "github.com/containerd/containerd/v2/plugins/metadata"
	_ "github.com/containerd/containerd/v2/plugins/mount"
	_ "github.com/containerd/containerd/v2/plugins/sandbox"
	_ "github.com/containerd/containerd/v2/plugins/server/grpc"
	_ "github.com/containerd/containerd/v2/plugins/server/ttrpc"
	_ "github.com/containerd/containerd/v2/plugins/services/containers"
	_ "github.com/containerd/containerd/v2/plugins/services/content"
	_ "github.com/containerd/containerd/v2/plugins/services/diff"
	_ "github.com/containerd/containerd/v2/plugins/services/events"
	_ "github.com/containerd/containerd/v2/plugins/services/images"
	_ "github.com/containerd/containerd/v2/plugins/services/introspection"
	_ "github.com/containerd/containerd/v2/plugins/services/leases"
	_ "github.com/containerd/containerd/v2/plugins/services/namespaces"
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"
	_ "github.com/containerd/containerd/v2/plugins/services/tasks"
	_ "github.com/containerd/containerd/v2/plugins/services/version"
	_ "github.com/containerd/containerd/v2/plugins/services/warning"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/overlay/plugin"
	_ "github.com/containerd/containerd/v2/plugins/streaming"
	_ "github.com/containerd/containerd/v2/plugins/transfer"

	"github.com/marucloud/maru/internal/layout"
)

// Namespace is the containerd namespace that tests build into.
const Namespace = "maru"

// Containerd starts containerd inside the test process, in folders of its own, for as long as the test
// runs. There is one at a time.
func Containerd(tb testing.TB) (layout.Layout, *containerd.Client) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("building images needs root")
	}
	dir, err := os.MkdirTemp("", "mb")
	if err != nil {
		tb.Fatal(err)
	}
	l := layout.Layout{Name: filepath.Base(dir)[:min(8, len(filepath.Base(dir)))], Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run")}
	stop, client, err := start(l)
	if err != nil {
		os.RemoveAll(dir)
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		client.Close()
		stop()
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return l, client
}

// registered are the plug-ins that the packages above registered. The registry is global and takes none
// twice, so that each containerd begins with a fresh one.
var registered = sync.OnceValue(func() []plugin.Registration {
	all := registry.Graph(func(*plugin.Registration) bool { return false })
	return slices.DeleteFunc(all, func(r plugin.Registration) bool { return strings.Contains(r.ID, "prometheus") })
})

func start(l layout.Layout) (func(), *containerd.Client, error) {
	_ = log.SetLevel("error")
	all := registered()
	registry.Reset()
	for i := range all {
		registry.Register(&all[i])
	}
	cfg := &srvconfig.Config{
		Version: version.ConfigVersion,
		Root:    l.ContainerdData(),
		State:   filepath.Join(l.Run, "containerd"),
		Plugins: map[string]any{
			"io.containerd.server.v1.ttrpc": map[string]any{"address": filepath.Join(l.Run, "ttrpc.sock")},
			"io.containerd.server.v1.grpc":  map[string]any{"address": l.ContainerdSocket()},
			"io.containerd.shim.v1.manager": map[string]any{"socket_dir": filepath.Join(l.Run, "s")},
		},
	}
	if err := server.CreateTopLevelDirectories(cfg); err != nil {
		return nil, nil, err
	}
	s, err := server.New(context.Background(), cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := s.Start(context.Background()); err != nil {
		return nil, nil, err
	}
	client, err := containerd.New(l.ContainerdSocket(), containerd.WithDefaultNamespace(Namespace), containerd.WithTimeout(10*time.Second))
	if err != nil {
		s.Stop()
		return nil, nil, err
	}
	return s.Stop, client, nil
}

// Runc gives the path of runc: of $RUNC, of the machine, or else built from the module, which the
// build cache makes quick the second time.
func Runc(tb testing.TB) string {
	tb.Helper()
	path, err := runc()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

var runc = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("RUNC"); path != "" {
		return path, nil
	}
	if path, err := exec.LookPath("runc"); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "maru-test", "runc")
	cmd := exec.Command("go", "build", "-tags", "seccomp", "-o", path, "github.com/opencontainers/runc")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build runc: %w\n%s", err, out)
	}
	return path, nil
})
