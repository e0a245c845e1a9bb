package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/marucloud/maru"
)

// content finds what is in the request's repository by digest or tag; NotFound.
func (c *call) content(reference string) (maru.Content, error) {
	if !c.name.releases() {
		return c.store.Content(c.r.Context(), c.name.key, reference)
	}
	all, err := c.released(c.r.Context(), c.name)
	if err != nil {
		return maru.Content{}, err
	}
	i := slices.IndexFunc(all, func(m maru.Content) bool {
		return m.Digest == reference || slices.Contains(m.Tags, reference)
	})
	if i < 0 {
		return maru.Content{}, maru.Errorf(maru.NotFound, "%s is not in %s", reference, c.name.written)
	}
	return all[i], nil
}

// contents lists what is in the request's repository; NotFound when there is nothing.
func (c *call) contents() (all []maru.Content, err error) {
	if c.name.releases() {
		all, err = c.released(c.r.Context(), c.name)
	} else {
		all, err = c.store.Contents(c.r.Context(), c.name.key)
	}
	if err == nil && len(all) == 0 {
		err = problem("NAME_UNKNOWN", maru.Errorf(maru.NotFound, "there is no repository %s", c.name.written))
	}
	return all, err
}

// read gives the whole of a manifest.
func (h *Handler) read(ctx context.Context, digest string) ([]byte, error) {
	body, size, err := h.store.ReadContent(ctx, digest, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if size > maxManifest {
		return nil, maru.Errorf(maru.Invalid, "%s has %d bytes, more than any manifest", digest, size)
	}
	var data bytes.Buffer
	if n, err := io.Copy(&data, body); err != nil || n != size {
		return nil, maru.Errorf(maru.Unavailable, "read %s: %w", digest, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return data.Bytes(), nil
}

// seeker reads content from any offset.
type seeker struct {
	open   func(offset int64) (io.ReadCloser, error)
	size   int64
	offset int64
	body   io.ReadCloser
}

// Seek implements [io.Seeker].
func (s *seeker) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.offset
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	if offset != s.offset {
		_ = s.Close()
		s.offset = offset
	}
	return offset, nil
}

// Read implements [io.Reader].
func (s *seeker) Read(p []byte) (int, error) {
	if s.offset >= s.size {
		return 0, io.EOF
	}
	if s.body == nil {
		var err error
		if s.body, err = s.open(s.offset); err != nil {
			return 0, err
		}
	}
	n, err := s.body.Read(p)
	s.offset += int64(n)
	return n, err
}

// Close implements [io.Closer]. It may be read on afterwards.
func (s *seeker) Close() error {
	if s.body == nil {
		return nil
	}
	body := s.body
	s.body = nil
	return body.Close()
}
