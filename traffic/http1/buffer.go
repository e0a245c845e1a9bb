package http1

import (
	"bytes"
	"io"
	"sync"
	"unsafe"
)

const bufferSize = 8 << 10

// large is for bodies that don't fit a buffer.
const largeSize = 64 << 10

var (
	pool      = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	largePool = sync.Pool{New: func() any { return new([largeSize]byte) }}
)

// buffer reads through memory that it holds only while there is something in it.
type buffer struct {
	src    io.Reader
	p      []byte
	pooled *[bufferSize]byte
	r, w   int // what is between was read and not used yet
	floor  int // what is before is pointed to: it stays where it is
}

func (b *buffer) take() {
	if b.p == nil {
		b.pooled = pool.Get().(*[bufferSize]byte)
		b.p = b.pooled[:]
	}
}

// release gives the memory back, unless something is in it. Strings into it are void from here on.
func (b *buffer) release() {
	b.floor = 0
	if b.r < b.w {
		return
	}
	b.r, b.w, b.p = 0, 0, nil
	if b.pooled != nil {
		pool.Put(b.pooled)
		b.pooled = nil
	}
}

func (b *buffer) buffered() []byte { return b.p[b.r:b.w] }

// room makes room to read into, and keeps what was not used. Memory that is pointed to and too small
// is left to the collector.
func (b *buffer) room() []byte {
	b.take()
	if b.r == b.w {
		b.r, b.w = b.floor, b.floor
	}
	if len(b.p)-b.w >= 512 {
		return b.p[b.w:]
	}
	if free := b.r - b.floor; free >= len(b.p)/2 {
		copy(b.p[b.floor:], b.p[b.r:b.w])
		b.r, b.w = b.floor, b.w-free
		return b.p[b.w:]
	}
	next := make([]byte, max(2*(b.w-b.r), bufferSize))
	b.w = copy(next, b.p[b.r:b.w])
	if b.pooled != nil && b.floor == 0 {
		pool.Put(b.pooled)
	}
	b.p, b.pooled, b.r, b.floor = next, nil, 0, 0
	return b.p[b.w:]
}

// fill reads once.
func (b *buffer) fill() error {
	n, err := b.src.Read(b.room())
	b.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// section reads up to the end of a header or trailer, the empty line, and gives it with that line. It
// stays unread. The end of the stream before is io.EOF if nothing came, else io.ErrUnexpectedEOF.
func (b *buffer) section(limit int, more func()) ([]byte, error) {
	at := 0
	for {
		p := b.buffered()
		for at < len(p) {
			i := bytes.IndexByte(p[at:], '\n')
			if i < 0 {
				at = len(p)
				break
			}
			at += i + 1
			if at < 2 || p[at-2] != '\r' {
				return nil, errLineEnd
			}
			if at == 2 || p[at-3] == '\n' {
				if at > limit {
					return nil, errTooLarge
				}
				return p[:at:at], nil
			}
		}
		if len(p) > limit {
			return nil, errTooLarge
		}
		if more != nil && len(p) > 0 {
			more()
		}
		if err := b.fill(); err != nil {
			if err == io.EOF && len(p) > 0 { //nolint:errorlint // as io.Reader gives it
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// text gives bytes as a string, without a copy.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
