package local

import (
	"context"
	"io"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"

	"github.com/marucloud/maru"
)

// load takes an OCI or docker archive in, plain or compressed.
func (s *imageStore) load(ctx context.Context, r io.Reader) ([]maru.Image, error) {
	plain, err := compression.DecompressStream(r)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "load images: %w", err)
	}
	defer plain.Close()
	records, err := s.client.Import(ctx, plain,
		containerd.WithImageLabels(map[string]string{managedLabel: "true"}),
		containerd.WithDigestRef(archive.DigestTranslator(unnamedImage)),
		containerd.WithSkipDigestRef(func(name string) bool { return name != "" }),
		containerd.WithImportPlatform(anyPlatform))
	if err != nil {
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "load images: %w", err), "give an archive as docker save or an OCI layout makes it")
	}
	var loaded []maru.Image
	seen := make(map[string]bool)
	for _, record := range records {
		image, err := s.present(ctx, record)
		if err != nil {
			return nil, err
		}
		if !seen[image.Reference] {
			seen[image.Reference] = true
			loaded = append(loaded, image)
		}
	}
	return loaded, nil
}

// unnamedImage is the name of images of which an archive says none.
const unnamedImage = "docker.io/library/loaded"
