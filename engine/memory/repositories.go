package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

var (
	_ maru.Repositories = (*Repositories)(nil)
	_ maru.Uploads      = (*Repositories)(nil)
)

// Repositories keeps repositories of images in memory.
type Repositories struct {
	mu      sync.Mutex
	blobs   map[string]*blob
	tags    map[tag]string // to digests
	uploads map[string]*upload
	full    bool
}

// blob is what is present under a digest.
type blob struct {
	data         []byte
	manifest     maru.Content // what a manifest says, whatever repository it is in
	repositories map[string]time.Time
}

type tag struct{ repository, name string }

type upload struct {
	data  []byte
	begun time.Time
	busy  bool
}

// NewRepositories gives repositories with nothing in them.
func NewRepositories() *Repositories {
	return &Repositories{blobs: map[string]*blob{}, tags: map[tag]string{}, uploads: map[string]*upload{}}
}

// Fill makes the disk that there would be full, or not.
func (c *Repositories) Fill(full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.full = full
}

// Add makes content present that is in no repository, as images are that the engine brought itself, and
// gives its digest.
func (c *Repositories) Add(data []byte) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	digest := digestOf(data)
	if c.blobs[digest] == nil {
		c.blobs[digest] = &blob{data: bytes.Clone(data), repositories: map[string]time.Time{}}
	}
	return digest
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (b *blob) in(repository, digest string) maru.Content {
	c := b.manifest
	c.Repository, c.Digest, c.Size, c.Pushed = repository, digest, int64(len(b.data)), b.repositories[repository]
	return c
}

