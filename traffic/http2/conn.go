package http2

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/socket"
)

// How far a connection is with its end (RFC 9113, 6.8).
const (
	staying  = iota
	parting  // the client was told; what it sent before it knew is taken
	departed // nothing new is taken
)

const (
	// lingerFor and lingerBytes bound what is read from a client that goes on sending after the end: closing
	// at once might take back what tells it why.
	lingerFor   = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// conn is a client's connection. One goroutine reads it, and has what stands before the lock for itself.
type conn struct {
	s      *Server
	conn   net.Conn
	raw    syscall.RawConn // of a connection in the clear; nil: none
	first  []byte          // that was read before
	scheme string
	tls    *message.TLS
	origin any
	client netip.Addr
	name   string

	in      input
	decoder *hpack.Decoder
	head    block
	asked   asked
	fresh   []*stream // whose requests are not begun yet
	heard   bool      // something came since the last tick
	busy    bool      // a request did
	owes    bool      // there is something to send that nobody has sent yet
	headBy  time.Time // a header that has begun has to be there; zero: none has
	clock   clock

	mu      sync.Mutex // of what follows, and of streams
	changed sync.Cond
	out     output
	encoder encoder
	calm    calm
	streams streamList // that are not over
	running int        // requests
	orphans int        // of them those whose stream was reset
	newest  uint32     // stream of the client
	opened  recent     // streams
	ended   recent     // streams that this side ended first

	window      int // the client may send
	owed        int // was read, and is not the client's to send again yet
	given       int // the client takes
	firstWindow int // it takes of a stream

	goaway  int
	served  uint32    // the last stream that is, once departed
	leaveBy time.Time // the client has to have heard of it
	pinged  time.Time // when the client has to have answered; zero: nothing is asked
	leaving bool      // nothing but the end is sent
	broken  error
}

// clock is how long nothing happened.
type clock struct {
	last         time.Time
	idle, silent time.Duration
}

func newConn(s *Server, a Accepted) *conn {
	c := &conn{
		s: s, conn: a.Conn, first: a.First, scheme: "http", tls: a.TLS, origin: a.Origin,
		calm: newCalm(time.Now()), encoder: newEncoder(),
		window: connWindow, given: firstWindow, firstWindow: firstWindow,
	}
	if a.TLS != nil {
		c.scheme = "https"
	} else {
		c.raw = socket.Raw(a.Conn)
	}
	if addr, ok := a.Conn.RemoteAddr().(*net.TCPAddr); ok {
		c.client = addr.AddrPort().Addr().Unmap()
		c.name = c.client.String()
	}
	c.changed.L = &c.mu
	c.in.try = c.tryRead
	c.decoder = hpack.NewDecoder(tableSize, c.field)
	c.decoder.SetMaxStringLength(s.cfg.HeaderBytes)
	c.append(func(b []byte) []byte {
		b = appendSettings(b, [2]uint32{settingStreams, streams}, [2]uint32{settingWindow, streamWindow},
			[2]uint32{settingHeaderListSize, uint32(s.cfg.HeaderBytes)}, [2]uint32{settingExtendedConnect, 1}) //nolint:gosec // a limit
		return appendWindowUpdate(b, 0, connWindow-firstWindow)
	})
	return c
}

// serve reads until the connection is over.
func (c *conn) serve() {
	c.mu.Lock()
	c.flush(false)
	c.mu.Unlock()
	c.leave(c.read())
}

func (c *conn) read() (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.s.log.Error("connection failed by a fault of Maru", "panic", p, "stack", string(debug.Stack()))
			err = fails(InternalError, "a fault of Maru")
		}
	}()
	if err := c.tick(); err != nil {
		return err
	}
	if err := c.preface(); err != nil {
		return err
	}
	for {
		if err := c.frame(); err != nil {
			return err
		}
	}
}

