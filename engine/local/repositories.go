package local

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/marucloud/maru"
)

// Labels of content and images in repositories.
const (
	repositoryLabel = "maru.cloud/repository" // of an image: whose tag it is. Of content, with "/REPOSITORY": when it was pushed there
	manifestLabel   = "maru.cloud/manifest"   // its media type
	subjectLabel    = "maru.cloud/subject"
	partLabel       = "containerd.io/gc.ref.content." // containerd keeps what these name
)

func memberLabel(repository string) string { return repositoryLabel + "/" + repository }

// tagPrefix begins the names of the images that tags are. No reference can be read as such a name, so that
// nobody comes to a tag but by its repository: no Dockerfile either.
const tagPrefix = "maru-registry//"

// tagName is the image that a tag is.
func tagName(repository, tag string) string { return tagPrefix + repository + ":" + tag }

// repositories are what people push. A repository's content bears a label of it and is a root for
// containerd's garbage collector, its tags are images. Methods take a context with the namespace.
type repositories struct {
	client *containerd.Client
	folder string  // containerd's
	full   float64 // share of the disk in use from which on no more is taken
	log    *slog.Logger

	changing sync.Mutex // held while labels are read and written

	mu      sync.Mutex
	uploads map[string]*upload
}

func newRepositories(client *containerd.Client, folder string, full float64, log *slog.Logger) *repositories {
	return &repositories{
		client: client, folder: folder, full: full, log: log,
		uploads: make(map[string]*upload),
	}
}

// blobs is containerd's folder of content.
func (s *repositories) blobs() string {
	return filepath.Join(s.folder, "io.containerd.content.v1.content", "blobs", digest.SHA256.String())
}

