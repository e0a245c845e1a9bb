package registry

import (
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/marucloud/maru"
)

// blob gives content, or a part of it.
func (c *call) blob() error {
	if err := checkDigest(c.last); err != nil {
		return err
	}
	found, err := c.content(c.last)
	if err != nil {
		return known("BLOB_UNKNOWN", err)
	}
	if err := c.refresh(found); err != nil {
		return err
	}
	body := &seeker{size: found.Size, open: func(offset int64) (io.ReadCloser, error) {
		body, _, err := c.store.ReadContent(c.r.Context(), found.Digest, offset)
		return body, err
	}}
	defer body.Close()
	if c.r.Method == http.MethodGet { // what goes wrong is seen before the answer begins
		if body.body, err = body.open(0); err != nil {
			return known("BLOB_UNKNOWN", err)
		}
	}
	c.serveContent(found.Digest, "application/octet-stream", body)
	return nil
}

// serveContent answers with what never changes. It does ranges, conditions and HEAD (RFC 9110).
func (c *call) serveContent(digest, mediaType string, body io.ReadSeeker) {
	header := c.w.Header()
	header.Set("Content-Type", mediaType)
	header.Set("Docker-Content-Digest", digest)
	header.Set("ETag", `"`+digest+`"`)
	header.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(c.w, c.r, "", time.Time{}, body)
}

// refresh notes that somebody who pushes found content that need not be pushed again, so that it is not collected
// before the manifest comes that it is for.
func (c *call) refresh(found maru.Content) error {
	if c.r.Method != http.MethodHead || time.Since(found.Pushed) < c.cfg.Grace/2 || mayPush(c.token, c.name) != nil {
		return nil
	}
	return known("BLOB_UNKNOWN", c.store.PutContent(c.r.Context(), maru.Content{Repository: c.name.key, Digest: found.Digest}))
}

// removeBlob takes a blob out of the repository that no manifest in it is made of.
func (c *call) removeBlob() error {
	if err := checkDigest(c.last); err != nil {
		return err
	}
	c.pushing.Lock()
	defer c.pushing.Unlock()
	all, err := c.contents()
	if err != nil {
		return known("BLOB_UNKNOWN", err)
	}
	for _, m := range all {
		if slices.Contains(m.References, c.last) {
			return problem("DENIED", maru.WithHint(maru.Errorf(maru.Denied, "the manifest %s is made of it", m.Digest), "delete that first"))
		}
	}
	return c.remove("BLOB_UNKNOWN")
}

// remove takes what the path names out of the repository.
func (c *call) remove(unknown string) error {
	if err := c.store.RemoveContent(c.r.Context(), c.name.key, c.last); err != nil {
		return known(unknown, err)
	}
	c.log.InfoContext(c.r.Context(), "removed from the registry", "repository", c.name.key, "reference", c.last, "by", c.token.Name)
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}
