package http2

import (
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/marucloud/maru/traffic/message"
)

// How an answer's body ends.
const (
	without = iota // no body
	counted        // when its length is reached
	open           // when the handler says so
)

// least is what is worth a frame if more is to follow.
const least = 512

// answer is a stream's answer. The connection's lock has it.
type answer struct {
	window   int // that the client gives; it may be less than nothing (RFC 9113, 6.9.2)
	begun    bool
	ended    bool
	switched bool
	mode     int
	left     int64
	at       int       // place of the last frame in the connection's buffer
	turn     uint      // that the place is good for
	since    time.Time // somebody waits for a window; zero: nobody
}

// proceed asks the client for the body.
func (s *stream) proceed() {
	if s.answer.begun || s.over {
		return
	}
	s.c.block(s, 0, http.StatusContinue, nil, -1)
	s.c.flush(false)
}

// Interim passes a 1xx answer on.
func (s *stream) Interim(status int, h message.Header) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	switch {
	case s.over:
		return errGone
	case s.answer.begun || status == http.StatusSwitchingProtocols:
		return nil
	}
	s.c.block(s, 0, status, h, -1)
	s.c.flush(false)
	return nil
}

// Begin begins the answer.
func (s *stream) Begin(r *message.Response) error {
	c, a := s.c, &s.answer
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.over:
		return errGone
	case a.begun:
		return errBegun
	}
	a.begun, a.mode, a.left = true, open, 0
	length := int64(-1)
	switch {
	case s.req.Method == http.MethodHead, r.Status == http.StatusNotModified:
		a.mode, length = without, r.Length
	case r.Status == http.StatusNoContent:
		a.mode = without
	case r.Length >= 0:
		a.mode, a.left, length = counted, r.Length, r.Length
	}
	if c.goaway == staying && c.s.draining.Load() {
		c.sayGoodbye()
	}
	c.block(s, 0, r.Status, r.Header, length)
	c.calm.earn(earned)
	return nil
}

// Write sends a piece of the body, now or with the next one, and waits where the client has no window for it.
func (s *stream) Write(p []byte) error {
	c, a := s.c, &s.answer
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case a.mode == without:
		return nil
	case a.mode == counted:
		if a.left -= int64(len(p)); a.left < 0 {
			return errTooMuch
		}
	}
	for len(p) > 0 {
		if s.over || c.broken != nil {
			return errGone
		}
		n := min(len(p), a.window, c.given, frameSize)
		switch room := c.out.room(); {
		case n <= 0, n > room && room < least:
			s.await()
			continue
		default:
			n = min(n, room)
		}
		c.data(s, 0, p[:n])
		if n == len(p) || n >= least { // a window that is opened byte by byte earns nothing (CVE-2019-9511)
			c.calm.earn(earned)
		}
		p = p[n:]
	}
	a.since = time.Time{}
	return nil
}

// await has what there is sent, and waits for the client to make room for more.
func (s *stream) await() {
	c := s.c
	if len(c.out.b) > 0 && !c.out.flushing {
		c.flush(false)
		return
	}
	if s.answer.since.IsZero() {
		s.answer.since = time.Now()
	}
	c.out.blocked++
	s.wake.Wait()
	c.out.blocked--
}

// data adds a piece of a body.
func (c *conn) data(s *stream, flags byte, p []byte) {
	c.out.hold()
	s.answer.at, s.answer.turn = len(c.out.b), c.out.turn
	c.out.b = append(appendHead(c.out.b, frame{length: len(p), kind: frameData, flags: flags, stream: s.id}), p...)
	s.answer.window -= len(p)
	s.answer.since = time.Time{}
	c.given -= len(p)
}

// Flush sends what was written.
func (s *stream) Flush() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.flush(true)
	if s.over || s.c.broken != nil {
		return errGone
	}
	return nil
}

// End ends the answer, which is sent when the handler is done. A client that has more to send is told that
// nobody wants it (RFC 9113, 8.1).
func (s *stream) End(trailer message.Header) error {
	c, a := s.c, &s.answer
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.over:
		return errGone
	case a.mode == counted && a.left > 0:
		return errShort
	}
	c.endStream(s, trailer)
	return nil
}