// list gives what is in a repository, or with "" in all.
func (s *repositories) list(ctx context.Context, repository string) ([]maru.Content, error) {
	tagged, filter := fmt.Sprintf("labels.%q", repositoryLabel), []string(nil)
	if repository != "" {
		tagged += fmt.Sprintf("==%q", repository)
		filter = []string{fmt.Sprintf("labels.%q", memberLabel(repository))}
	}
	records, err := s.client.ImageService().List(ctx, tagged)
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	type key struct{ repository, digest string }
	tags := make(map[key][]string)
	for _, record := range records {
		name := record.Labels[repositoryLabel]
		if tag, ok := strings.CutPrefix(record.Name, tagName(name, "")); ok {
			k := key{name, record.Target.Digest.String()}
			tags[k] = append(tags[k], tag)
		}
	}
	var all []maru.Content
	err = s.client.ContentStore().Walk(ctx, func(info content.Info) error {
		for label := range info.Labels {
			name, ok := strings.CutPrefix(label, memberLabel(""))
			if !ok || repository != "" && name != repository {
				continue
			}
			c := contentOf(info, name)
			c.Tags = tags[key{name, c.Digest}]
			slices.Sort(c.Tags)
			all = append(all, c)
		}
		return nil
	}, filter...)
	if err != nil {
		return nil, fmt.Errorf("list contents: %w", err)
	}
	slices.SortFunc(all, func(a, b maru.Content) int {
		if a.Repository != b.Repository {
			return strings.Compare(a.Repository, b.Repository)
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	return all, nil
}

func contentOf(info content.Info, repository string) maru.Content {
	c := maru.Content{
		Repository: repository, Digest: info.Digest.String(), Size: info.Size,
		MediaType: info.Labels[manifestLabel], Subject: info.Labels[subjectLabel],
	}
	c.Pushed, _ = time.Parse(time.RFC3339Nano, info.Labels[memberLabel(repository)]) // what can't be read is old
	if c.MediaType == "" {
		return c
	}
	parts := make(map[string]bool)
	for label, value := range info.Labels {
		if strings.HasPrefix(label, partLabel) {
			parts[value] = true
		}
	}
	c.References = slices.Sorted(maps.Keys(parts))
	return c
}

// find gives what is in a repository, by digest or tag.
func (s *repositories) find(ctx context.Context, repository, reference string) (maru.Content, error) {
	info, err := s.member(ctx, repository, reference)
	if err != nil {
		return maru.Content{}, err
	}
	// After a power cut containerd may know of content whose file is not there. It is pushed again then.
	file, err := s.client.ContentStore().ReaderAt(ctx, ocispec.Descriptor{Digest: info.Digest})
	if err != nil {
		return maru.Content{}, absent(err, reference)
	}
	defer file.Close()
	if file.Size() != info.Size {
		return maru.Content{}, maru.Errorf(maru.NotFound, "%s is not whole", reference)
	}
	return contentOf(info, repository), nil
}

// member gives containerd's record of what is in a repository.
func (s *repositories) member(ctx context.Context, repository, reference string) (content.Info, error) {
	d, err := digest.Parse(reference)
	if err != nil {
		record, err := s.client.ImageService().Get(ctx, tagName(repository, reference))
		if err != nil {
			return content.Info{}, absent(err, repository+":"+reference)
		}
		d = record.Target.Digest
	}
	info, err := s.client.ContentStore().Info(ctx, d)
	if err != nil {
		return content.Info{}, absent(err, reference)
	}
	if info.Labels[memberLabel(repository)] == "" {
		return content.Info{}, maru.Errorf(maru.NotFound, "%s is not in %s", reference, repository)
	}
	return info, nil
}

// absent says what is not there, of an error of containerd's.
func absent(err error, what string) error {
	if errdefs.IsNotFound(err) {
		return maru.Errorf(maru.NotFound, "%s is not there", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// put makes what is present part of a repository, and gives it tags.
func (s *repositories) put(ctx context.Context, c maru.Content) error {
	d, err := digest.Parse(c.Digest)
	if err != nil {
		return maru.Errorf(maru.Invalid, "digest %q: %w", c.Digest, err)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	info, err := s.client.ContentStore().Info(ctx, d)
	if err != nil {
		return absent(err, c.Digest)
	}
	if len(c.Tags) > 0 && c.MediaType == "" && info.Labels[manifestLabel] == "" {
		return maru.Errorf(maru.Invalid, "%s is a blob: only manifests have tags", d)
	}
	labels := membership(c.Repository)
	if c.MediaType != "" {
		labels[manifestLabel], labels[subjectLabel] = c.MediaType, c.Subject
		for i, part := range c.References {
			if _, err := s.client.ContentStore().Info(ctx, digest.Digest(part)); err != nil {
				return absent(err, part)
			}
			labels[partLabel+maru.Itoa(i)] = part
		}
	}
	if info, err = s.label(ctx, d, labels); err != nil {
		return err
	}
	for _, tag := range c.Tags {
		err := s.record(ctx, images.Image{
			Name: tagName(c.Repository, tag), Labels: map[string]string{repositoryLabel: c.Repository},
			Target: ocispec.Descriptor{MediaType: info.Labels[manifestLabel], Digest: d, Size: info.Size},
		})
		if err != nil {
			return fmt.Errorf("tag %s as %s:%s: %w", d, c.Repository, tag, err)
		}
	}
	return nil
}

// membership are the labels of what is pushed to a repository now.
func membership(repository string) map[string]string {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	return map[string]string{memberLabel(repository): now, rootLabel: now}
}

// label sets labels of content; empty ones are taken away.
func (s *repositories) label(ctx context.Context, d digest.Digest, labels map[string]string) (content.Info, error) {
	var fields []string
	for label := range labels {
		fields = append(fields, "labels."+label)
	}
	info, err := s.client.ContentStore().Update(ctx, content.Info{Digest: d, Labels: labels}, fields...)
	if err != nil {
		return info, absent(err, d.String())
	}
	return info, nil
}

func (s *repositories) record(ctx context.Context, image images.Image) error {
	service := s.client.ImageService()
	for {
		if _, err := service.Create(ctx, image); !errdefs.IsAlreadyExists(err) {
			return err
		}
		if _, err := service.Update(ctx, image, "target"); !errdefs.IsNotFound(err) {
			return err
		}
	}
}

// remove takes a tag away, or content with its tags.
func (s *repositories) remove(ctx context.Context, repository, reference string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	info, err := s.member(ctx, repository, reference)
	if err != nil {
		return err
	}
	if info.Digest.String() != reference {
		if err := s.client.ImageService().Delete(ctx, tagName(repository, reference)); err != nil {
			return absent(err, repository+":"+reference)
		}
		return nil
	}
	tagged, err := s.client.ImageService().List(ctx, fmt.Sprintf("labels.%q==%q,target.digest==%s", repositoryLabel, repository, info.Digest))
	if err != nil {
		return fmt.Errorf("list tags: %w", err)
	}
	for _, record := range tagged {
		if err := s.client.ImageService().Delete(ctx, record.Name); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove %s: %w", record.Name, err)
		}
	}
	labels := map[string]string{memberLabel(repository): ""}
	others := 0
	for label := range info.Labels {
		if strings.HasPrefix(label, memberLabel("")) {
			others++
		}
	}
	if others == 1 {
		labels[rootLabel] = ""
	}
	if _, err := s.label(ctx, info.Digest, labels); err != nil {
		return err
	}
	return s.collect(ctx)
}

// collect has containerd look for garbage. By itself it only does so when something is deleted, as a lease is.
func (s *repositories) collect(ctx context.Context) error {
	service := s.client.LeasesService()
	lease, err := service.Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	if err := service.Delete(ctx, lease); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return nil
}

// read gives content from an offset on.
func (s *repositories) read(ctx context.Context, reference string, offset int64) (io.ReadCloser, int64, error) {
	d, err := digest.Parse(reference)
	if err != nil {
		return nil, 0, maru.Errorf(maru.Invalid, "digest %q: %w", reference, err)
	}
	file, err := s.client.ContentStore().ReaderAt(ctx, ocispec.Descriptor{Digest: d})
	if err != nil {
		return nil, 0, absent(err, reference)
	}
	if offset < 0 || offset > file.Size() {
		_ = file.Close()
		return nil, 0, maru.Errorf(maru.Invalid, "%s has %d bytes: there is no offset %d", reference, file.Size(), offset)
	}
	return &section{io.NewSectionReader(file, offset, file.Size()-offset), file}, file.Size(), nil
}

// section is a part of a file that is closed with it.
type section struct {
	io.Reader
	io.Closer
}

// pushed gives the image that has the name of a repository and a tag or digest.
func (s *repositories) pushed(ctx context.Context, name string) (images.Image, bool) {
	path, ok := strings.CutPrefix(name, maru.RegistryHost+"/")
	if !ok {
		return images.Image{}, false
	}
	repository, reference, ok := strings.Cut(path, "@")
	if !ok {
		repository, reference, _ = strings.Cut(path, ":")
	}
	info, err := s.member(ctx, repository, reference)
	if err != nil || info.Labels[manifestLabel] == "" {
		return images.Image{}, false
	}
	return images.Image{Name: name, Target: ocispec.Descriptor{MediaType: info.Labels[manifestLabel], Digest: info.Digest, Size: info.Size}}, true
}

// Contents implements [maru.Repositories].
func (e *Engine) Contents(ctx context.Context, repository string) ([]maru.Content, error) {
	if err := e.await(ctx); err != nil {
		return nil, err
	}
	return e.images.repositories.list(inNamespace(ctx), repository)
}

// Content implements [maru.Repositories].
func (e *Engine) Content(ctx context.Context, repository, reference string) (maru.Content, error) {
	if err := e.await(ctx); err != nil {
		return maru.Content{}, err
	}
	return e.images.repositories.find(inNamespace(ctx), repository, reference)
}

// PutContent implements [maru.Repositories].
func (e *Engine) PutContent(ctx context.Context, c maru.Content) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	return e.images.repositories.put(inNamespace(ctx), c)
}

// RemoveContent implements [maru.Repositories].
func (e *Engine) RemoveContent(ctx context.Context, repository, reference string) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	return e.images.repositories.remove(inNamespace(ctx), repository, reference)
}

// ReadContent implements [maru.Repositories].
func (e *Engine) ReadContent(ctx context.Context, digest string, offset int64) (io.ReadCloser, int64, error) {
	if err := e.await(ctx); err != nil {
		return nil, 0, err
	}
	return e.images.repositories.read(inNamespace(ctx), digest, offset)
}
