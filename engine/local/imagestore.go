package local

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/marucloud/maru"
)

// managedLabel marks the images that the engine brought or gave to a release.
const managedLabel = "maru.cloud/managed"

// imageStore is the images in containerd. Methods take a context with the namespace.
type imageStore struct {
	client  *containerd.Client
	folder  string // of containerd, where images are kept
	mirrors map[string][]string
	log     *slog.Logger

	repositories *repositories // of what is pushed

	pruning sync.RWMutex // held for reading from finding an image until it is known to be in use

	mu    sync.Mutex
	known map[digest.Digest]imageInfo
	busy  map[digest.Digest]chan struct{} // being read
}

func newImageStore(client *containerd.Client, folder string, cfg Config, log *slog.Logger) *imageStore {
	return &imageStore{
		client: client, folder: folder, mirrors: cfg.Mirrors, log: log, repositories: newRepositories(client, folder, cfg.Full, log),
		known: make(map[digest.Digest]imageInfo), busy: make(map[digest.Digest]chan struct{}),
	}
}

// working waits until nobody else reads the image.
func (s *imageStore) working(ctx context.Context, d digest.Digest) (release func(), err error) {
	for {
		s.mu.Lock()
		other := s.busy[d]
		if other == nil {
			mine := make(chan struct{})
			s.busy[d] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.busy, d)
				s.mu.Unlock()
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, interrupted(ctx)
		}
	}
}

// parseReference gives the full form of what people write: docker.io/library/nginx:latest for nginx,
// and without the tag when there is a digest.
func parseReference(ref string) (name string, err error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", maru.WithHint(maru.Errorf(maru.Invalid, "image reference %q: %w", ref, err),
			"write [HOST/]NAME[:TAG][@sha256:DIGEST], in lower case")
	}
	return named.String(), nil
}

// find gives containerd's record of an image that is present.
func (s *imageStore) find(ctx context.Context, ref string) (images.Image, error) {
	name, err := parseReference(ref)
	if err != nil {
		return images.Image{}, err
	}
	record, err := s.client.ImageService().Get(ctx, name)
	if err == nil {
		return record, nil
	}
	if !errdefs.IsNotFound(err) {
		return images.Image{}, fmt.Errorf("image %s: %w", ref, err)
	}
	if pushed, ok := s.repositories.pushed(ctx, name); ok {
		return pushed, nil
	}
	if d := digestOf(name); d != "" {
		same, err := s.client.ImageService().List(ctx, fmt.Sprintf("target.digest==%s", d))
		if err != nil {
			return images.Image{}, fmt.Errorf("image %s: %w", ref, err)
		}
		for _, record := range same {
			if record.Labels[repositoryLabel] == "" {
				return record, nil
			}
		}
	}
	return images.Image{}, maru.WithHint(maru.Errorf(maru.NotFound, "image %s is not present", ref), "pull, load or build it")
}

// pin keeps an image under its name with its digest, whatever happens to its tags, and gives it so.
func (s *imageStore) pin(ctx context.Context, record images.Image) (images.Image, error) {
	named, err := reference.ParseNormalizedNamed(record.Name)
	if err != nil {
		return images.Image{}, maru.Errorf(maru.Invalid, "image name %q: %w", record.Name, err)
	}
	pinned := images.Image{
		Name:   reference.TrimNamed(named).Name() + "@" + record.Target.Digest.String(),
		Target: record.Target,
		Labels: map[string]string{managedLabel: "true"},
	}
	if record.Name == pinned.Name && record.Labels[managedLabel] != "" {
		return record, nil
	}
	if existing, err := s.client.ImageService().Get(ctx, pinned.Name); err == nil && existing.Labels[managedLabel] != "" {
		return existing, nil
	}
	created, err := s.client.ImageService().Create(ctx, pinned)
	if errdefs.IsAlreadyExists(err) {
		created, err = s.client.ImageService().Update(ctx, pinned, "labels."+managedLabel)
	}
	if err != nil {
		return images.Image{}, fmt.Errorf("keep image %s: %w", pinned.Name, err)
	}
	return created, nil
}

