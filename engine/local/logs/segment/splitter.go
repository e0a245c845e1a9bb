package segment

import (
	"bytes"
	"io"
	"unicode/utf8"
)

// splitter cuts a stream of bytes into lines.
type splitter struct {
	lineSize int
	buf      []byte
	start    int  // of what was not given out yet
	scanned  int  // no newline is between start and here
	open     bool // the last piece given out was partial
	full     bool // the last read filled buf
}

// read reads once. It takes more at a time when there is more to read.
func (s *splitter) read(r io.Reader) (int, error) {
	if most := max(fullBuffer, 2*s.lineSize); s.full && cap(s.buf) < most {
		grown := make([]byte, len(s.buf), min(4*cap(s.buf), most))
		copy(grown, s.buf)
		s.buf = grown
	}
	n, err := r.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	s.full = len(s.buf) == cap(s.buf)
	return n, err
}

// next gives the next line, or a piece of one that is too long. At the end it gives what is left.
func (s *splitter) next(end bool) (line []byte, partial, ok bool) {
	i := bytes.IndexByte(s.buf[s.scanned:], '\n')
	if i < 0 {
		s.scanned = len(s.buf)
	} else {
		i += s.scanned - s.start
	}
	rest := s.buf[s.start:]
	switch {
	case i >= 0 && i <= s.lineSize:
		line = bytes.TrimSuffix(rest[:i], []byte{'\r'})
		s.start += i + 1
		s.scanned = s.start
		s.open = false
		return line, false, true
	case i >= 0 || len(rest) > s.lineSize:
		n := wholeRunes(rest[:s.lineSize])
		s.start += n
		if i >= 0 {
			s.scanned = s.start
		}
		s.open = true
		return rest[:n], true, true
	case end && (len(rest) > 0 || s.open):
		s.start, s.scanned = len(s.buf), len(s.buf)
		s.open = false
		return rest, false, true
	}
	return nil, false, false
}

// compact makes room by dropping what was given out.
func (s *splitter) compact() {
	n := copy(s.buf, s.buf[s.start:])
	s.buf = s.buf[:n]
	s.scanned -= s.start
	s.start = 0
}

// wholeRunes gives the length of b without a character that is cut off at its end.
func wholeRunes(b []byte) int {
	for back := 1; back < utf8.UTFMax && back < len(b); back++ {
		c := b[len(b)-back]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-back:]) {
				return len(b) - back
			}
			break
		}
	}
	return len(b)
}
