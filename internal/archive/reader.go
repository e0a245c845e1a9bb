package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/marucloud/maru"
)

// largestWindow is the most memory that decompression may ask for. The encoder uses 8 MiB.
const largestWindow = 64 << 20

// Reader reads an archive. It is for one goroutine.
type Reader struct {
	source     *watched
	compressed *zstd.Decoder
	manifest   Manifest

	digests  hash.Hash
	sections int
	buffer   []byte
	err      error // once something failed or ended, everything does

	section *Section // that is being read
	digest  hash.Hash
	rest    []byte // of the present frame
}

// watched notes an error of the source, which is then told as it is.
type watched struct {
	io.Reader
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// NewReader begins to read an archive. Close must be called. Errors: Unauthenticated for a wrong
// key, Invalid for what is no archive or is damaged, Unsupported for one of a later format, and those of r.
func NewReader(r io.Reader, key Key) (*Reader, error) {
	identities, err := key.identities()
	if err != nil {
		return nil, err
	}
	source := &watched{Reader: r}
	plain, err := age.Decrypt(source, identities...)
	if err != nil {
		if source.err != nil {
			return nil, maru.Errorf(maru.KindOf(source.err), "read backup: %w", source.err)
		}
		return nil, locked(err)
	}
	compressed, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(largestWindow))
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "read backup: %w", err)
	}
	a := &Reader{source: source, compressed: compressed, digests: sha256.New()}
	if err := a.open(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// Close frees what reading takes.
func (a *Reader) Close() {
	a.compressed.Close()
	if a.err == nil {
		a.err = maru.Errorf(maru.Internal, "read backup: it is closed")
	}
}

// Manifest tells what the archive is of.
func (a *Reader) Manifest() Manifest { return a.manifest }

func (a *Reader) open() error {
	kind, payload, err := a.frame()
	if err != nil {
		return a.fail(err)
	}
	var o opening
	if err := decode(kind, frameOpening, payload, &o); err != nil {
		return a.fail(err)
	}
	if o.Format != format {
		a.err = maru.WithHint(maru.Errorf(maru.Unsupported, "the backup has format %d, and this Maru knows %d", o.Format, format),
			"restore it with Maru "+o.Version+" or later")
		return a.err
	}
	a.manifest = o.Manifest
	return nil
}

func (a *Reader) frame() (kind byte, payload []byte, err error) {
	kind, payload, err = readFrame(a.compressed, a.buffer)
	if cap(payload) > cap(a.buffer) {
		a.buffer = payload
	}
	return kind, payload, err
}

func decode(kind, want byte, payload []byte, into any) error {
	if kind != want {
		return fmt.Errorf("a frame of type %q where %q is due", kind, want)
	}
	return json.Unmarshal(payload, into)
}

func (a *Reader) fail(err error) error {
	switch {
	case a.source.err != nil:
		a.err = maru.Errorf(maru.KindOf(a.source.err), "read backup: %w", a.source.err)
	default:
		a.err = damaged(err)
	}
	return a.err
}

// Next goes to the next section, past the rest of the present one. io.EOF says that the archive has
// ended and was whole.
func (a *Reader) Next() (Section, error) {
	if a.section != nil {
		if _, err := io.Copy(io.Discard, a); err != nil {
			return Section{}, err
		}
	}
	if a.err != nil {
		return Section{}, a.err
	}
	kind, payload, err := a.frame()
	if err != nil {
		return Section{}, a.fail(err)
	}
	if kind == frameEnding {
		return Section{}, a.end(payload)
	}
	var s Section
	if err := decode(kind, frameStart, payload, &s); err != nil {
		return Section{}, a.fail(err)
	}
	if s.Kind == "" {
		return Section{}, a.fail(errors.New("a section has no kind"))
	}
	a.section, a.digest = &s, sha256.New()
	return s, nil
}

// end checks that nothing is missing, and that nothing comes behind.
func (a *Reader) end(payload []byte) error {
	var e ending
	if err := json.Unmarshal(payload, &e); err != nil {
		return a.fail(err)
	}
	if e.Sections != a.sections || !bytes.Equal(e.Digest, a.digests.Sum(nil)) {
		return a.fail(errors.New("a section is missing"))
	}
	n, err := io.Copy(io.Discard, a.compressed)
	if err != nil {
		return a.fail(err)
	}
	if n > 0 {
		return a.fail(errors.New("something follows its end"))
	}
	a.err = io.EOF
	return io.EOF
}

// Read reads the present section. io.EOF says that it has ended and was whole.
func (a *Reader) Read(p []byte) (int, error) {
	if a.section == nil {
		return 0, io.EOF
	}
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if err := a.advance(); err != nil {
			return 0, err
		}
		if a.section == nil {
			return 0, io.EOF
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// advance reads the section's next frame, of data or its end.
func (a *Reader) advance() error {
	kind, payload, err := a.frame()
	if err != nil {
		return a.fail(err)
	}
	if kind == frameData {
		a.digest.Write(payload)
		a.section.Size += int64(len(payload))
		a.rest = payload
		return nil
	}
	var c closing
	if err := decode(kind, frameClosing, payload, &c); err != nil {
		return a.fail(err)
	}
	digest := a.digest.Sum(nil)
	if c.Size != a.section.Size || !bytes.Equal(c.Digest, digest) {
		return a.fail(fmt.Errorf("section %s is not as it was written", a.section))
	}
	a.digests.Write(digest)
	a.sections++
	a.section = nil
	return nil
}

// Verify reads the whole archive and tells what is in it, with sizes. Without an error all of it can
// be read again.
func Verify(r io.Reader, key Key) (Manifest, []Section, error) {
	a, err := NewReader(r, key)
	if err != nil {
		return Manifest{}, nil, err
	}
	defer a.Close()
	var all []Section
	for {
		s, err := a.Next()
		if errors.Is(err, io.EOF) {
			return a.manifest, all, nil
		}
		if err != nil {
			return Manifest{}, nil, err
		}
		if s.Size, err = io.Copy(io.Discard, a); err != nil {
			return Manifest{}, nil, err
		}
		all = append(all, s)
	}
}
