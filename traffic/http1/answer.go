package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/marucloud/maru/traffic/message"
)

// How an answer's body ends.
const (
	without   = iota // no body
	counted          // by its length
	chunked          // by its last chunk
	untilOver        // by the end of the connection
)

const (
	// lookAfter is how often it is seen whether a client that is watched is still there.
	lookAfter = 100 * time.Millisecond
	// vectored is from where on a piece is sent from where it lies instead of being copied.
	vectored = 4 << 10
)

var (
	errGone    = errors.New("the client went away")
	errTooMuch = errors.New("the answer is longer than it said")
	errShort   = errors.New("the answer is shorter than it said")
	errAnswer  = errors.New("the answer has begun already")
)

// answer answers one request after the other on a connection.
type answer struct {
	c       *serverConn
	expects bool // the client waits to be asked for its body
	minor   int
	method  string
	keep    bool // the client wants to go on

	mu    sync.Mutex // of what follows, where the client expects to be asked
	begun bool
	asked bool

	mode     int
	left     int64
	ended    bool
	closes   bool
	switched bool

	buf buffer // what is not sent yet
	out []byte
	vec [2][]byte
	net net.Buffers

	ctx    context.Context //nolint:containedctx // of one request, and its end
	cancel context.CancelFunc
	watch  *time.Timer
}

func (a *answer) begin(r *message.Request, f *framing) {
	a.expects, a.minor, a.method = r.Expects, r.Minor, r.Method
	a.keep = !f.close && (r.Minor > 0 || f.keepAlive)
	a.begun, a.asked, a.ended, a.closes, a.switched = false, false, false, false, false
	a.mode, a.left = without, 0
	a.out = nil
}

// Context is ended by [answer.look], which asks from time to time whether the client is still there.
func (a *answer) Context() context.Context {
	if a.ctx == nil {
		a.ctx, a.cancel = context.WithCancel(context.Background())
		if a.c.raw != nil {
			ctx, cancel := a.ctx, a.cancel
			var timer *time.Timer
			ready := make(chan struct{})
			timer = time.AfterFunc(lookAfter, func() {
				<-ready
				switch {
				case ctx.Err() != nil:
				case gone(a.c.raw):
					cancel()
				default:
					timer.Reset(lookAfter)
				}
			})
			close(ready)
			a.watch = timer
		}
	}
	return a.ctx
}

func (a *answer) unwatch() {
	if a.ctx == nil {
		return
	}
	a.cancel()
	if a.watch != nil {
		a.watch.Stop()
	}
	a.ctx, a.cancel, a.watch = nil, nil, nil
}

// proceed asks the client for its body.
func (a *answer) proceed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.begun {
		return errAnswer
	}
	a.asked = true
	a.c.guardWrite()
	_, err := a.c.conn.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	return err
}

// Interim passes a 1xx answer on to a client that knows of them.
func (a *answer) Interim(status int, list message.Header) error {
	if a.minor == 0 || a.begun {
		return nil
	}
	h := newHead(nil)
	h.b = appendStatus(h.b, status)
	h.start()
	h.fields(list)
	out, err := h.end()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.c.guardWrite()
	_, err = a.c.conn.Write(out)
	return err
}

// Begin begins the answer.
func (a *answer) Begin(r *message.Response) error {
	if a.expects {
		a.mu.Lock()
		defer a.mu.Unlock()
	}
	if a.begun {
		return errAnswer
	}
	a.begun = true
	a.frame(r)
	a.buf.take()
	h := newHead(a.buf.p[:0])
	h.b = appendStatus(h.b, r.Status)
	h.start()
	h.fields(r.Header)
	if !r.Header.Has("Date") {
		h.field("Date", message.Date(time.Now()))
	}
	switch {
	case a.mode == chunked:
		h.field("Transfer-Encoding", "chunked")
	case r.Length >= 0 && r.Status != http.StatusNoContent && r.Status >= 200:
		h.number("Content-Length", r.Length)
	}
	switch {
	case a.closes:
		h.field("Connection", "close")
	case a.minor == 0:
		h.field("Connection", "keep-alive")
	}
	var err error
	a.out, err = h.end()
	return err
}

