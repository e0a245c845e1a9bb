package registry

import (
	"context"
	"strings"
	"sync"

	"github.com/marucloud/maru"
)

// released lists the images of a service's releases, tagged by their numbers, with all that they are made of and
// that is here: of an image for several platforms the engine has only its own.
func (h *Handler) released(ctx context.Context, n name) ([]maru.Content, error) {
	releases, err := h.releases.Releases(ctx, n.service.Scope, n.service.Service)
	if err != nil && maru.KindOf(err) != maru.NotFound {
		return nil, err
	}
	w := &walk{h: h, repository: n.written, found: map[string]int{}}
	for _, r := range releases {
		_, digest, ok := strings.Cut(r.Image, "@")
		if !ok {
			continue
		}
		if err := w.image(ctx, digest, ""); err != nil {
			return nil, err
		}
		if i, ok := w.found[digest]; ok {
			w.all[i].Tags = append(w.all[i].Tags, maru.Itoa(r.Number))
		}
	}
	return w.all, nil
}

// walk gathers images and what they are made of.
type walk struct {
	h          *Handler
	repository string
	all        []maru.Content
	found      map[string]int // indexes in all, by digest
}

// image adds a manifest and what it names. One that is not here is left out.
func (w *walk) image(ctx context.Context, digest, mediaType string) error {
	if _, done := w.found[digest]; done {
		return nil
	}
	d, err := w.h.parse(ctx, maru.Content{Digest: digest, MediaType: mediaType})
	if maru.KindOf(err) == maru.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	content := maru.Content{Repository: w.repository, Digest: digest, Size: d.size, MediaType: d.MediaType}
	for _, part := range d.parts() {
		content.References = append(content.References, part.Digest)
	}
	w.add(content)
	for _, blob := range d.parts() {
		if d.Manifests != nil {
			break
		}
		w.add(maru.Content{Repository: w.repository, Digest: blob.Digest, Size: blob.Size})
	}
	for _, child := range d.Manifests {
		if err := w.image(ctx, child.Digest, child.MediaType); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) add(content maru.Content) {
	if _, done := w.found[content.Digest]; !done {
		w.found[content.Digest] = len(w.all)
		w.all = append(w.all, content)
	}
}

// parsed is a manifest that was read.
type parsed struct {
	document
	size int64
}

// parse reads a manifest that is here. It never changes, so it is read once.
func (h *Handler) parse(ctx context.Context, content maru.Content) (parsed, error) {
	if p, ok := h.parsed.get(content.Digest); ok {
		return p, nil
	}
	data, err := h.read(ctx, content.Digest)
	if err != nil {
		return parsed{}, err
	}
	d, err := parseManifest(data, content.MediaType)
	if err != nil {
		return parsed{}, err
	}
	p := parsed{d, int64(len(data))}
	h.parsed.put(content.Digest, p)
	return p, nil
}

// manifestCache remembers manifests that were read. The zero value is ready.
type manifestCache struct {
	mu    sync.Mutex
	known map[string]parsed
	bytes int64
}

// maxCached is how many bytes of manifests are remembered, as they are stored.
const maxCached = 4 << 20

func (m *manifestCache) get(digest string) (parsed, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.known[digest]
	return p, ok
}

func (m *manifestCache) put(digest string, p parsed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bytes += p.size; m.known == nil || m.bytes > maxCached {
		m.known, m.bytes = map[string]parsed{}, p.size
	}
	m.known[digest] = p
}