// leave ends the connection, and waits for what runs.
func (c *conn) leave(err error) {
	var f *failure
	failed := errors.As(err, &f)
	orderly := failed || errors.Is(err, errDone)
	if failed {
		c.s.log.Debug("connection ended for what its client did", "client", c.name, "error", err)
	}
	c.mu.Lock()
	for len(c.streams) > 0 {
		s := c.streams[0]
		c.abandon(s, !s.answer.ended)
	}
	c.leaving = true
	if orderly {
		_ = c.conn.SetWriteDeadline(time.Now().Add(farewell))
		for c.out.flushing {
			c.changed.Wait()
		}
		if failed {
			c.append(func(b []byte) []byte { return appendGoAway(b, c.newest, f.code) })
		}
		c.flush(false)
		orderly = c.broken == nil
	}
	if c.broken == nil {
		c.broken = errGone
	}
	c.mu.Unlock()
	for _, s := range c.fresh {
		s.finish(errGone)
	}
	c.fresh = nil
	if orderly {
		c.linger()
	}
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.running > 0 || c.out.flushing {
		c.changed.Wait()
	}
	c.in.release()
}

func (c *conn) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.conn.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
		_, _ = io.CopyN(io.Discard, c.conn, lingerBytes)
	}
}

// rouse has the one who reads look around.
func (c *conn) rouse() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) }

// goodbye is what the client's answer to it shows: that it knows that it should go elsewhere.
var goodbye = [8]byte{'g', 'o', 'o', 'd', 'b', 'y', 'e', '!'}

// sayGoodbye asks the client to send no further requests here. The lock is held.
func (c *conn) sayGoodbye() {
	c.append(func(b []byte) []byte { return appendPing(appendGoAway(b, lastStream, NoError), 0, goodbye[:]) })
	c.goaway, c.leaveBy = parting, time.Now().Add(farewell)
	c.rouse()
}

// depart asks the client to go elsewhere, and ends the connection when nothing runs.
func (c *conn) depart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goaway != staying || c.leaving {
		return
	}
	c.sayGoodbye()
	c.handOver()
}

// handOver has a worker send what there is.
func (c *conn) handOver() {
	if !c.out.flushing && c.broken == nil {
		c.out.flushing = true
		c.s.workers.run(c)
	}
}

// part says which request was the last. The lock is held.
func (c *conn) part() error {
	if c.goaway != departed {
		c.goaway, c.served = departed, c.newest
		c.append(func(b []byte) []byte { return appendGoAway(b, c.served, NoError) })
	}
	if c.running == 0 {
		return errDone
	}
	c.handOver()
	return nil
}

// tick sees what time has done to the connection, and sets when to look again: the deadline of reads is its
// clock.
func (c *conn) tick() error {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	passed := now.Sub(c.clock.last)
	if c.clock.last.IsZero() {
		passed = 0
	}
	c.clock.last = now
	if c.clock.idle += passed; c.busy || c.running > 0 {
		c.clock.idle = 0
	}
	if c.clock.silent += passed; c.heard {
		c.clock.silent, c.pinged = 0, time.Time{}
	}
	c.busy, c.heard = false, false
	switch {
	case !c.headBy.IsZero() && !now.Before(c.headBy):
		return fails(EnhanceYourCalm, "a header did not arrive in time")
	case c.goaway == departed && c.running == 0, c.goaway == parting && !now.Before(c.leaveBy), c.clock.idle >= c.s.cfg.Idle:
		if err := c.part(); err != nil {
			return err
		}
	case !c.pinged.IsZero() && !now.Before(c.pinged):
		return errStalled
	case c.clock.silent >= pingAfter && c.pinged.IsZero():
		c.append(func(b []byte) []byte { return appendPing(b, 0, make([]byte, 8)) })
		c.pinged = now.Add(pingFor)
		c.handOver()
	}
	for _, s := range slices.Clone(c.streams) {
		if s.stalled(now.Add(-c.s.cfg.Idle)) {
			c.reset(s, Cancel)
			c.handOver()
		}
	}
	return c.conn.SetReadDeadline(c.next(now))
}

// next is when to look again.
func (c *conn) next(now time.Time) time.Time {
	next := now.Add(min(pingAfter, c.s.cfg.Idle/2))
	for _, t := range []time.Time{c.headBy, c.pinged, c.leaveBy} {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	return next
}