// image gives the present image by reference, pinned.
func (s *imageStore) image(ctx context.Context, ref string) (maru.Image, error) {
	s.pruning.RLock()
	defer s.pruning.RUnlock()
	record, err := s.find(ctx, ref)
	if err != nil {
		return maru.Image{}, err
	}
	return s.present(ctx, record)
}

// present pins an image and describes it.
func (s *imageStore) present(ctx context.Context, record images.Image) (maru.Image, error) {
	pinned, err := s.pin(ctx, record)
	if err != nil {
		return maru.Image{}, err
	}
	info, err := s.describe(ctx, pinned)
	if err != nil {
		return maru.Image{}, err
	}
	found := maru.Image{
		Reference: pinned.Name, Platform: info.platform, Bytes: info.bytes, Created: info.created, Config: info.config,
	}
	same, err := s.client.ImageService().List(ctx, fmt.Sprintf("target.digest==%s", pinned.Target.Digest))
	if err != nil {
		return maru.Image{}, fmt.Errorf("names of image %s: %w", pinned.Name, err)
	}
	for _, other := range same {
		if digestOf(other.Name) == "" {
			found.Names = append(found.Names, strings.Replace(other.Name, tagPrefix, maru.RegistryHost+"/", 1))
		}
	}
	slices.Sort(found.Names)
	return found, nil
}

// list gives all images, sorted by reference. What can't be read is left out: it belongs to somebody
// who is still at it. So are the repositories' tags: images of these are among them once something ran them.
func (s *imageStore) list(ctx context.Context) ([]maru.Image, error) {
	records, err := s.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	byReference := make(map[string]maru.Image)
	for _, record := range records {
		named, err := reference.ParseNormalizedNamed(record.Name)
		if err != nil || record.Labels[repositoryLabel] != "" {
			continue
		}
		info, err := s.describe(ctx, record)
		if err != nil {
			s.log.Debug("image is not whole", "image", record.Name, "error", err)
			continue
		}
		ref := reference.TrimNamed(named).Name() + "@" + record.Target.Digest.String()
		found, ok := byReference[ref]
		if !ok {
			found = maru.Image{Reference: ref, Platform: info.platform, Bytes: info.bytes, Created: info.created, Config: info.config}
		}
		if digestOf(record.Name) == "" {
			found.Names = append(found.Names, record.Name)
			slices.Sort(found.Names)
		}
		byReference[ref] = found
	}
	return slices.SortedFunc(maps.Values(byReference), func(a, b maru.Image) int {
		return strings.Compare(a.Reference, b.Reference)
	}), nil
}

// prune removes the images that are marked as managed and that keep does not name, and gives them. What people
// pushed stays in its repositories.
func (s *imageStore) prune(ctx context.Context, keep map[digest.Digest]bool) ([]maru.Image, error) {
	all, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	records, err := s.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	managed := make(map[digest.Digest]bool)
	for _, record := range records {
		if record.Labels[managedLabel] != "" && !keep[record.Target.Digest] {
			managed[record.Target.Digest] = true
		}
	}
	var going []string
	for _, record := range records {
		if managed[record.Target.Digest] && record.Labels[repositoryLabel] == "" {
			going = append(going, record.Name)
		}
	}
	for i, name := range going {
		var options []images.DeleteOpt
		if i == len(going)-1 {
			options = append(options, images.SynchronousDelete()) // the content is gone when it returns
		}
		if err := s.client.ImageService().Delete(ctx, name, options...); err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("remove image %s: %w", name, err)
		}
	}
	s.mu.Lock()
	for d := range managed {
		delete(s.known, d)
	}
	s.mu.Unlock()
	return slices.DeleteFunc(all, func(i maru.Image) bool { return !managed[digestOf(i.Reference)] }), nil
}
