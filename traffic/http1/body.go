package http1

import (
	"bytes"
	"errors"
	"io"

	"github.com/marucloud/maru/traffic/message"
)

const (
	longestChunkLine = 1 << 10
	trailerBytes     = 4 << 10
	// mostExcess bounds what chunks carry besides data, beyond 16 bytes a chunk and twice the data.
	mostExcess = 16 << 10
)

// body reads a message's body out of its connection's buffer.
type body struct {
	in      *buffer
	left    int64 // of the body, or of the chunk; -1: up to the end of the connection
	chunked bool
	begun   bool // a chunk was read before
	excess  int64
	ended   bool
	err     error
	trailer message.Header
	large   *[largeSize]byte
}

func (b *body) reset(in *buffer, length int64, chunked bool) {
	*b = body{in: in, left: length, chunked: chunked, ended: length == 0 && !chunked, trailer: b.trailer[:0]}
	if chunked {
		b.left = 0
	}
}

// release gives up what the body holds itself.
func (b *body) release() {
	if b.large != nil {
		largePool.Put(b.large)
		b.large = nil
	}
}

// Trailer gives what came behind a chunked body.
func (b *body) Trailer() message.Header { return b.trailer }

// whole tells whether all that is left of the body is in the buffer, and how much that is at most.
func (b *body) whole() (n int, whole bool) {
	switch {
	case b.ended:
		return 0, true
	case b.chunked || b.left < 0:
		return 0, false
	}
	return int(min(b.left, int64(b.in.w-b.in.r))), b.left <= int64(b.in.w-b.in.r)
}

// chunk reads the line that begins the next chunk, where one is to be read.
func (b *body) chunk() error {
	for b.chunked && b.left == 0 && !b.ended {
		if b.begun {
			// The line end behind the chunk's data.
			end, err := b.line(2)
			if err != nil {
				return err
			}
			if len(end) != 0 {
				return errChunk
			}
		}
		line, err := b.line(longestChunkLine)
		if err != nil {
			return err
		}
		if b.left, err = chunkSize(line); err != nil {
			return err
		}
		b.begun = true
		b.excess = max(0, b.excess+int64(len(line))+2-16-2*b.left)
		if b.excess > mostExcess {
			return errChunk
		}
		if b.left == 0 {
			return b.end()
		}
	}
	return nil
}

// end reads the trailer behind the last chunk.
func (b *body) end() error {
	section, err := b.in.section(trailerBytes, nil)
	if err != nil {
		return unexpected(err)
	}
	f := framing{length: -1}
	if b.trailer, err = f.fields(section, b.trailer[:0]); err != nil {
		return err
	}
	b.in.r += len(section)
	b.in.floor = b.in.r // the trailer's strings point before it
	b.ended = true
	return nil
}

// line reads a line and gives it without its end. It is good until the next read.
func (b *body) line(limit int) ([]byte, error) {
	for {
		p := b.in.buffered()
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			if i > limit || i == 0 || p[i-1] != '\r' || bytes.IndexByte(p[:i-1], '\r') >= 0 {
				return nil, errChunk
			}
			b.in.r += i + 1
			return p[:i-1], nil
		}
		if len(p) > limit {
			return nil, errChunk
		}
		if err := b.in.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
}

// chunkSize takes hexadecimal digits, and extensions behind a semicolon, which are left out.
func chunkSize(line []byte) (int64, error) {
	digits, extension, _ := bytes.Cut(line, []byte(";"))
	if len(digits) == 0 || len(digits) > 15 {
		return 0, errChunk
	}
	for _, c := range extension {
		if !isValue[c] {
			return 0, errChunk
		}
	}
	var n int64
	for _, c := range digits {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, errChunk
		}
		n = n<<4 | int64(c)
	}
	return n, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ready sees to it that the body goes on or has ended.
func (b *body) ready() error {
	if b.err == nil && !b.ended {
		b.err = b.chunk()
	}
	if b.err == nil && b.ended {
		return io.EOF
	}
	return b.err
}

// used takes note that n bytes of the body were taken.
func (b *body) used(n int) {
	if b.left >= 0 {
		b.left -= int64(n)
		b.ended = b.left == 0 && !b.chunked
	}
}

// failed takes note of how reading ended.
func (b *body) failed(err error) error {
	if b.left < 0 && errors.Is(err, io.EOF) {
		b.ended = true
		return io.EOF
	}
	b.err = unexpected(err)
	return b.err
}

// limit bounds n by what is left of the body or its chunk.
func (b *body) limit(n int) int {
	if b.left >= 0 && int64(n) > b.left {
		return int(b.left)
	}
	return n
}

// Read reads the body: what is buffered first, then straight from the connection.
func (b *body) Read(p []byte) (int, error) {
	if err := b.ready(); err != nil || len(p) == 0 {
		return 0, err
	}
	if buffered := b.in.buffered(); len(buffered) > 0 {
		n := copy(p[:b.limit(len(p))], buffered)
		b.in.r += n
		b.used(n)
		return n, nil
	}
	if b.chunked && len(p) < bufferSize {
		if err := b.in.fill(); err != nil {
			return 0, b.failed(err)
		}
		return b.Read(p)
	}
	n, err := b.in.src.Read(p[:b.limit(len(p))])
	b.used(n)
	if n > 0 {
		return n, nil
	}
	return 0, b.failed(err)
}

// here tells whether Next gives something without waiting.
func (b *body) here() bool {
	p := b.in.buffered()
	if b.ended || b.err != nil || !b.chunked || b.left > 0 {
		return b.ended || b.err != nil || len(p) > 0
	}
	if b.begun {
		p = p[min(2, len(p)):]
	}
	i := bytes.IndexByte(p, '\n')
	return i >= 0 && i+1 < len(p)
}

// Next gives the next piece of the body, good until the next call.
func (b *body) Next() ([]byte, error) {
	if err := b.ready(); err != nil {
		return nil, err
	}
	if len(b.in.buffered()) == 0 {
		if b.left > bufferSize {
			return b.nextLarge()
		}
		if err := b.in.fill(); err != nil {
			return nil, b.failed(err)
		}
	}
	p := b.in.buffered()
	p = p[:b.limit(len(p))]
	b.in.r += len(p)
	b.used(len(p))
	if b.ended {
		return p, io.EOF
	}
	return p, nil
}

func (b *body) nextLarge() ([]byte, error) {
	if b.large == nil {
		b.large = largePool.Get().(*[largeSize]byte)
	}
	n, err := b.in.src.Read(b.large[:b.limit(largeSize)])
	b.used(n)
	switch {
	case n == 0:
		return nil, b.failed(err)
	case b.ended:
		return b.large[:n], io.EOF
	}
	return b.large[:n], nil
}
