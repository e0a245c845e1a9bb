package dockerfile

import (
	"context"

	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// syncedApplier has a layer's files on the disk before it is noted that the layer is there: after a
// power cut it would be taken for whole.
type syncedApplier struct{ diff.Applier }

func (a syncedApplier) Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	return a.Applier.Apply(ctx, layer, mounts, append(opts, diff.WithSyncFs(true))...)
}
