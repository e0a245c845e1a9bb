package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/socket"
)

const (
	// brief is how long an instance is waited for before anything is set up that costs more than
	// waiting: see [Outgoing.Slow].
	brief = 200 * time.Millisecond
	// expectFor is how long an instance has to say that it wants the body.
	expectFor     = time.Second
	responseBytes = 1 << 20
)

// Outgoing is a request to an instance.
type Outgoing struct {
	Now     time.Time
	Method  string
	Target  string
	Host    string
	Header  message.Header
	Upgrade bool

	Length  int64     // of the body; -1: not known
	Body    io.Reader // nil: none
	Here    int       // bytes of the body that are all of it and can be read without waiting; 0: not so
	Expects bool      // the body is sent only when the instance asks for it, or after a second
	Trailer func() message.Header

	// Slow is called once when the instance is not done after a moment, so that until then nobody
	// needs to watch for what may end the exchange. Cut, which may be called until stop was, ends it.
	Slow func(cut func()) (stop func() bool)
	// Hurry has Slow called at once.
	Hurry bool
	// Interim is given 1xx answers.
	Interim func(status int, h message.Header) error
}

// Failed says that an exchange failed before an answer began.
type Failed struct {
	Unsent bool // the instance got nothing of the request
	Reused bool // on a connection that was used before, which the instance may just have closed
	err    error
}

func (f *Failed) Error() string { return f.err.Error() }

// Unwrap gives the cause.
func (f *Failed) Unwrap() error { return f.err }

var (
	errStale    = errors.New("the instance had closed the connection")
	errNoAnswer = errors.New("the instance ended the connection without an answer")
	errSwitch   = errors.New("the instance switched to another protocol unasked")
)

// Conn is a connection to an instance, for one exchange at a time.
type Conn struct {
	pool      *Pool
	port      uint16
	conn      net.Conn
	raw       syscall.RawConn
	idleSince time.Time
	used      bool
	one       byte // to look into

	in     buffer
	out    buffer
	send   []byte
	step   func(fd uintptr) bool
	sent   bool
	n      int
	err    error
	readBy time.Time

	req   *Outgoing
	slow  bool
	stop  func() bool
	pump  chan struct{} // closed when the body was sent; nil: nothing is sent aside
	last  *atomic.Bool  // its last write is under way, or done
	pumpE error

	res    message.Response
	body   body
	closes bool
}

// NewConn takes a connection to a port of the pool's instance.
func NewConn(pool *Pool, port uint16, conn net.Conn) *Conn {
	c := &Conn{pool: pool, port: port, conn: conn, raw: socket.Raw(conn)}
	c.in.src = waiter{c}
	c.step = c.sendAndRead
	return c
}

// RoundTrip sends a request and gives the answer's beginning, which is good until its body is closed.
// After an error, which is a [Failed], the connection is closed.
func (c *Conn) RoundTrip(r *Outgoing) (*message.Response, error) {
	c.req, c.slow, c.stop, c.pump, c.pumpE, c.closes = r, false, nil, nil, nil, false
	c.sent, c.err, c.n = false, nil, 0
	if r.Hurry {
		c.goSlow()
	}
	err := c.write()
	var res *message.Response
	if err == nil {
		res, err = c.answer()
	}
	if err != nil {
		failed := &Failed{Unsent: !c.sent, Reused: c.used, err: invalid(err)}
		c.fail()
		if c.pump != nil {
			select {
			case <-c.pump:
				var e *Error
				if errors.As(c.pumpE, &e) {
					failed.err = e // the client's fault
				}
			default:
			}
		}
		return nil, failed
	}
	c.used = true
	return res, nil
}

func (c *Conn) fail() {
	if c.stop != nil {
		c.stop()
	}
	c.conn.Close()
	c.out.release()
	c.send = nil
	c.body.release()
}

