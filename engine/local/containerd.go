package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/containerd/server"
	serverconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/errdefs"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	"github.com/marucloud/maru/internal/layout"
)

// snapshotter is the one that gives root file systems.
const snapshotter = "overlayfs"

// clientPlugin is our own plug-in, whose only purpose is to be told of all others.
const clientPlugin = "maru.client.v1"

// daemon is containerd inside this process.
type daemon struct {
	server *server.Server
	client *containerd.Client
}

// stateFolder is where containerd keeps what lives as long as the machine is up, bundles among it.
func stateFolder(l layout.Layout) string { return filepath.Join(l.Run, "containerd") }

// socketFolder is where the shims' sockets are. Its name is short because their paths must be.
func socketFolder(l layout.Layout) string { return filepath.Join(l.Run, "s") }

// bundlesFolder is where the tasks' bundles are.
func bundlesFolder(l layout.Layout) string {
	return filepath.Join(stateFolder(l), "io.containerd.runtime.v2.task", Namespace)
}

// startDaemon starts containerd. Its gRPC socket, for the builder, answers when it returns. The
// context is that of its whole life.
func startDaemon(ctx context.Context, l layout.Layout) (*daemon, error) {
	var services *plugin.InitContext
	set := pluginSet()
	registry.Reset()
	for _, registration := range set {
		registry.Register(registration)
	}
	registry.Register(&plugin.Registration{
		Type: clientPlugin, ID: "client",
		Requires: []plugin.Type{
			plugins.EventPlugin, plugins.LeasePlugin, plugins.SandboxStorePlugin, plugins.TransferPlugin,
			plugins.MountManagerPlugin, plugins.ServicePlugin, plugins.RuntimePluginV2,
		},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			services = ic
			return struct{}{}, nil
		},
	})
	cfg := &serverconfig.Config{
		Version:         version.ConfigVersion,
		Root:            l.ContainerdData(),
		State:           stateFolder(l),
		RequiredPlugins: []string{clientPlugin + ".client", "io.containerd.snapshotter.v1." + snapshotter},
		Plugins: map[string]any{
			"io.containerd.server.v1.grpc":           map[string]any{"address": l.ContainerdSocket()},
			"io.containerd.server.v1.ttrpc":          map[string]any{"address": filepath.Join(l.Run, "ttrpc.sock")},
			"io.containerd.shim.v1.manager":          map[string]any{"socket_dir": socketFolder(l)},
			"io.containerd.gc.v1.scheduler":          map[string]any{"startup_delay": "10s"},
			"io.containerd.snapshotter.v1.overlayfs": map[string]any{"sync_remove": false},
		},
	}
	if err := server.CreateTopLevelDirectories(cfg); err != nil {
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	s, err := server.New(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	if err := s.Start(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	client, err := containerd.New("", containerd.WithInMemoryServices(services),
		containerd.WithDefaultNamespace(Namespace), containerd.WithTimeout(10*time.Second))
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	d := &daemon{server: s, client: client}
	if err := d.prepare(ctx, l); err != nil {
		d.stop()
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	return d, nil
}

func (d *daemon) prepare(ctx context.Context, l layout.Layout) error {
	d.server.Wait()
	err := d.client.NamespaceService().Create(ctx, Namespace, nil)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return os.Chmod(l.ContainerdSocket(), 0o600)
}

// stop ends containerd; instances and their shims go on.
func (d *daemon) stop() {
	_ = d.client.Close()
	d.server.Stop()
}
