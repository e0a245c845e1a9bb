package local

import (
	"context"
	"io"

	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/platforms"

	"github.com/marucloud/maru"
)

// SaveImages implements [maru.ImageSaver].
func (e *Engine) SaveImages(ctx context.Context, refs []string, w io.Writer) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	ctx = inNamespace(ctx)
	e.images.pruning.RLock()
	defer e.images.pruning.RUnlock()
	options := []archive.ExportOpt{archive.WithPlatform(platforms.Default()), archive.WithSkipMissing(e.images.client.ContentStore())}
	for _, ref := range refs {
		record, err := e.images.find(ctx, ref)
		if err != nil {
			return err
		}
		options = append(options, archive.WithManifest(record.Target, ref))
	}
	if err := e.images.client.Export(ctx, w, options...); err != nil {
		return maru.Errorf(maru.Internal, "save images: %w", err)
	}
	return nil
}
