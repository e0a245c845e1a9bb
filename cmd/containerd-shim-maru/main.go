// Command containerd-shim-maru is containerd's runc shim, of which one runs beside each instance, with
// one ability more: it writes what the instance prints into the instance's log itself, so that no
// process has to carry the lines and none is lost when the runtime dies.
package main

import (
	"context"
	"io"
	"os"
	"path/filepath"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

const name = "io.containerd.runc.v2"

// starter starts shims as the usual one does. It tells of itself without asking runc, which takes
// longer and is in no search path. Of runc's features containerd wants to know one: whether it mounts
// volumes with other owners, as it does since 1.2.
type starter struct{ shim.Shim }

func (starter) Info(context.Context, io.Reader) (*types.RuntimeInfo, error) {
	enabled := true
	able, err := typeurl.MarshalAnyToProto(&features.Features{
		Linux: &features.Linux{MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &enabled}}},
	})
	return &types.RuntimeInfo{Name: name, Version: &types.RuntimeVersion{Version: version.Version}, Features: able}, err
}

func main() {
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugins.EventPlugin, plugins.InternalPlugin},
		InitFn:   newService,
	})
	shim.RunShim(context.Background(), starter{manager.NewShimManager(name)})
}

func newService(ic *plugin.InitContext) (any, error) {
	// What a shim that died has mounted for a moment, the engine unmounts where it looks for its own.
	if err := mount.SetTempMountLocation(filepath.Join(filepath.Dir(os.Getenv("TTRPC_ADDRESS")), "tmpmounts")); err != nil {
		return nil, err
	}
	publisher, err := ic.GetByID(plugins.EventPlugin, "publisher")
	if err != nil {
		return nil, err
	}
	stop, err := ic.GetByID(plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	tasks, err := task.NewTaskService(ic.Context, publisher.(shim.Publisher), stop.(shutdown.Service))
	if err != nil {
		return nil, err
	}
	return &service{TTRPCTaskService: tasks}, nil
}

// RegisterTTRPC puts the service where the shim's clients find it.
func (s *service) RegisterTTRPC(server *ttrpc.Server) error {
	taskapi.RegisterTTRPCTaskService(server, s)
	return nil
}
