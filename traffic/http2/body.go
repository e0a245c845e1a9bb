package http2

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
)

const chunkSize = 8 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

var (
	errLength  = &http1.Error{Status: http.StatusBadRequest, What: "The request's body is not as long as it said."}
	errTrailer = &http1.Error{Status: http.StatusBadRequest, What: "The request's trailer is malformed."}
	errReset   = &http1.Error{Status: http.StatusBadRequest, What: "The client took the request back."}
)

// body is a request's body. The connection's lock has it.
type body struct {
	s *stream

	chunks []*[chunkSize]byte
	r, w   int // of the first chunk, and in the last one
	have   int // bytes

	left    int64 // of what the header said; -1: it did not say
	window  int   // the client may send
	owed    int   // was read, and is not the client's to send again yet
	ended   bool
	err     error // why no more comes
	silent  bool  // the client waits to be asked for it
	trailer message.Header
	since   time.Time // somebody waits; zero: nobody
}

// begin makes the body ready for a stream's request.
func (b *body) begin(s *stream, length int64) {
	*b = body{s: s, chunks: b.chunks[:0], left: length, window: streamWindow, trailer: b.trailer[:0]}
}

// put takes what came.
func (b *body) put(p []byte) {
	b.have += len(p)
	for len(p) > 0 {
		if len(b.chunks) == 0 || b.w == chunkSize {
			b.chunks = append(b.chunks, chunks.Get().(*[chunkSize]byte)) //nolint:forcetypeassert // its New gives nothing else
			b.w = 0
		}
		n := copy(b.chunks[len(b.chunks)-1][b.w:], p)
		b.w += n
		p = p[n:]
	}
}

// take gives what is there.
func (b *body) take(p []byte) (n int) {
	for len(p) > 0 && b.have > 0 {
		end := chunkSize
		if len(b.chunks) == 1 {
			end = b.w
		}
		k := copy(p, b.chunks[0][b.r:end])
		n, p, b.have, b.r = n+k, p[k:], b.have-k, b.r+k
		if b.r == end {
			b.drop()
		}
	}
	return n
}

// drop gives the first chunk back.
func (b *body) drop() {
	chunks.Put(b.chunks[0])
	left := copy(b.chunks, b.chunks[1:])
	b.chunks[left] = nil
	b.chunks = b.chunks[:left]
	b.r = 0
}

// fail ends the body for whoever reads it, and gives how much of it nobody will read.
func (b *body) fail(err error) (unread int) {
	if b.err == nil {
		b.err = err
	}
	unread = b.have
	b.have = 0
	for len(b.chunks) > 0 {
		b.drop()
	}
	b.s.wake.Broadcast()
	return unread
}

// Read reads what came, and waits for more where nothing is there.
func (b *body) Read(p []byte) (int, error) {
	c := b.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.silent {
		b.silent = false
		b.s.proceed()
	}
	for b.have == 0 && !b.ended && b.err == nil {
		if b.since.IsZero() {
			b.since = time.Now()
		}
		b.s.wake.Wait()
	}
	b.since = time.Time{}
	switch {
	case b.err != nil:
		return 0, b.err
	case b.have == 0:
		return 0, io.EOF
	}
	n := b.take(p)
	due := c.credit(n)
	if b.owed += n; b.owed >= streamWindow/4 && !b.ended {
		back := b.owed
		c.append(func(out []byte) []byte { return appendWindowUpdate(out, b.s.id, back) })
		b.window, b.owed, due = b.window+back, 0, true
	}
	if due {
		c.flush(false)
	}
	return n, nil
}

// Buffered is how much can be read without waiting. What is of unknown length, or more than a buffer's worth,
// is not said to be all: whoever asks wants to send it in one go.
func (b *body) Buffered() (int, bool) {
	b.s.c.mu.Lock()
	defer b.s.c.mu.Unlock()
	if b.silent || b.err != nil {
		return 0, false
	}
	return b.have, b.ended && (b.have == 0 || b.have <= chunkSize && b.s.req.Length >= 0)
}

// Cut ends a Read that waits, and all later ones.
func (b *body) Cut() {
	c := b.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.credit(b.fail(errCut)) {
		c.flush(false)
	}
}

// Trailer gives what came behind the body.
func (b *body) Trailer() message.Header { return b.trailer }