// Contents implements [maru.Repositories].
func (c *Repositories) Contents(_ context.Context, repository string) ([]maru.Content, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []maru.Content
	for digest, b := range c.blobs {
		for name := range b.repositories {
			if repository != "" && repository != name {
				continue
			}
			content := b.in(name, digest)
			for t, tagged := range c.tags {
				if t.repository == name && tagged == digest {
					content.Tags = append(content.Tags, t.name)
				}
			}
			slices.Sort(content.Tags)
			all = append(all, content)
		}
	}
	slices.SortFunc(all, func(a, b maru.Content) int {
		if a.Repository != b.Repository {
			return strings.Compare(a.Repository, b.Repository)
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	return all, nil
}

// Content implements [maru.Repositories].
func (c *Repositories) Content(_ context.Context, repository, reference string) (maru.Content, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	digest := reference
	if tagged, ok := c.tags[tag{repository, reference}]; ok {
		digest = tagged
	}
	b, err := c.member(repository, digest)
	if err != nil {
		return maru.Content{}, err
	}
	return b.in(repository, digest), nil
}

func (c *Repositories) member(repository, digest string) (*blob, error) {
	b := c.blobs[digest]
	if b == nil || b.repositories[repository].IsZero() {
		return nil, maru.Errorf(maru.NotFound, "%s is not in %s", digest, repository)
	}
	return b, nil
}

// PutContent implements [maru.Repositories].
func (c *Repositories) PutContent(_ context.Context, put maru.Content) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, digest := range append([]string{put.Digest}, put.References...) {
		if c.blobs[digest] == nil {
			return maru.Errorf(maru.NotFound, "%s is not present", digest)
		}
	}
	b := c.blobs[put.Digest]
	if len(put.Tags) > 0 && put.MediaType == "" && b.manifest.MediaType == "" {
		return maru.Errorf(maru.Invalid, "%s is a blob: only manifests have tags", put.Digest)
	}
	if put.MediaType != "" {
		b.manifest = maru.Content{MediaType: put.MediaType, References: slices.Sorted(slices.Values(put.References)), Subject: put.Subject}
	}
	b.repositories[put.Repository] = time.Now().UTC()
	for _, name := range put.Tags {
		c.tags[tag{put.Repository, name}] = put.Digest
	}
	return nil
}

// RemoveContent implements [maru.Repositories].
func (c *Repositories) RemoveContent(_ context.Context, repository, reference string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.tags[tag{repository, reference}]; ok {
		delete(c.tags, tag{repository, reference})
		return nil
	}
	b, err := c.member(repository, reference)
	if err != nil {
		return err
	}
	delete(b.repositories, repository)
	maps.DeleteFunc(c.tags, func(t tag, tagged string) bool { return t.repository == repository && tagged == reference })
	c.collect()
	return nil
}

// collect forgets what no repository has, and nothing that one has is made of.
func (c *Repositories) collect() {
	used := map[string]bool{}
	var use func(digest string)
	use = func(digest string) {
		if b := c.blobs[digest]; b != nil && !used[digest] {
			used[digest] = true
			for _, part := range b.manifest.References {
				use(part)
			}
		}
	}
	for digest, b := range c.blobs {
		if len(b.repositories) > 0 {
			use(digest)
		}
	}
	maps.DeleteFunc(c.blobs, func(digest string, _ *blob) bool { return !used[digest] })
}

// ReadContent implements [maru.Repositories].
func (c *Repositories) ReadContent(_ context.Context, digest string, offset int64) (io.ReadCloser, int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.blobs[digest]
	switch {
	case b == nil:
		return nil, 0, maru.Errorf(maru.NotFound, "%s is not present", digest)
	case offset < 0 || offset > int64(len(b.data)):
		return nil, 0, maru.Errorf(maru.Invalid, "%s has %d bytes: there is no offset %d", digest, len(b.data), offset)
	}
	return io.NopCloser(bytes.NewReader(b.data[offset:])), int64(len(b.data)), nil
}

// AppendUpload implements [maru.Uploads].
func (c *Repositories) AppendUpload(_ context.Context, name string, offset int64, r io.Reader) (int64, error) {
	u, err := c.begin(name, offset)
	if err != nil {
		return 0, err
	}
	data, err := io.ReadAll(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	u.busy = false
	u.data = append(u.data, data...)
	if err != nil {
		return int64(len(u.data)), maru.Errorf(maru.Interrupted, "upload: %w", err)
	}
	return int64(len(u.data)), nil
}

func (c *Repositories) begin(name string, offset int64) (*upload, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, err := c.upload(name)
	if err != nil && offset != 0 {
		return nil, err
	}
	if c.full {
		return nil, maru.Errorf(maru.Exhausted, "the disk is nearly full")
	}
	if err != nil {
		u = &upload{begun: time.Now()}
		c.uploads[name] = u
	}
	if u.busy || offset != int64(len(u.data)) {
		return nil, maru.Errorf(maru.Conflict, "the upload has %d bytes, or is being added to: it does not go on at %d", len(u.data), offset)
	}
	u.busy = true
	return u, nil
}

// upload finds one. Called with the lock held.
func (c *Repositories) upload(name string) (*upload, error) {
	u := c.uploads[name]
	if u == nil || time.Since(u.begun) > maru.UploadLife {
		delete(c.uploads, name)
		return nil, maru.Errorf(maru.NotFound, "there is no upload %s", name)
	}
	return u, nil
}

// UploadSize implements [maru.Uploads].
func (c *Repositories) UploadSize(_ context.Context, name string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, err := c.upload(name)
	if err != nil {
		return 0, err
	}
	return int64(len(u.data)), nil
}

// CommitUpload implements [maru.Uploads].
func (c *Repositories) CommitUpload(_ context.Context, name, repository, digest string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, err := c.upload(name)
	if err != nil {
		return err
	}
	if u.busy {
		return maru.Errorf(maru.Conflict, "the upload is being added to")
	}
	delete(c.uploads, name)
	if actual := digestOf(u.data); actual != digest {
		return maru.Errorf(maru.Invalid, "what was uploaded is %s, not %s", actual, digest)
	}
	b := c.blobs[digest]
	if b == nil {
		b = &blob{data: u.data, repositories: map[string]time.Time{}}
		c.blobs[digest] = b
	}
	b.repositories[repository] = time.Now().UTC()
	return nil
}

// DropUpload implements [maru.Uploads].
func (c *Repositories) DropUpload(_ context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.upload(name); err != nil {
		return err
	}
	delete(c.uploads, name)
	return nil
}
