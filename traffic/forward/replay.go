package forward

import (
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/marucloud/maru/traffic/message"
)

// replayBytes is how much of a body is kept to be sent again.
const replayBytes = 64 << 10

var errBodyLeft = errors.New("the request's body is not read any more")

// replay is a request body that can be sent more than once, as long as no more than replayBytes of
// it were read. The reader of one attempt may still be inside Read when the next one begins: what it
// gets is kept for the next, however much it is.
type replay struct {
	progress func() // called after each read that brought something; may be nil
	src      io.Reader
	turns    sync.Mutex // held by the one who reads src

	mu      sync.Mutex // of what follows; never held while src is read
	turn    int        // attempt that may read
	kept    []byte
	settled bool // no attempt will follow the present one
	lost    bool // more was read than was kept
	reading bool // src is being read
	read    int64
	err     error // of src, for good
	trailer message.Header
}

func newReplay(src io.Reader) *replay { return &replay{src: src} }

// rewind makes the next attempt possible; false when the body can't be sent again.
func (b *replay) rewind() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost || b.settled {
		return false
	}
	b.turn++
	return true
}

// settle says that no further attempt will be made, so that nothing needs to be kept.
func (b *replay) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
}

// count is how many bytes the client sent.
func (b *replay) count() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

// keepTrailer keeps what came behind the body for those who may ask for it when the exchange is over.
func (b *replay) keepTrailer(h message.Header) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range h {
		b.trailer.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
}

// behind gives what came behind the body, once it was read to its end.
func (b *replay) behind() message.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trailer
}

// close ends all reading. It tells whether somebody still waits for the client to send more.
func (b *replay) close() (hangs bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn++
	b.settled = true
	return b.reading
}

// join waits until nobody reads src any more. Call it after close.
func (b *replay) join() {
	b.turns.Lock()
	defer b.turns.Unlock()
}

// body gives the reader for the present attempt.
func (b *replay) body() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &attemptBody{b: b, turn: b.turn}
}

// attemptBody reads the body from its beginning.
type attemptBody struct {
	b      *replay
	turn   int
	off    int // in kept
	closed atomic.Bool
}

// Close leaves the client's body open: another attempt may want it.
func (a *attemptBody) Close() error {
	a.closed.Store(true)
	return nil
}

func (a *attemptBody) Read(p []byte) (int, error) {
	a.b.turns.Lock()
	defer a.b.turns.Unlock()
	if n, err, done := a.again(p); done {
		return n, err
	}
	n, err := a.b.src.Read(p)
	if t, ok := a.b.src.(interface{ Trailer() message.Header }); ok && errors.Is(err, io.EOF) {
		a.b.keepTrailer(t.Trailer())
	}
	a.fresh(p[:n], err)
	if a.b.progress != nil && n > 0 {
		a.b.progress()
	}
	return n, err
}

// again reads what was read before; done is false when src is to be read.
func (a *attemptBody) again(p []byte) (n int, err error, done bool) { //nolint:revive,staticcheck // as io.Reader, and whether it did
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case a.closed.Load() || a.turn != b.turn:
		return 0, errBodyLeft, true
	case a.off < len(b.kept):
		n = copy(p, b.kept[a.off:])
		a.off += n
		return n, nil, true
	case b.err != nil:
		return 0, b.err, true
	}
	b.reading = true
	return 0, nil, false
}

func (a *attemptBody) fresh(p []byte, err error) {
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	b.read += int64(len(p))
	b.err = err
	switch {
	case a.turn != b.turn:
		b.kept = append(b.kept, p...)
	case b.settled || b.lost || len(b.kept)+len(p) > replayBytes:
		b.lost = true
		b.kept, a.off = nil, 0
	default:
		b.kept = append(b.kept, p...)
		a.off = len(b.kept)
	}
}