// endStream ends the sending half of a stream: with its last frame where that is not sent yet.
func (c *conn) endStream(s *stream, trailer message.Header) {
	a := &s.answer
	a.ended = true
	switch {
	case c.trailer(s, trailer):
	case a.turn == c.out.turn && len(c.out.b) > 0:
		c.out.b[a.at+4] |= flagEndStream
	default:
		c.data(s, flagEndStream, nil)
	}
	if s.body.ended {
		s.over = true
		c.streams.remove(s)
	} else if !a.switched {
		c.reset(s, NoError)
	}
}

// trailer sends one, if there is something that may stand in one.
func (c *conn) trailer(s *stream, trailer message.Header) bool {
	kept := trailer[:0:0]
	for _, f := range trailer {
		if httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(f.Name)) && !message.HopByHop(f.Name) {
			kept = append(kept, f)
		}
	}
	if len(kept) == 0 {
		return false
	}
	c.block(s, flagEndStream, 0, kept, -1)
	return true
}

// block sends a header; a status of 0 stands for a trailer, and a length of -1 for none.
func (c *conn) block(s *stream, flags byte, status int, h message.Header, length int64) {
	s.answer.at, s.answer.turn = c.header(s.id, flags, status, h, length), c.out.turn
}

// header is block for a stream that may be none of the connection's, and gives its frame's place.
func (c *conn) header(id uint32, flags byte, status int, h message.Header, length int64) (at int) {
	c.out.hold()
	e := &c.encoder
	at = len(c.out.b)
	b := appendHead(c.out.b, frame{kind: frameHeaders, flags: flags | flagEndHeaders, stream: id})
	b = e.begin(b)
	if status != 0 {
		b = e.status(b, status)
	}
	dated := status < 200
	for i := range h {
		if ofConnection(h[i].Name) {
			continue
		}
		dated = dated || message.Equal(h[i].Name, "Date")
		b = e.field(b, h[i].Name, h[i].Value)
	}
	if !dated {
		b = e.field(b, "date", message.Date(time.Now()))
	}
	if length >= 0 {
		b = e.length(b, length)
	}
	n := len(b) - at - headSize
	if n > frameSize {
		c.out.b = continued(b[:at], b[at:])
		return at
	}
	b[at], b[at+1], b[at+2] = byte(n>>16), byte(n>>8), byte(n)
	c.out.b = b
	return at
}

// continued adds a block that is too large for a frame as several (RFC 9113, 6.10).
func continued(b, whole []byte) []byte {
	f := parseHead(whole)
	rest := append([]byte(nil), whole[headSize:]...)
	f.flags &^= flagEndHeaders
	for {
		f.length = min(len(rest), frameSize)
		if f.length == len(rest) {
			f.flags |= flagEndHeaders
		}
		b = append(appendHead(b, f), rest[:f.length]...)
		if rest = rest[f.length:]; len(rest) == 0 {
			return b
		}
		f.kind, f.flags = frameContinuation, 0
	}
}

// refuse answers a request that no handler gets. The lock is held.
func (c *conn) refuse(id uint32, r *refusal, ends bool) {
	body := r.what + "\n"
	h := message.Header{{Name: "Content-Type", Value: "text/plain; charset=utf-8"}}
	if c.given >= len(body) && c.firstWindow >= len(body) {
		c.header(id, 0, r.status, h, int64(len(body)))
		c.data(&stream{id: id}, flagEndStream, []byte(body))
	} else {
		c.header(id, flagEndStream, r.status, nil, -1)
	}
	if !ends {
		c.append(func(b []byte) []byte { return appendReset(b, id, NoError) })
		c.ended.add(id)
	}
}

// Switch agrees to speak another protocol on the stream, where the client asked for that: any other one is
// none of HTTP/2's (RFC 9113, 8.6).
func (s *stream) Switch(list message.Header) (net.Conn, io.Reader, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.req.Upgrade == "":
		return nil, nil, http.ErrNotSupported
	case s.over:
		return nil, nil, errGone
	}
	h := make(message.Header, 0, len(list))
	for _, f := range list {
		if !message.HopByHop(f.Name) && !message.Equal(f.Name, "Sec-Websocket-Accept") {
			h.Add(f.Name, f.Value)
		}
	}
	s.answer.begun, s.answer.switched, s.answer.mode = true, true, open
	c.block(s, 0, http.StatusOK, h, -1)
	c.flush(false)
	conn := &tunnel{s: s}
	return conn, conn, nil
}
