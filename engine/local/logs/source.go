package logs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/marucloud/maru/engine/local/logs/segment"
)

// source is a segment to be read, compressed or not.
type source interface {
	io.ReaderAt
	Size() (int64, error) // may grow
	Close() error
}

type plainFile struct{ *os.File }

func (f plainFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// openSegment opens a segment in whichever form it is there.
func openSegment(dir string, name segment.Name) (source, error) {
	name.Compressed = false
	f, err := os.Open(filepath.Join(dir, name.String()))
	if err == nil {
		return plainFile{f}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	name.Compressed = true
	if f, err = os.Open(filepath.Join(dir, name.String())); err != nil {
		return nil, err
	}
	c, err := openCompressed(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

const chunkSize = 32 << 10

// readFull reads as much as there is, up to len(p).
func readFull(r io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := r.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// scanner reads a source line by line, in either direction.
type scanner struct {
	src  source
	off  int64  // where the next line to read begins, or, backwards, ends
	buf  []byte // of src, from base
	base int64
}

// next gives the next complete line without its newline. It is false at the end: for now, if the
// source grows.
func (s *scanner) next() ([]byte, bool, error) {
	for {
		if s.off >= s.base && s.off <= s.base+int64(len(s.buf)) {
			rest := s.buf[s.off-s.base:]
			if i := bytes.IndexByte(rest, '\n'); i >= 0 {
				s.off += int64(i) + 1
				return rest[:i], true, nil
			}
		}
		more, err := s.fill(s.off)
		if err != nil || !more {
			return nil, false, err
		}
	}
}

// fill makes buf begin at off, with more behind it than there was. It is false when there is no more.
func (s *scanner) fill(off int64) (bool, error) {
	have := 0
	if off >= s.base && off < s.base+int64(len(s.buf)) {
		have = copy(s.buf, s.buf[off-s.base:])
	}
	s.buf, s.base = s.buf[:have], off
	if need := have + chunkSize; cap(s.buf) < need {
		grown := make([]byte, have, max(need, 2*have))
		copy(grown, s.buf)
		s.buf = grown
	}
	n, err := readFull(s.src, s.buf[have:cap(s.buf)], off+int64(have))
	s.buf = s.buf[:have+n]
	return n > 0, err
}

// prev gives the line that ends at off, without its newline, and moves to its beginning. It is false
// at the beginning of the source. At first off must be behind a newline, or 0: see lastEnd.
func (s *scanner) prev() ([]byte, bool, error) {
	for s.off > 0 {
		end := s.off - 1 // of the line, at its newline
		from := max(0, end-chunkSize)
		if s.base <= end && s.off <= s.base+int64(len(s.buf)) {
			before := s.buf[:end-s.base]
			i := bytes.LastIndexByte(before, '\n')
			if i >= 0 || s.base == 0 {
				s.off = s.base + int64(i) + 1
				return before[i+1:], true, nil
			}
			from = max(0, s.base-max(chunkSize, int64(len(before))))
		}
		if err := s.load(from, s.off); err != nil {
			return nil, false, err
		}
	}
	return nil, false, nil
}

// load makes buf what is between from and until.
func (s *scanner) load(from, until int64) error {
	if size := int(until - from); cap(s.buf) < size {
		s.buf = make([]byte, size, max(size, 2*chunkSize))
	} else {
		s.buf = s.buf[:size]
	}
	s.base = from
	n, err := readFull(s.src, s.buf, from)
	if err == nil && n < len(s.buf) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// lastEnd gives the place behind the last newline.
func (s *scanner) lastEnd() (int64, error) {
	size, err := s.src.Size()
	if err != nil {
		return 0, err
	}
	for until := size; until > 0; {
		from := max(0, until-chunkSize)
		if err := s.load(from, until); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(s.buf, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		until = from
	}
	return 0, nil
}

// seek moves to the first record that is not before t, by bisection: times never decrease. It is
// false when there is none, and then moves to the end.
func (s *scanner) seek(t time.Time) (bool, error) {
	size, err := s.src.Size()
	if err != nil {
		return false, err
	}
	low, high := int64(0), size // a record that begins below low is before t; one from high on is not
	for low < high {
		mid := low + (high-low)/2
		begin, at, ok, err := s.recordFrom(mid, high)
		if err != nil {
			return false, err
		}
		if ok && at.Before(t) {
			low = begin + 1
		} else {
			high = mid
		}
	}
	begin, _, ok, err := s.recordFrom(low, size)
	if err == nil && !ok {
		begin, err = s.lastEnd()
	}
	s.off = begin
	return ok, err
}

// recordFrom gives the place and time of the first record that begins in [from, until).
func (s *scanner) recordFrom(from, until int64) (begin int64, at time.Time, ok bool, err error) {
	s.off = from
	if from > 0 { // to the next beginning of a line
		s.off = from - 1
		if _, ok, err := s.next(); err != nil || !ok {
			return 0, time.Time{}, false, err
		}
	}
	for s.off < until {
		begin = s.off
		line, ok, err := s.next()
		if err != nil || !ok {
			return 0, time.Time{}, false, err
		}
		if at, ok := segment.DecodeTime(line); ok {
			return begin, at, true, nil
		}
	}
	return 0, time.Time{}, false, nil
}
