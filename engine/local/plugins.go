package local

import (
	"sync"

	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	// Exactly the plug-ins of containerd that the engine needs: no CRI, no NRI, no other snapshotters.
	_ "github.com/containerd/containerd/api/types/runc/options"
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
	_ "github.com/containerd/containerd/v2/plugins/services/healthcheck"
	_ "github.com/containerd/containerd/v2/plugins/services/images"
	_ "github.com/containerd/containerd/v2/plugins/services/introspection"
	_ "github.com/containerd/containerd/v2/plugins/services/leases"
	_ "github.com/containerd/containerd/v2/plugins/services/namespaces"
	_ "github.com/containerd/containerd/v2/plugins/services/sandbox"
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"
	_ "github.com/containerd/containerd/v2/plugins/services/tasks"
	_ "github.com/containerd/containerd/v2/plugins/services/version"
	_ "github.com/containerd/containerd/v2/plugins/services/warning"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/overlay/plugin"
	_ "github.com/containerd/containerd/v2/plugins/streaming"
	_ "github.com/containerd/containerd/v2/plugins/transfer"
)

// registered are the plug-ins that packages registered when the program started. The registry is
// global and can't replace a plug-in, so every daemon begins with a fresh one.
var registered = sync.OnceValue(func() []plugin.Registration {
	return registry.Graph(func(*plugin.Registration) bool { return false })
})

// wanted are the plug-ins to load, whatever else is linked into the program.
var wanted = map[string]bool{
	"io.containerd.content.v1.content":               true,
	"io.containerd.warning.v1.deprecations":          true,
	"io.containerd.event.v1.exchange":                true,
	"io.containerd.snapshotter.v1.overlayfs":         true,
	"io.containerd.metadata.v1.bolt":                 true,
	"io.containerd.gc.v1.scheduler":                  true,
	"io.containerd.service.v1.containers-service":    true,
	"io.containerd.service.v1.content-service":       true,
	"io.containerd.mount-manager.v1.bolt":            true,
	"io.containerd.differ.v1.walking":                true,
	"io.containerd.service.v1.diff-service":          true,
	"io.containerd.service.v1.images-service":        true,
	"io.containerd.service.v1.introspection-service": true,
	"io.containerd.service.v1.namespaces-service":    true,
	"io.containerd.service.v1.snapshots-service":     true,
	"io.containerd.shim.v1.manager":                  true,
	"io.containerd.runtime.v2.task":                  true,
	"io.containerd.service.v1.tasks-service":         true,
	"io.containerd.grpc.v1.containers":               true,
	"io.containerd.grpc.v1.content":                  true,
	"io.containerd.grpc.v1.diff":                     true,
	"io.containerd.grpc.v1.events":                   true,
	"io.containerd.grpc.v1.images":                   true,
	"io.containerd.grpc.v1.introspection":            true,
	"io.containerd.lease.v1.manager":                 true,
	"io.containerd.grpc.v1.leases":                   true,
	"io.containerd.grpc.v1.namespaces":               true,
	"io.containerd.sandbox.controller.v1.shim":       true,
	"io.containerd.sandbox.store.v1.local":           true,
	"io.containerd.grpc.v1.snapshots":                true,
	"io.containerd.grpc.v1.tasks":                    true,
	"io.containerd.grpc.v1.version":                  true,
	"io.containerd.grpc.v1.healthcheck":              true,
	"io.containerd.server.v1.ttrpc":                  true,
	"io.containerd.streaming.v1.manager":             true,
	"io.containerd.transfer.v1.local":                true,
	"io.containerd.server.v1.grpc":                   true,
}

func pluginSet() []*plugin.Registration {
	var set []*plugin.Registration
	for _, registration := range registered() {
		if wanted[registration.URI()] {
			set = append(set, &registration)
		}
	}
	return set
}
