// Package imagestore puts built images where instances start from: into containerd's content store,
// with names, and unpacked.
package imagestore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/marucloud/maru"
)

// Store is the image store. It is safe for concurrent use.
type Store struct {
	client      *containerd.Client
	snapshotter string
}

// managedLabel marks images that Maru made, which cleaning up may remove.
const managedLabel = "maru.cloud/managed"

// New gives the store behind a client, whose default namespace it uses.
func New(client *containerd.Client, snapshotter string) *Store {
	return &Store{client: client, snapshotter: snapshotter}
}

// leaseLabel marks leases as the builder's: an engine that starts meanwhile leaves them alone.
const leaseLabel = "maru.cloud/builder"

func (s *Store) lease(ctx context.Context) (context.Context, func(context.Context) error, error) {
	return s.client.WithLease(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour), leases.WithLabel(leaseLabel, "true"))
}

// Layer is an uncompressed layer. Its digest is therefore also that of its content.
type Layer struct {
	Digest digest.Digest
	Size   int64
	Open   func() io.Reader
}

// Put stores an image and gives it its names, and for each one the name with its digest.
func (s *Store) Put(ctx context.Context, names []string, manifest, config []byte, layers []Layer) (maru.Image, error) {
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return maru.Image{}, fmt.Errorf("lease: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	cs := s.client.ContentStore()
	labels := map[string]string{}
	for i, l := range layers {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.Digest, Size: l.Size}
		labels[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = l.Digest.String()
		if err := write(ctx, cs, l.Open, d, map[string]string{"containerd.io/uncompressed": l.Digest.String()}); err != nil {
			return maru.Image{}, fmt.Errorf("store layer: %w", err)
		}
	}
	c := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	labels["containerd.io/gc.ref.content.config"] = c.Digest.String()
	if err := write(ctx, cs, reader(config), c, nil); err != nil {
		return maru.Image{}, fmt.Errorf("store config: %w", err)
	}
	m := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
	if err := write(ctx, cs, reader(manifest), m, labels); err != nil {
		return maru.Image{}, fmt.Errorf("store manifest: %w", err)
	}
	return s.name(ctx, m, names)
}

func reader(data []byte) func() io.Reader { return func() io.Reader { return bytes.NewReader(data) } }

func write(ctx context.Context, cs content.Store, open func() io.Reader, d ocispec.Descriptor, labels map[string]string) error {
	var opts []content.Opt
	if len(labels) > 0 {
		opts = append(opts, content.WithLabels(labels))
	}
	ref := "maru-build-" + d.Digest.String()
	return content.WriteBlob(ctx, cs, ref, open(), d, opts...)
}

// Name gives further names to the image of the digest. NotFound: it, or a part of it, is gone.
func (s *Store) Name(ctx context.Context, dgst string, names []string) (maru.Image, error) {
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return maru.Image{}, fmt.Errorf("lease: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	parsed, err := digest.Parse(dgst)
	if err != nil {
		return maru.Image{}, maru.Errorf(maru.Invalid, "image digest %q: %w", dgst, err)
	}
	info, err := s.client.ContentStore().Info(ctx, parsed)
	if err != nil {
		return maru.Image{}, absent(err, dgst)
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: parsed, Size: info.Size}
	manifest, err := s.manifest(ctx, d)
	if err != nil {
		return maru.Image{}, err
	}
	for _, part := range append([]ocispec.Descriptor{manifest.Config}, manifest.Layers...) {
		if _, err := s.client.ContentStore().Info(ctx, part.Digest); err != nil {
			return maru.Image{}, absent(err, dgst)
		}
	}
	return s.name(ctx, d, names)
}

func (s *Store) name(ctx context.Context, d ocispec.Descriptor, names []string) (maru.Image, error) {
	for _, name := range names {
		for _, full := range []string{name, withDigest(name, d.Digest)} {
			if err := s.record(ctx, images.Image{Name: full, Target: d}); err != nil {
				return maru.Image{}, fmt.Errorf("name image %s: %w", full, err)
			}
		}
	}
	image, err := s.Describe(ctx, withDigest(names[0], d.Digest))
	image.Names = names
	return image, err
}

func (s *Store) record(ctx context.Context, image images.Image) error {
	image.Labels = map[string]string{managedLabel: "true"}
	service := s.client.ImageService()
	present, err := service.Get(ctx, image.Name)
	if err == nil && present.Target.Digest == image.Target.Digest && present.Labels[managedLabel] != "" {
		return nil
	}
	for {
		if _, err := service.Create(ctx, image); !errdefs.IsAlreadyExists(err) {
			return err
		}
		if _, err := service.Update(ctx, image, "target", "labels."+managedLabel); !errdefs.IsNotFound(err) {
			return err
		}
	}
}

// Describe unpacks the image of a name, if that was not done, and tells what it is.
func (s *Store) Describe(ctx context.Context, name string) (maru.Image, error) {
	record, err := s.client.ImageService().Get(ctx, name)
	if err != nil {
		return maru.Image{}, absent(err, name)
	}
	manifest, err := s.manifest(ctx, record.Target)
	if err != nil {
		return maru.Image{}, err
	}
	data, err := content.ReadBlob(ctx, s.client.ContentStore(), manifest.Config)
	if err != nil {
		return maru.Image{}, absent(err, name)
	}
	var config ocispec.Image
	if err := json.Unmarshal(data, &config); err != nil {
		return maru.Image{}, maru.Errorf(maru.Invalid, "config of image %s: %w", name, err)
	}
	// On the disk before it is noted: after a power cut it would be taken for whole.
	synced := containerd.WithUnpackApplyOpts(diff.WithSyncFs(true))
	if err := containerd.NewImage(s.client, record).Unpack(ctx, s.snapshotter, synced); err != nil {
		return maru.Image{}, fmt.Errorf("unpack image %s: %w", name, err)
	}
	return describe(name, manifest, config), nil
}

func (s *Store) manifest(ctx context.Context, d ocispec.Descriptor) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	data, err := content.ReadBlob(ctx, s.client.ContentStore(), d)
	if err != nil {
		return m, absent(err, d.Digest.String())
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, maru.Errorf(maru.Invalid, "manifest of image %s: %w", d.Digest, err)
	}
	return m, nil
}

func absent(err error, name string) error {
	if errdefs.IsNotFound(err) {
		return maru.Errorf(maru.NotFound, "image %s is not in the store: %w", name, err)
	}
	return fmt.Errorf("image %s: %w", name, err)
}

// withDigest gives NAME@DIGEST for NAME:TAG.
func withDigest(name string, d digest.Digest) string {
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		name = reference.TrimNamed(named).Name()
	}
	return name + "@" + d.String()
}

// DigestOf gives the digest in a reference with one, else "".
func DigestOf(ref string) string {
	_, d, _ := strings.Cut(ref, "@")
	return d
}