// frame decides how the body is delimited (RFC 9112, 6.3), and whether the connection goes on.
func (a *answer) frame(r *message.Response) {
	a.left = 0
	switch {
	case !hasBody(a.method, r.Status):
		a.mode = without
	case r.Length >= 0:
		a.mode, a.left = counted, r.Length
	case a.minor > 0:
		a.mode = chunked
	default:
		a.mode = untilOver
	}
	// A body that may still come while the answer is streamed is waited for; any other one is not wanted.
	unwanted := a.c.body.unread() && (a.mode != chunked || a.expects && !a.asked)
	a.closes = !a.keep || a.c.s.draining.Load() || a.mode == untilOver || unwanted
}

// delimited tells whether a client sees that the answer is not whole when the connection just ends.
func (a *answer) delimited() bool { return !a.begun || a.mode != untilOver }

// Write sends a piece of the body, now or with the next one.
func (a *answer) Write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	switch a.mode {
	case without:
		return nil
	case counted:
		if a.left -= int64(len(p)); a.left < 0 {
			return errTooMuch
		}
	case chunked:
		if len(a.out) > bufferSize-32 {
			if err := a.Flush(); err != nil {
				return err
			}
		}
		a.hold()
		a.out = appendChunkSize(a.out, len(p))
	}
	if err := a.piece(p); err != nil {
		return err
	}
	if a.mode == chunked {
		a.out = append(a.out, '\r', '\n')
	}
	return nil
}

// piece copies a small piece and sends a large one from where it is.
func (a *answer) piece(p []byte) error {
	a.hold()
	if len(a.out)+len(p) <= bufferSize-2 {
		a.out = append(a.out, p...)
		return nil
	}
	if len(p) < vectored {
		if err := a.Flush(); err != nil {
			return err
		}
		a.hold()
		a.out = append(a.out, p...)
		return nil
	}
	a.c.guardWrite()
	if len(a.out) == 0 {
		_, err := a.c.conn.Write(p)
		return err
	}
	a.vec = [2][]byte{a.out, p}
	a.net = a.vec[:]
	_, err := a.net.WriteTo(a.c.conn)
	a.vec, a.net, a.out = [2][]byte{}, nil, a.out[:0]
	return err
}

// hold has memory to write to.
func (a *answer) hold() {
	if a.buf.p == nil {
		a.buf.take()
		a.out = a.buf.p[:0]
	}
}

// Flush sends what was written, and gives the memory up: an answer that says nothing for a while
// needs none.
func (a *answer) Flush() error {
	if len(a.out) == 0 {
		return nil
	}
	a.c.guardWrite()
	_, err := a.c.conn.Write(a.out)
	a.drop()
	return err
}

func (a *answer) drop() {
	a.out = nil
	a.buf.release()
}

// End ends the answer.
func (a *answer) End(trailer message.Header) error {
	switch {
	case a.mode == counted && a.left > 0:
		return errShort
	case a.mode == chunked:
		a.hold()
		a.out = appendTrailer(a.out, trailer)
	}
	a.ended = true
	return a.Flush()
}

// Switch hands the connection over.
func (a *answer) Switch(list message.Header) (net.Conn, io.Reader, error) {
	h := newHead(nil)
	h.b = appendStatus(h.b, http.StatusSwitchingProtocols)
	h.start()
	h.fields(list)
	out, err := h.end()
	if err != nil {
		return nil, nil, err
	}
	a.unwatch()
	a.begun, a.switched = true, true
	a.c.state.Store(closed)
	if err := a.c.conn.SetDeadline(time.Time{}); err != nil {
		a.c.conn.Close()
		return nil, nil, errGone
	}
	if _, err := a.c.conn.Write(out); err != nil {
		a.c.conn.Close()
		return nil, nil, errGone
	}
	rest := &Prefixed{a.c.conn, append([]byte(nil), a.c.in.buffered()...)}
	a.c.in.r = a.c.in.w
	return a.c.conn, rest, nil
}
