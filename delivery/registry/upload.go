package registry

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// upload is the engine's name for the upload of the path, or a new one.
func (c *call) upload() string { return c.name.key + "@" + c.last }

// uploadForm is that of an upload's part of the path.
var uploadForm = regexp.MustCompile(`^[A-Z2-7]{26}$`)

func (c *call) checkUpload() error {
	if !uploadForm.MatchString(c.last) {
		return problem("BLOB_UPLOAD_UNKNOWN", maru.Errorf(maru.NotFound, "there is no upload %q", c.last))
	}
	return nil
}

// uploadBegin begins an upload, ends it at once when everything comes with the request, or makes do with
// what another repository has.
func (c *call) uploadBegin() error {
	query := c.r.URL.Query()
	if digest := query.Get("mount"); digest != "" {
		if done, err := c.mount(query.Get("from"), digest); done || err != nil {
			return err
		}
	}
	digest := query.Get("digest")
	if digest != "" {
		if err := checkDigest(digest); err != nil {
			return err
		}
	}
	c.last = rand.Text()
	size, err := c.store.AppendUpload(c.r.Context(), c.upload(), 0, c.body())
	if err != nil {
		return err
	}
	if digest != "" {
		return c.commit(digest)
	}
	c.accepted(http.StatusAccepted, size)
	return nil
}

// mount has another repository's content in this one too, if there is such that the token may read. If not,
// the client uploads it, and is not told more.
func (c *call) mount(from, digest string) (done bool, err error) {
	if err := checkDigest(digest); err != nil {
		return false, err
	}
	there := &call{Handler: c.Handler, r: c.r, token: c.token}
	if there.name, err = parseName(from); err != nil || mayPull(c.token, there.name) != nil {
		return false, nil //nolint:nilerr // the client uploads it then
	}
	if _, err = there.content(digest); err == nil {
		err = c.store.PutContent(c.r.Context(), maru.Content{Repository: c.name.key, Digest: digest})
	}
	switch maru.KindOf(err) {
	case maru.NotFound:
		return false, nil
	case "":
		c.created("blobs", digest)
		return true, nil
	}
	return false, err
}

// created tells where something is that there was not before.
func (c *call) created(what, digest string) {
	c.w.Header().Set("Location", Prefix+c.name.written+"/"+what+"/"+digest)
	c.w.Header().Set("Docker-Content-Digest", digest)
	c.w.WriteHeader(http.StatusCreated)
}

// accepted tells how far an upload is, and where it goes on.
func (c *call) accepted(status int, size int64) {
	c.w.Header().Set("Location", Prefix+c.name.written+"/blobs/uploads/"+c.last)
	c.w.Header().Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	c.w.Header().Set("Docker-Upload-UUID", c.last)
	c.w.WriteHeader(status)
}

// uploadStatus tells how far an upload is.
func (c *call) uploadStatus() error {
	size, err := c.size()
	if err != nil {
		return err
	}
	c.accepted(http.StatusNoContent, size)
	return nil
}

func (c *call) size() (int64, error) {
	if err := c.checkUpload(); err != nil {
		return 0, err
	}
	size, err := c.store.UploadSize(c.r.Context(), c.upload())
	return size, known("BLOB_UPLOAD_UNKNOWN", err)
}

// uploadPiece adds to an upload.
func (c *call) uploadPiece() error {
	size, err := c.add()
	if err != nil {
		return err
	}
	c.accepted(http.StatusAccepted, size)
	return nil
}

// uploadEnd ends an upload, with what is left of it.
func (c *call) uploadEnd() error {
	digest := c.r.URL.Query().Get("digest")
	if err := checkDigest(digest); err != nil {
		return err
	}
	if _, err := c.add(); err != nil {
		return err
	}
	return c.commit(digest)
}

// add adds the request's body to the upload.
func (c *call) add() (int64, error) {
	size, err := c.size()
	if err != nil {
		return 0, err
	}
	begin, length, ranged, err := contentRange(c.r.Header.Get("Content-Range"))
	if err != nil {
		return 0, err
	}
	if !ranged {
		begin = size
	} else if c.r.ContentLength >= 0 && c.r.ContentLength != length {
		return 0, problem("SIZE_INVALID", maru.Errorf(maru.Invalid, "Content-Range is %d bytes long, and Content-Length says %d", length, c.r.ContentLength))
	}
	now, err := begin, error(maru.Errorf(maru.Conflict, "the upload has %d bytes: it does not go on at %d", size, begin))
	if begin == size {
		now, err = c.store.AppendUpload(c.r.Context(), c.upload(), begin, c.body())
	}
	if maru.KindOf(err) == maru.Conflict {
		c.w.Header().Set("Location", Prefix+c.name.written+"/blobs/uploads/"+c.last)
		c.w.Header().Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	}
	if err == nil && ranged && now != begin+length {
		err = problem("SIZE_INVALID", maru.Errorf(maru.Invalid, "Content-Range is %d bytes long, and %d came", length, now-begin))
	}
	return now, known("BLOB_UPLOAD_UNKNOWN", err)
}

// contentRange reads FIRST-LAST, as the specification has it, or the form of RFC 9110: bytes FIRST-LAST/SIZE.
func contentRange(text string) (begin, length int64, ok bool, err error) {
	if text == "" {
		return 0, 0, false, nil
	}
	plain, _, _ := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	first, last, _ := strings.Cut(plain, "-")
	begin, err = strconv.ParseInt(first, 10, 63)
	end, lastErr := strconv.ParseInt(last, 10, 63)
	if err != nil || lastErr != nil || begin < 0 || end < begin {
		return 0, 0, false, problem("BLOB_UPLOAD_INVALID", maru.Errorf(maru.Invalid, "Content-Range %q is none: it looks like 0-1023", text))
	}
	return begin, end - begin + 1, true, nil
}

// commit makes what was uploaded content of the repository.
func (c *call) commit(digest string) error {
	err := c.store.CommitUpload(c.r.Context(), c.upload(), c.name.key, digest)
	if maru.KindOf(err) == maru.Invalid {
		return problem("DIGEST_INVALID", err)
	}
	if err != nil {
		return known("BLOB_UPLOAD_UNKNOWN", err)
	}
	c.created("blobs", digest)
	return nil
}

// uploadCancel forgets an upload.
func (c *call) uploadCancel() error {
	if err := c.checkUpload(); err != nil {
		return err
	}
	if err := c.store.DropUpload(c.r.Context(), c.upload()); err != nil {
		return known("BLOB_UPLOAD_UNKNOWN", err)
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
