// Package archive is the file that maru backup writes: one stream with named sections, each of any
// length that need not be known before, compressed and encrypted as a whole.
//
// From the outside in it is an age file, a zstd stream, and frames: a manifest, then for each section
// a start, chunks of data and an end with its size and digest, then an end of all with the number of
// sections and a digest over theirs. A file that was cut off or changed anywhere fails to read, so
// Verify can tell that a backup is whole before anything of it is restored. The outer layers are
// those of two common programs: age -d FILE | zstd -d gives the frames.
package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/marucloud/maru"
)

// Manifest tells what an archive is of.
type Manifest struct {
	Version string    `json:"version"` // of the Maru that wrote it
	Host    string    `json:"host"`
	Created time.Time `json:"created"`
}

// Section is a part of an archive. Kind tells what is in it, Name which one.
type Section struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"`
	Size int64  `json:"-"` // known once it was read
}

// String names the section for people.
func (s Section) String() string {
	if s.Name == "" {
		return s.Kind
	}
	return s.Kind + " " + s.Name
}

// The first frame's payload is the manifest's JSON with the format's number, 1.
const format = 1

type opening struct {
	Format int `json:"format"`
	Manifest
}

// closing ends a section.
type closing struct {
	Size   int64  `json:"size"`
	Digest []byte `json:"sha256"`
}

// ending ends the archive.
type ending struct {
	Sections int    `json:"sections"`
	Digest   []byte `json:"sha256"` // over the digests of the sections
}

// A frame is its type, the payload's length in four bytes, and the payload.
const (
	frameOpening = 'M'
	frameStart   = 'S'
	frameData    = 'D'
	frameClosing = 'E'
	frameEnding  = 'Z'

	headerSize  = 5
	largestData = 256 << 10
	largestJSON = 64 << 10
)

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	var header [headerSize]byte
	header[0] = kind
	binary.BigEndian.PutUint32(header[1:], uint32(len(payload)))
	if _, err := w.Write(header[:]); err != nil {
		return err
	}
	_, err := w.Write(payload)
	return err
}

// readFrame reads the next frame into buffer, which it grows to at most the largest frame there is.
func readFrame(r io.Reader, buffer []byte) (kind byte, payload []byte, err error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, unexpected(err)
	}
	kind = header[0]
	size, limit := binary.BigEndian.Uint32(header[1:]), uint32(largestJSON)
	if kind == frameData {
		limit = largestData
	}
	if size > limit {
		return 0, nil, fmt.Errorf("a frame of type %q has %d bytes", kind, size)
	}
	if int(size) > cap(buffer) {
		buffer = make([]byte, size)
	}
	payload = buffer[:size]
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, unexpected(err)
	}
	return kind, payload, nil
}

// unexpected makes an end of file in the middle of an archive an error of its own.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func damaged(err error) error {
	return maru.WithHint(maru.Errorf(maru.Invalid, "the backup is damaged or cut off: %w", err), "copy it again from where it was made, or use another one")
}