// write sends the request, as far as nothing needs to be waited for, and waits for the first bytes of
// the answer if all of it is sent.
func (c *Conn) write() error {
	r := c.req
	c.out.take()
	h := newHead(c.out.p[:0])
	h.start(r.Method, " ", r.Target, " HTTP/1.1")
	h.field("Host", r.Host)
	h.fields(r.Header)
	switch {
	case r.Body == nil && (r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH"):
		h.number("Content-Length", 0)
	case r.Body == nil:
	case r.Length < 0:
		h.field("Transfer-Encoding", "chunked")
	default:
		h.number("Content-Length", r.Length)
	}
	if r.Expects {
		h.field("Expect", "100-continue")
	}
	var err error
	if c.send, err = h.end(); err != nil {
		return err
	}
	if r.Body != nil && r.Here > 0 {
		at := len(c.send)
		c.send = append(c.send, make([]byte, r.Here)...)
		if _, err := io.ReadFull(r.Body, c.send[at:]); err != nil {
			return err
		}
	}
	if c.readBy.Sub(r.Now) < brief/2 && !c.slow {
		c.setReadBy(r.Now.Add(brief))
	}
	err = c.raw.Read(c.step)
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.slow {
		// Sent or not: on a busy machine the moment may be over before that.
		c.goSlow()
		err = c.raw.Read(c.step)
	}
	c.out.release()
	c.send = nil
	if err == nil {
		err = c.err
	}
	return err
}

// sendAndRead first sends the request, on a connection that is found to be open and quiet, then waits
// for the answer: what comes from here on is noticed, so that no read is tried for nothing.
func (c *Conn) sendAndRead(fd uintptr) bool {
	if !c.sent {
		if c.used && !quiet(fd, &c.one) {
			c.err = errStale
			return true
		}
		n, err := c.conn.Write(c.send)
		c.sent = n > 0
		if err != nil {
			c.err = err
			return true
		}
		if c.req.Body != nil && c.req.Here == 0 {
			return true // the body is sent first, or meanwhile
		}
		return false
	}
	n, again, err := socket.Read(fd, c.in.room())
	if again {
		return false
	}
	c.in.w += n
	c.err = err
	return true
}

// waiter reads the connection, and has what may end the exchange watched once that takes long.
type waiter struct{ c *Conn }

func (w waiter) Read(p []byte) (int, error) {
	n, err := w.c.conn.Read(p)
	if n == 0 && !w.c.slow && errors.Is(err, os.ErrDeadlineExceeded) {
		w.c.goSlow()
		return w.c.conn.Read(p)
	}
	return n, err
}

func (c *Conn) setReadBy(t time.Time) {
	c.readBy = t
	_ = c.conn.SetReadDeadline(t)
}

func (c *Conn) goSlow() {
	c.slow = true
	c.setReadBy(time.Time{})
	if c.req.Slow != nil {
		c.stop = c.req.Slow(c.cut)
	}
}

// cut ends what waits for the instance.
func (c *Conn) cut() { _ = c.conn.SetDeadline(time.Unix(1, 0)) }

// answer reads the answer's header, and sends the body meanwhile where there is one to send.
func (c *Conn) answer() (*message.Response, error) {
	sending := c.req.Body != nil && c.req.Here == 0
	if sending && !c.req.Expects {
		c.sendBody()
	}
	for {
		header, err := c.header(sending && c.pump == nil)
		if errors.Is(err, errAsk) {
			c.sendBody()
			continue
		}
		if err != nil {
			return nil, err
		}
		f, err := parseResponse(header, c.req.Method, &c.res)
		if err != nil {
			return nil, err
		}
		c.in.r += len(header)
		if c.res.Status >= 200 || c.res.Status == 101 {
			c.in.floor = c.in.r
			return c.begin(&f)
		}
		if c.res.Status == 100 {
			if sending && c.pump == nil {
				c.sendBody()
			}
			continue
		}
		if err := c.req.Interim(c.res.Status, c.res.Header); err != nil {
			return nil, err
		}
	}
}

// errAsk says that an instance did not say whether it wants the body.
var errAsk = errors.New("no word of the body")

// header reads the next header; while the instance is expected to ask for the body, for a time.
func (c *Conn) header(expecting bool) ([]byte, error) {
	if !expecting {
		return c.in.section(responseBytes, nil)
	}
	if !c.slow {
		c.goSlow()
	}
	c.setReadBy(time.Now().Add(expectFor))
	header, err := c.in.section(responseBytes, nil)
	c.setReadBy(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errAsk
	}
	return header, err
}

// invalid gives an error in the words for an instance's answer.
func invalid(err error) error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return errors.New("the instance's answer is not valid: " + e.What)
	case errors.Is(err, io.EOF):
		return errNoAnswer
	}
	return err
}

