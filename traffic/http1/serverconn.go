package http1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/socket"
)

// What a connection is doing.
const (
	idle int32 = iota
	active
	closed
)

const (
	// lingerFor and lingerBytes bound what is read from a client that goes on sending after the last
	// answer: closing at once would take the answer back (RFC 9112, 9.6).
	lingerFor   = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// serverConn is a client's connection. One goroutine serves it.
type serverConn struct {
	s      *Server
	conn   net.Conn
	raw    syscall.RawConn // nil: none
	plain  bool            // raw carries what is read and written
	origin any
	client netip.Addr
	name   string
	scheme string
	tls    *message.TLS

	state    atomic.Int32
	in       buffer
	one      [1]byte
	readBy   time.Time // deadline of reads in force
	fixed    bool      // it is not moved by what comes
	writeBy  time.Time
	idleRead func(fd uintptr) bool
	idleN    int
	idleErr  error

	req    message.Request
	body   requestBody
	answer answer
}

func newServerConn(s *Server, a Accepted) *serverConn {
	c := &serverConn{s: s, conn: a.Conn, origin: a.Origin, scheme: "http", raw: socket.Raw(a.Conn), plain: a.TLS == nil, tls: a.TLS}
	if a.TLS != nil {
		c.scheme = "https"
	}
	if addr, ok := a.Conn.RemoteAddr().(*net.TCPAddr); ok {
		c.client = addr.AddrPort().Addr().Unmap()
		c.name = c.client.String()
	}
	c.in.src = reading{c}
	if len(a.First) > 0 {
		for len(c.in.room()) < len(a.First) {
			c.in.p = make([]byte, len(a.First)+512)
		}
		c.in.w = copy(c.in.p, a.First)
	}
	c.idleRead = c.tryRead
	c.answer.c = c
	c.body.c = c
	return c
}

// reading reads the connection within the time that is given to it to move.
type reading struct{ c *serverConn }

func (r reading) Read(p []byte) (int, error) {
	r.c.guardRead(time.Now())
	return r.c.conn.Read(p)
}

// Deadlines are moved only when half of their time is over, since that costs more than looking.

func (c *serverConn) guardRead(now time.Time) {
	if !c.fixed && c.readBy.Sub(now) < c.s.cfg.Idle/2 {
		c.setReadBy(now.Add(c.s.cfg.Idle))
	}
}

func (c *serverConn) guardWrite() {
	now := time.Now()
	if c.writeBy.Sub(now) < c.s.cfg.Idle/2 {
		c.writeBy = now.Add(c.s.cfg.Idle)
		_ = c.conn.SetWriteDeadline(c.writeBy)
	}
}

func (c *serverConn) setReadBy(t time.Time) {
	c.readBy = t
	_ = c.conn.SetReadDeadline(t) // a connection that can't is closed, which reading tells
}

// serve answers requests until the connection is over.
func (c *serverConn) serve() (other []byte) {
	defer func() {
		if p := recover(); p != nil {
			c.s.log.Error("request failed by a fault of Maru", "panic", p, "stack", string(debug.Stack()))
			c.conn.Close()
		}
	}()
	for c.await() {
		switch more, err := c.next(); {
		case errors.Is(err, errPreface) && c.scheme == "http":
			c.state.Store(closed)
			_ = c.conn.SetDeadline(time.Time{})
			return append([]byte(nil), c.in.buffered()...)
		case err != nil:
			c.refuse(err)
			return nil
		case !more:
			return nil
		}
		c.forget()
		c.state.Store(idle)
		if c.s.leaving.Load() && len(c.in.buffered()) == 0 {
			break
		}
	}
	c.conn.Close()
	return nil
}

// forget lets go of the last request, so that an idle connection holds no buffer, nor points into one.
func (c *serverConn) forget() {
	clear(c.req.Header)
	clear(c.body.trailer)
	c.req = message.Request{Header: c.req.Header[:0]}
	c.in.release()
}

// await waits for the first bytes of a request; false when there is none to come.
func (c *serverConn) await() bool {
	if len(c.in.buffered()) == 0 {
		c.guardRead(time.Now())
		var err error
		if c.plain && c.raw != nil {
			err = c.raw.Read(c.idleRead)
			c.in.w += c.idleN
			if err == nil {
				err = c.idleErr
			}
			c.idleN, c.idleErr = 0, nil
		} else {
			var n int
			if n, err = c.conn.Read(c.one[:]); n > 0 {
				c.in.w += copy(c.in.room(), c.one[:n])
				err = nil
			}
		}
		if err != nil {
			return false
		}
	}
	return c.state.CompareAndSwap(idle, active)
}

// tryRead takes a buffer only if there is something to read into it.
func (c *serverConn) tryRead(fd uintptr) bool {
	p := c.in.room()
	n, again, err := socket.Read(fd, p)
	if again {
		c.in.release()
		return false
	}
	c.idleN, c.idleErr = n, err
	return true
}

// closeIdle closes the connection unless a request is under way on it.
func (c *serverConn) closeIdle() {
	if c.raw != nil && c.plain && waiting(c.raw) {
		return
	}
	if c.state.CompareAndSwap(idle, closed) {
		c.conn.Close()
	}
}

// next answers one request. more tells whether another one may follow; if not, the connection is
// closed or somebody else's.
func (c *serverConn) next() (more bool, err error) {
	// RFC 9112, 2.2: an empty line before a request is passed over.
	if p := c.in.buffered(); len(p) >= 2 && p[0] == '\r' && p[1] == '\n' {
		c.in.r += 2
		if len(p) == 2 {
			c.in.release()
			c.state.Store(idle)
			if !c.await() {
				c.conn.Close()
				return false, nil
			}
		}
	}
	header, err := c.in.section(c.s.cfg.HeaderBytes, func() {
		if !c.fixed {
			c.fixed = true
			c.setReadBy(time.Now().Add(c.s.cfg.Header))
		}
	})
	if err != nil {
		return false, err
	}
	if c.fixed {
		c.fixed, c.readBy = false, time.Time{} // the next read has its own
	}
	f, err := parseRequest(header, &c.req)
	if err != nil {
		return false, err
	}
	c.in.r += len(header)
	c.in.floor = c.in.r
	c.begin(&f)
	served := c.s.cfg.Handler.Serve(&c.answer, &c.req)
	return c.finish(served), nil
}

// begin makes request and answer ready.
func (c *serverConn) begin(f *framing) {
	r := &c.req
	r.Scheme, r.TLS, r.Client, r.Name, r.Origin = c.scheme, c.tls, c.client, c.name, c.origin
	r.Body = nil
	c.body.reset(&c.in, r.Length, f.chunked)
	c.body.silent = r.Expects
	if r.Length != 0 {
		r.Body = &c.body
	}
	c.answer.begin(r, f)
}

// finish ends an exchange.
func (c *serverConn) finish(served error) (more bool) {
	a := &c.answer
	a.unwatch()
	c.body.release()
	if a.switched {
		return false
	}
	if served != nil || !a.ended {
		a.drop()
		c.abort()
		return false
	}
	if n, whole := c.body.whole(); whole && !c.body.cut.Load() {
		c.in.r += n
		c.body.ended = true
	}
	if !a.closes && c.body.ended && c.body.err == nil {
		return true
	}
	c.part()
	return false
}

// abort ends the connection so that the client can't take the answer for a whole one: where an orderly
// end would look like the end of the body, by a reset, past TLS.
func (c *serverConn) abort() {
	if tcp, ok := socket.Beneath(c.conn).(*net.TCPConn); ok && !c.answer.delimited() {
		_ = tcp.SetLinger(0)
		tcp.Close()
	}
	c.conn.Close()
}

// part ends the connection behind the last answer.
func (c *serverConn) part() {
	defer c.conn.Close()
	if c.body.ended && c.body.err == nil && len(c.in.buffered()) == 0 {
		return
	}
	c.linger()
}

// linger has the client read the last answer before it learns that the rest of what it sends is not
// wanted.
func (c *serverConn) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.conn.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
		_, _ = io.CopyN(io.Discard, c.conn, lingerBytes)
	}
}

