package registry

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// maxManifest is the size that the specification asks registries to take, in bytes.
const maxManifest = 4 << 20

// The media types of manifests: image-spec 1.1, and Docker's image manifest version 2, schema 2.
const (
	ociImage    = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	dockerImage = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// document is what is read of a manifest.
type document struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *descriptor       `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// descriptor names content (image-spec 1.1, Descriptor).
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// elsewhere tells whether a layer need not be in a registry: it is fetched from where its owner has it.
func (d descriptor) elsewhere() bool {
	return strings.Contains(d.MediaType, ".nondistributable.") || strings.Contains(d.MediaType, ".foreign.")
}

// parseManifest reads a manifest of a media type, or of the one that it says itself; Invalid.
func parseManifest(data []byte, mediaType string) (document, error) {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return d, maru.Errorf(maru.Invalid, "the manifest: %w", err)
	}
	if d.MediaType == "" {
		d.MediaType = mediaType
	}
	if d.MediaType == "" && d.Manifests != nil {
		d.MediaType = ociIndex
	} else if d.MediaType == "" {
		d.MediaType = ociImage
	}
	if mediaType != "" && mediaType != d.MediaType {
		return d, maru.Errorf(maru.Invalid, "the manifest says that it is %s, and the request that it is %s", d.MediaType, mediaType)
	}
	index := d.MediaType == ociIndex || d.MediaType == dockerIndex
	switch {
	case !index && d.MediaType != ociImage && d.MediaType != dockerImage:
		return d, maru.WithHint(maru.Errorf(maru.Invalid, "manifests of the type %q are not kept", d.MediaType), "use "+ociImage+" or "+ociIndex)
	case d.SchemaVersion != 2:
		return d, maru.Errorf(maru.Invalid, "the manifest has the schema version %d, not 2", d.SchemaVersion)
	case index && (d.Config != nil || d.Layers != nil), !index && d.Manifests != nil:
		return d, maru.Errorf(maru.Invalid, "the manifest is an image and an index at once")
	case !index && d.Config == nil:
		return d, maru.Errorf(maru.Invalid, "the manifest has no config")
	}
	for _, part := range d.parts() {
		if err := part.check(); err != nil {
			return d, err
		}
	}
	if d.Subject != nil {
		return d, d.Subject.check()
	}
	return d, nil
}

func (d descriptor) check() error {
	if !digestForm.MatchString(d.Digest) || d.Size < 0 {
		return maru.Errorf(maru.Invalid, "the manifest names %q of %d bytes, which is no content that is kept here", d.Digest, d.Size)
	}
	return nil
}

// parts are what the manifest is made of.
func (d document) parts() []descriptor {
	parts := slices.Concat(d.Layers, d.Manifests)
	if d.Config != nil {
		parts = append(parts, *d.Config)
	}
	return parts
}

// artifactType is what the manifest is for its referrers' list (distribution-spec 1.1, Listing Referrers).
func (d document) artifactType() string {
	if d.ArtifactType == "" && d.Config != nil {
		return d.Config.MediaType
	}
	return d.ArtifactType
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// manifest gives a manifest, byte by byte as it was pushed.
func (c *call) manifest() error {
	found, err := c.content(c.last)
	if err == nil && found.MediaType == "" {
		err = maru.Errorf(maru.NotFound, "%s is a blob, no manifest", c.last)
	}
	if err != nil {
		return known("MANIFEST_UNKNOWN", err)
	}
	data, err := c.read(c.r.Context(), found.Digest)
	if err != nil {
		return known("MANIFEST_UNKNOWN", err)
	}
	c.serveContent(found.Digest, found.MediaType, bytes.NewReader(data))
	return nil
}

// putManifest takes a manifest, whose parts are in the repository already, and gives it its tags.
func (c *call) putManifest() error {
	data, err := io.ReadAll(io.LimitReader(c.body(), maxManifest+1))
	if err != nil {
		return maru.Errorf(maru.Interrupted, "read the manifest: %w", err)
	}
	if len(data) > maxManifest {
		return &coded{"SIZE_INVALID", http.StatusRequestEntityTooLarge, maru.Errorf(maru.Exhausted, "a manifest may have %d bytes", maxManifest)}
	}
	pushed := maru.Content{Repository: c.name.key, Digest: digestOf(data)}
	tags, err := c.wantedTags(pushed.Digest)
	if err != nil {
		return err
	}
	mediaType, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	d, err := parseManifest(data, mediaType)
	if err != nil {
		return problem("MANIFEST_INVALID", err)
	}
	pushed.Tags, pushed.MediaType = tags, d.MediaType
	if d.Subject != nil {
		pushed.Subject = d.Subject.Digest
	}
	c.pushing.RLock()
	defer c.pushing.RUnlock()
	if pushed.References, err = c.present(d); err != nil {
		return err
	}
	if err := c.keep(pushed, data); err != nil {
		return err
	}
	c.log.InfoContext(c.r.Context(), "pushed to the registry", "repository", c.name.key, "digest", pushed.Digest, "tags", tags, "by", c.token.Name)
	if d.Subject != nil {
		c.w.Header().Set("OCI-Subject", d.Subject.Digest)
	}
	for _, tag := range c.r.URL.Query()["tag"] {
		c.w.Header().Add("OCI-Tag", tag)
	}
	c.created("manifests", pushed.Digest)
	return nil
}

// wantedTags are the tags that a manifest is to get: that of the path, or with a digest in the path those
// that follow it.
func (c *call) wantedTags(digest string) ([]string, error) {
	tags := []string{c.last}
	if strings.Contains(c.last, ":") {
		if err := checkDigest(c.last); err != nil {
			return nil, err
		}
		if c.last != digest {
			return nil, problem("DIGEST_INVALID", maru.Errorf(maru.Invalid, "the manifest is %s, not %s", digest, c.last))
		}
		tags = c.r.URL.Query()["tag"]
	}
	for _, tag := range tags {
		if !tagForm.MatchString(tag) {
			return nil, problem("MANIFEST_INVALID", maru.WithHint(maru.Errorf(maru.Invalid, "%q is no tag", tag), "use up to 128 letters, digits, '_', '.' and '-'"))
		}
	}
	return tags, nil
}

// present gives the digests of the manifest's parts, which have to be in the repository.
func (c *call) present(d document) ([]string, error) {
	all, err := c.store.Contents(c.r.Context(), c.name.key)
	if err != nil {
		return nil, err
	}
	there := make(map[string]maru.Content, len(all))
	for _, content := range all {
		there[content.Digest] = content
	}
	parts := map[string]bool{}
	for _, part := range d.parts() {
		found, ok := there[part.Digest]
		switch {
		case !ok && part.elsewhere():
			continue
		case !ok:
			return nil, problem("MANIFEST_BLOB_UNKNOWN", maru.WithHint(maru.Errorf(maru.Invalid, "%s is not in %s", part.Digest, c.name.written), "push it before the manifest"))
		case found.Size != part.Size:
			return nil, problem("MANIFEST_INVALID", maru.Errorf(maru.Invalid, "%s has %d bytes, and the manifest says %d", part.Digest, found.Size, part.Size))
		}
		parts[part.Digest] = true
	}
	return slices.Sorted(maps.Keys(parts)), nil
}

// keep stores a manifest.
func (c *call) keep(pushed maru.Content, data []byte) error {
	ctx, upload := c.r.Context(), c.name.key+"@"+rand.Text()
	if _, err := c.store.AppendUpload(ctx, upload, 0, bytes.NewReader(data)); err != nil {
		return err
	}
	if err := c.store.CommitUpload(ctx, upload, c.name.key, pushed.Digest); err != nil {
		return err
	}
	return known("MANIFEST_BLOB_UNKNOWN", c.store.PutContent(ctx, pushed))
}

// removeManifest takes a tag away, or by digest a manifest with its tags.
func (c *call) removeManifest() error {
	c.pushing.Lock() // an index that is being pushed may be made of it
	defer c.pushing.Unlock()
	found, err := c.content(c.last)
	if err == nil && found.MediaType == "" {
		err = maru.Errorf(maru.NotFound, "%s is a blob, no manifest", c.last)
	}
	if err != nil {
		return known("MANIFEST_UNKNOWN", err)
	}
	return c.remove("MANIFEST_UNKNOWN")
}