// begin makes the answer that began ready.
func (c *Conn) begin(f *framing) (*message.Response, error) {
	c.closes = f.close
	c.res.Body, c.res.Switched = nil, nil
	if c.res.Status == 101 {
		if !c.req.Upgrade {
			return nil, errSwitch
		}
		c.res.Switched = c.detach
		return &c.res, nil
	}
	if hasBody(c.req.Method, c.res.Status) {
		c.body.reset(&c.in, f.length, f.chunked)
	} else {
		c.body.reset(&c.in, 0, false)
	}
	c.res.Body = responseBody{c}
	return &c.res, nil
}

// detach gives the connection beneath after the instance switched to another protocol.
func (c *Conn) detach() net.Conn {
	if c.stop != nil {
		c.stop()
	}
	_ = c.conn.SetDeadline(time.Time{})
	return &Prefixed{c.conn, append([]byte(nil), c.in.buffered()...)}
}

// sendBody sends the body while the answer is waited for.
func (c *Conn) sendBody() {
	done, last := make(chan struct{}), new(atomic.Bool)
	c.pump, c.last = done, last
	// The request is the next attempt's while a failed one's goroutine may still be here.
	conn, body, length, trailer := c.conn, c.req.Body, c.req.Length, c.req.Trailer
	go func() {
		err := pump(conn, body, length, trailer, last)
		c.pumpE = err
		close(done) // before the endpoint learns of it: its answer to that is not why the request failed
		if err != nil {
			// Whoever waits for the answer to half a request is told.
			if half, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		}
	}()
}

// pump sends a body, and says before its last write that it is that: nothing is waited for behind it.
func pump(to io.Writer, body io.Reader, length int64, trailer func() message.Header, last *atomic.Bool) error {
	buf := largePool.Get().(*[largeSize]byte)
	defer largePool.Put(buf)
	const space = 16 // for a chunk's size before the data
	left := length
	for {
		n, err := body.Read(buf[space : len(buf)-2])
		if n > 0 {
			from, end := space, space+n
			if length < 0 {
				var size [space]byte
				head := appendChunkSize(size[:0], n)
				from -= copy(buf[space-len(head):], head)
				end += copy(buf[end:], "\r\n")
			} else if left -= int64(n); left < 0 {
				return errTooMuch
			}
			last.Store(left == 0)
			if _, err := to.Write(buf[from:end]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) && length < 0:
			var list message.Header
			if trailer != nil {
				list = trailer()
			}
			last.Store(true)
			_, err := to.Write(appendTrailer(nil, list))
			return err
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case left == 0:
			return nil
		case err != nil:
			return io.ErrUnexpectedEOF
		}
	}
}

// wasSent tells whether the body was sent whole. An instance may have all of it before this process knows that
// its last write is done.
func (c *Conn) wasSent() bool {
	if c.last.Load() {
		_ = c.conn.SetWriteDeadline(time.Now().Add(brief))
		<-c.pump
		_ = c.conn.SetWriteDeadline(time.Time{})
	}
	select {
	case <-c.pump:
		return c.pumpE == nil
	default:
		return false
	}
}

// responseBody is the body of the answer that the connection carries now.
type responseBody struct{ c *Conn }

// Next gives the next piece.
func (b responseBody) Next() ([]byte, error) { return b.c.body.Next() }

// Ready tells whether Next gives something without waiting.
func (b responseBody) Ready() bool { return b.c.body.here() }

// Trailer gives what came behind the body.
func (b responseBody) Trailer() message.Header { return b.c.body.trailer }

// Close ends the exchange, and keeps the connection for another one if it is in order.
func (b responseBody) Close() {
	c := b.c
	c.body.release()
	whole := c.body.ended && c.body.err == nil && !c.closes
	if c.stop != nil && !c.stop() {
		whole = false
	}
	if c.pump != nil {
		whole = c.wasSent() && whole
	}
	if !whole || len(c.in.buffered()) > 0 {
		c.conn.Close()
		return
	}
	clear(c.res.Header)
	clear(c.body.trailer)
	c.req = nil
	c.in.release()
	c.idleSince = time.Now()
	c.pool.put(c)
}
