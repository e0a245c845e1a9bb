package http2

import (
	"encoding/binary"
	"errors"
	"net/http"

	"golang.org/x/net/http2/hpack"

	"github.com/marucloud/maru/traffic/message"
)

// block is a header or trailer that is read.
type block struct {
	stream uint32
	open   bool // more of it is to come
	ends   bool // the stream, with it
	itself bool // its stream would depend on itself
	over   bool // it is larger than is taken
	fields message.Header
	size   int // of the fields (RFC 9113, 6.5.2)
	coded  int // as they came
}

// usualFields are as many as most headers have.
const usualFields = 64

var (
	errTooLarge = &refusal{http.StatusRequestHeaderFieldsTooLarge, "The header is too large."}
	errExpect   = &refusal{http.StatusExpectationFailed, "Of expectations, only 100-continue is known here."}
)

// unpadded gives what a frame holds besides its padding.
func unpadded(f frame, p []byte) ([]byte, error) {
	if !f.has(flagPadded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, fails(FrameSizeError, "a frame without the length of its padding")
	}
	if n := int(p[0]); n < len(p) {
		return p[1 : len(p)-n], nil
	}
	return nil, fails(ProtocolError, "a frame of less than its padding")
}

func (c *conn) headers(f frame, p []byte) error {
	if f.stream%2 == 0 {
		return fails(ProtocolError, "a header of a stream that is not the client's")
	}
	p, err := unpadded(f, p)
	if err != nil {
		return err
	}
	h := block{stream: f.stream, ends: f.has(flagEndStream), fields: c.head.fields[:0]}
	if f.has(flagPriority) {
		if len(p) < 5 {
			return fails(FrameSizeError, "a header without its priority")
		}
		h.itself = binary.BigEndian.Uint32(p)&lastStream == f.stream
		p = p[5:]
	}
	if cap(h.fields) > usualFields {
		h.fields = nil // an idle connection keeps little
	}
	c.head = h
	c.decoder.SetEmitEnabled(true)
	return c.fragment(p, f.has(flagEndHeaders))
}

func (c *conn) continuation(f frame, p []byte) error {
	if !c.head.open {
		return fails(ProtocolError, "a header goes on that did not begin")
	}
	if len(p) == 0 && !f.has(flagEndHeaders) {
		if err := c.pay(costFrame); err != nil {
			return err
		}
	}
	return c.fragment(p, f.has(flagEndHeaders))
}

// fragment takes a part of a header. What is too large is read on with, as the decoder's table is for the next
// one too, up to where that is enough (CVE-2023-45288).
func (c *conn) fragment(p []byte, last bool) error {
	h := &c.head
	if h.coded += len(p); h.coded > 2*c.s.cfg.HeaderBytes {
		return fails(EnhanceYourCalm, "a header without an end")
	}
	if _, err := c.decoder.Write(p); err != nil {
		if errors.Is(err, hpack.ErrStringLength) {
			return fails(EnhanceYourCalm, "a field without an end")
		}
		return fails(CompressionError, err.Error())
	}
	if h.open = !last; h.open {
		return c.await()
	}
	if err := c.decoder.Close(); err != nil {
		return fails(CompressionError, err.Error())
	}
	c.busy = true
	err := c.whole()
	clear(h.fields)
	return err
}

// field takes a field from the decoder.
func (c *conn) field(f hpack.HeaderField) {
	h := &c.head
	if h.size += int(f.Size()); h.size > c.s.cfg.HeaderBytes || len(h.fields) >= mostFields {
		h.over = true
		c.decoder.SetEmitEnabled(false)
		return
	}
	h.fields = append(h.fields, message.Field{Name: f.Name, Value: f.Value})
}

// whole takes a header or trailer that is there.
func (c *conn) whole() error {
	h := &c.head
	if h.stream > c.newest {
		return c.request()
	}
	c.mu.Lock()
	s := c.streams.get(h.stream)
	var code Code
	if s != nil {
		code = c.trailers(s)
	}
	late := c.ended.has(h.stream)
	c.mu.Unlock()
	switch {
	case s != nil && code != NoError:
		return c.wrong(h.stream, code)
	case s != nil:
		return nil
	case late:
		return c.pay(costFrame)
	case c.opened.has(h.stream):
		return fails(StreamClosed, "a header of a stream that has ended")
	}
	return fails(ProtocolError, "a stream of a lower number than the one before")
}