// refuse answers what could not be read.
func (c *serverConn) refuse(err error) {
	defer c.conn.Close()
	var e *Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, errPreface):
		e = errVersion
	case errors.Is(err, os.ErrDeadlineExceeded):
		e = &Error{http.StatusRequestTimeout, "The request's header did not arrive in time."}
	default:
		return
	}
	h := newHead(nil)
	h.b = appendStatus(h.b, e.Status)
	h.start()
	text := e.What + "\n"
	h.field("Date", message.Date(time.Now()))
	h.field("Content-Type", "text/plain; charset=utf-8")
	h.field("Content-Length", strconv.Itoa(len(text)))
	h.field("Connection", "close")
	out, err := h.end()
	if err != nil {
		return
	}
	c.guardWrite()
	if _, err := c.conn.Write(append(out, text...)); err == nil {
		c.linger()
	}
}

// requestBody is a request's body.
type requestBody struct {
	body
	c      *serverConn
	silent bool // the client waits to be asked for it
	here   bool // all of it came with the header
	cut    atomic.Bool
	done   atomic.Bool // it was read to its end
}

func (b *requestBody) reset(in *buffer, length int64, chunked bool) {
	b.body.reset(in, length, chunked)
	b.cut.Store(false)
	b.done.Store(false)
	_, b.here = b.whole()
}

// Buffered is how much can be read without waiting.
func (b *requestBody) Buffered() (int, bool) {
	if b.silent {
		return 0, false
	}
	return b.whole()
}

// Read asks the client for the body first, where that waits to be asked.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.silent {
		b.silent = false
		if err := b.c.answer.proceed(); err != nil {
			return 0, err
		}
	}
	if b.cut.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := b.body.Read(p)
	if b.ended {
		b.done.Store(true)
	}
	return n, err
}

// unread tells, whoever reads meanwhile, whether more of the body is to come from the client.
func (b *requestBody) unread() bool { return !b.here && !b.done.Load() }

// Cut ends a Read that waits, and all later ones.
func (b *requestBody) Cut() {
	b.cut.Store(true)
	_ = b.c.conn.SetReadDeadline(time.Unix(1, 0))
}
