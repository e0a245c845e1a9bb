package remote

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/marucloud/maru"
)

// contentRequest names content in a repository, by digest or tag.
type contentRequest struct {
	Repository string `json:"repository"`
	Reference  string `json:"reference,omitempty"`
}

type readContentRequest struct {
	Digest string `json:"digest"`
	Offset int64  `json:"offset"`
}

type uploadRequest struct {
	Upload     string `json:"upload"`
	Repository string `json:"repository,omitempty"`
	Digest     string `json:"digest,omitempty"`
}

func (h *handler) contents(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in contentRequest) ([]maru.Content, error) {
		return h.Repositories.Contents(ctx, in.Repository)
	})
}

func (h *handler) content(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in contentRequest) (maru.Content, error) {
		return h.Repositories.Content(ctx, in.Repository, in.Reference)
	})
}

func (h *handler) putContent(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in maru.Content) (nothing, error) {
		return nothing{}, h.Repositories.PutContent(ctx, in)
	})
}

func (h *handler) removeContent(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in contentRequest) (nothing, error) {
		return nothing{}, h.Repositories.RemoveContent(ctx, in.Repository, in.Reference)
	})
}

// readContent answers with the bytes, of which the length is told before.
func (h *handler) readContent(w http.ResponseWriter, r *http.Request) error {
	var in readContentRequest
	if err := decode(r.Body, &in); err != nil {
		return err
	}
	body, size, err := h.Repositories.ReadContent(r.Context(), in.Digest, in.Offset)
	if err != nil {
		return err
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size-in.Offset, 10))
	if _, err := io.Copy(w, body); err != nil && r.Context().Err() == nil {
		h.log.Error("engine call failed", "call", "contents/read", "digest", in.Digest, "error", err)
	}
	return nil // what is cut short is seen by its length
}

func (h *handler) appendUpload(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	offset, err := strconv.ParseInt(query.Get("offset"), 10, 64)
	if err != nil {
		return maru.Errorf(maru.Invalid, "offset: %w", err)
	}
	size, err := h.Uploads.AppendUpload(r.Context(), query.Get("upload"), offset, r.Body)
	if err != nil {
		return err
	}
	return answer(w, size)
}

func (h *handler) uploadSize(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in uploadRequest) (int64, error) {
		return h.Uploads.UploadSize(ctx, in.Upload)
	})
}

func (h *handler) commitUpload(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in uploadRequest) (nothing, error) {
		return nothing{}, h.Uploads.CommitUpload(ctx, in.Upload, in.Repository, in.Digest)
	})
}

func (h *handler) dropUpload(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in uploadRequest) (nothing, error) {
		return nothing{}, h.Uploads.DropUpload(ctx, in.Upload)
	})
}

// Contents implements [maru.Repositories].
func (c *Client) Contents(ctx context.Context, repository string) ([]maru.Content, error) {
	return ask[[]maru.Content](ctx, c, "contents", contentRequest{Repository: repository})
}

// Content implements [maru.Repositories].
func (c *Client) Content(ctx context.Context, repository, reference string) (maru.Content, error) {
	return ask[maru.Content](ctx, c, "contents/find", contentRequest{repository, reference})
}

// PutContent implements [maru.Repositories].
func (c *Client) PutContent(ctx context.Context, content maru.Content) error {
	return tell(ctx, c, "contents/put", content)
}

// RemoveContent implements [maru.Repositories].
func (c *Client) RemoveContent(ctx context.Context, repository, reference string) error {
	return tell(ctx, c, "contents/remove", contentRequest{repository, reference})
}

// ReadContent implements [maru.Repositories].
func (c *Client) ReadContent(ctx context.Context, digest string, offset int64) (io.ReadCloser, int64, error) {
	response, err := c.postJSON(ctx, "contents/read", readContentRequest{digest, offset})
	if err != nil {
		return nil, 0, err
	}
	return response.Body, offset + response.ContentLength, nil
}

// AppendUpload implements [maru.Uploads].
func (c *Client) AppendUpload(ctx context.Context, upload string, offset int64, r io.Reader) (int64, error) {
	query := url.Values{"upload": {upload}, "offset": {strconv.FormatInt(offset, 10)}}
	// Of no known length and of no other use to the transport, so that a reader's error ends the request.
	response, err := c.post(ctx, "uploads/append?"+query.Encode(), io.MultiReader(r))
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return read[int64](ctx, c, "uploads/append", response.Body)
}

// UploadSize implements [maru.Uploads].
func (c *Client) UploadSize(ctx context.Context, upload string) (int64, error) {
	return ask[int64](ctx, c, "uploads/size", uploadRequest{Upload: upload})
}

// CommitUpload implements [maru.Uploads].
func (c *Client) CommitUpload(ctx context.Context, upload, repository, digest string) error {
	return tell(ctx, c, "uploads/commit", uploadRequest{upload, repository, digest})
}

// DropUpload implements [maru.Uploads].
func (c *Client) DropUpload(ctx context.Context, upload string) error {
	return tell(ctx, c, "uploads/drop", uploadRequest{Upload: upload})
}
