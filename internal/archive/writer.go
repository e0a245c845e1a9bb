package archive

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/marucloud/maru"
)

// Writer writes an archive. It is for one goroutine.
type Writer struct {
	encrypted  io.WriteCloser
	compressed *zstd.Encoder
	digests    hash.Hash // of the sections' digests
	sections   int
	open       *sectionWriter
	err        error // once something failed, everything does
}

// NewWriter begins an archive. Without a successful Close it is not one.
func NewWriter(w io.Writer, lock Lock, manifest Manifest) (*Writer, error) {
	recipients, err := lock.recipients()
	if err != nil {
		return nil, err
	}
	encrypted, err := age.Encrypt(w, recipients...)
	if err != nil {
		return nil, maru.Errorf(maru.KindOf(err), "write backup: %w", err)
	}
	compressed, err := zstd.NewWriter(encrypted, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "write backup: %w", err)
	}
	a := &Writer{encrypted: encrypted, compressed: compressed, digests: sha256.New()}
	a.frame(frameOpening, maru.Raw(opening{format, manifest}))
	return a, a.err
}

func (a *Writer) frame(kind byte, payload []byte) {
	if a.err != nil {
		return
	}
	if err := writeFrame(a.compressed, kind, payload); err != nil {
		a.err = maru.Errorf(maru.KindOf(err), "write backup: %w", err)
	}
}

// Section begins a section. What is written to it is in the archive once it is closed; the one
// before must be closed.
func (a *Writer) Section(s Section) (io.WriteCloser, error) {
	if a.open != nil {
		return nil, maru.Errorf(maru.Internal, "write backup: section %s is not closed", a.open.section)
	}
	payload := maru.Raw(s)
	if s.Kind == "" || len(payload) > largestJSON {
		return nil, maru.Errorf(maru.Invalid, "write backup: section %q has no kind, or too long a name", s.Kind)
	}
	a.frame(frameStart, payload)
	if a.err != nil {
		return nil, a.err
	}
	a.open = &sectionWriter{archive: a, section: s, digest: sha256.New()}
	return a.open, nil
}

// Fail makes sure that what was written does not become an archive: Close gives the error.
func (a *Writer) Fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// Close ends the archive. It does not close what the archive is written to.
func (a *Writer) Close() error {
	if a.open != nil && a.err == nil {
		a.err = maru.Errorf(maru.Internal, "write backup: section %s is not closed", a.open.section)
	}
	a.frame(frameEnding, maru.Raw(ending{a.sections, a.digests.Sum(nil)}))
	if a.err != nil {
		// The encoder's goroutines and buffers go, the stream stays without its end.
		a.compressed.Reset(io.Discard)
		return errors.Join(a.err, a.compressed.Close())
	}
	a.err = a.compressed.Close()
	if a.err == nil {
		a.err = a.encrypted.Close()
	}
	if a.err != nil {
		return maru.Errorf(maru.KindOf(a.err), "write backup: %w", a.err)
	}
	a.err = maru.Errorf(maru.Internal, "write backup: it is closed")
	return nil
}

// sectionWriter collects what is written into frames.
type sectionWriter struct {
	archive *Writer
	section Section
	digest  hash.Hash
	size    int64
	buffer  bytes.Buffer
	closed  bool
}

func (s *sectionWriter) Write(p []byte) (int, error) {
	if s.closed {
		return 0, maru.Errorf(maru.Internal, "write backup: section %s is closed", s.section)
	}
	written := 0
	for len(p) > 0 && s.archive.err == nil {
		n := min(len(p), largestData-s.buffer.Len())
		s.buffer.Write(p[:n])
		p = p[n:]
		written += n
		if s.buffer.Len() == largestData {
			s.flush()
		}
	}
	return written, s.archive.err
}

func (s *sectionWriter) flush() {
	if s.buffer.Len() == 0 {
		return
	}
	s.digest.Write(s.buffer.Bytes())
	s.size += int64(s.buffer.Len())
	s.archive.frame(frameData, s.buffer.Bytes())
	s.buffer.Reset()
}

func (s *sectionWriter) Close() error {
	if s.closed {
		return s.archive.err
	}
	s.closed = true
	s.flush()
	digest := s.digest.Sum(nil)
	s.archive.frame(frameClosing, maru.Raw(closing{s.size, digest}))
	s.archive.digests.Write(digest)
	s.archive.sections++
	s.archive.open = nil
	return s.archive.err
}