// trailers takes what comes behind a body. The lock is held.
func (c *conn) trailers(s *stream) Code {
	h := &c.head
	switch {
	case s.body.ended:
		return StreamClosed
	case !h.ends:
		return ProtocolError
	case h.over:
		s.body.fail(errTrailer)
		return EnhanceYourCalm
	}
	for _, f := range h.fields {
		if !validName(f.Name) || !validValue(f.Value) || ofConnection(f.Name) {
			s.body.fail(errTrailer)
			return ProtocolError
		}
	}
	s.body.trailer = append(s.body.trailer[:0], h.fields...)
	return c.endBody(s)
}

// endBody takes note that a request's body has ended. The lock is held.
func (c *conn) endBody(s *stream) Code {
	if s.body.left > 0 {
		s.body.fail(errLength)
		return ProtocolError
	}
	s.body.ended = true
	s.wake.Broadcast()
	if s.answer.ended {
		s.over = true
		c.streams.remove(s)
	}
	return NoError
}

// request takes the header of a new request.
func (c *conn) request() error {
	h := &c.head
	c.mu.Lock()
	c.newest = h.stream
	c.opened.add(h.stream)
	late := c.goaway == departed
	full := len(c.streams)+c.orphans >= streams
	if late {
		c.ended.add(h.stream)
	}
	c.mu.Unlock()
	switch {
	case late:
		return c.pay(costFrame) // the client knows that it was not taken: RFC 9113, 6.8
	case h.itself:
		return c.wrong(h.stream, ProtocolError)
	case full:
		return c.wrong(h.stream, RefusedStream)
	case h.over:
		return c.refused(errTooLarge)
	}
	s := c.open(h.stream)
	if err := c.ask(s); err != nil {
		streamPool.Put(s)
		var r *refusal
		if errors.As(err, &r) {
			return c.refused(r)
		}
		return c.wrong(h.stream, ProtocolError)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.answer = answer{window: c.firstWindow}
	c.streams.add(s)
	c.running++
	c.fresh = append(c.fresh, s)
	return nil
}

// ask makes a stream's request of the header.
func (c *conn) ask(s *stream) error {
	h, a, r := &c.head, &c.asked, &s.req
	if err := a.parse(h.fields, r); err != nil {
		return err
	}
	if a.expect != "" && !message.Equal(a.expect, "100-continue") {
		return errExpect
	}
	if h.ends && a.length > 0 {
		return errMalformed
	}
	s.body.begin(s, a.length)
	s.body.ended = h.ends
	r.Length, r.Body = a.length, nil
	if h.ends {
		r.Length = 0
	}
	if r.Length != 0 {
		r.Body = &s.body
	}
	r.Expects = a.expect != "" && r.Length != 0
	s.body.silent = r.Expects
	if a.protocol == "websocket" {
		r.AskUpgrade()
	}
	return nil
}

// refused answers the request whose header was read.
func (c *conn) refused(r *refusal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse(c.head.stream, r, c.head.ends)
	c.owes = true
	if !c.calm.spend(costFrame) {
		return errCalm
	}
	return nil
}

// settle begins the requests that came, and has sent what answers frames, before more is waited for: what came
// together is known as a whole then, so that a small body is there with its request, and a request that was
// taken back costs nothing.
func (c *conn) settle() error {
	if len(c.fresh) == 0 && !c.owes {
		return nil
	}
	var dropped []*stream
	c.mu.Lock()
	unsent := len(c.out.b)
	if c.owes {
		c.handOver()
	}
	begun := c.fresh[:0]
	for _, s := range c.fresh {
		if s.over {
			dropped = append(dropped, s)
			continue
		}
		s.measure()
		begun = append(begun, s)
	}
	c.mu.Unlock()
	c.owes = false
	for _, s := range dropped {
		s.finish(nil)
	}
	for _, s := range begun {
		c.s.workers.run(s)
	}
	clear(c.fresh)
	c.fresh = c.fresh[:0]
	if unsent > mostUnsent {
		return errCalm
	}
	return nil
}

// measure finds out that there is no body, where nothing but the end of the stream says so.
func (s *stream) measure() {
	if b, r := &s.body, &s.req; r.Length < 0 && b.ended && b.have == 0 && len(b.trailer) == 0 {
		r.Length, r.Body, r.Expects = 0, nil, false
	}
}
