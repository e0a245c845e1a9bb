package http2

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// preface reads what a client begins with (RFC 9113, 3.4).
func (c *conn) preface() error {
	if err := c.await(); err != nil {
		return err
	}
	for n := 1; n <= len(preface); n++ {
		if err := c.need(n); err != nil {
			return err
		}
		n = min(c.in.w-c.in.r, len(preface))
		if string(c.in.p[c.in.r:c.in.r+n]) != preface[:n] {
			return fails(ProtocolError, "the client does not begin as one of HTTP/2")
		}
	}
	c.in.next(len(preface))
	if err := c.need(headSize); err != nil {
		return err
	}
	if f := parseHead(c.in.p[c.in.r:]); f.kind != frameSettings || f.has(flagAck) {
		return fails(ProtocolError, "the client does not begin with settings")
	}
	return nil
}

// frame reads a frame.
func (c *conn) frame() error {
	if c.in.r == c.in.w {
		c.in.release()
	}
	if err := c.need(headSize); err != nil {
		return err
	}
	f := parseHead(c.in.next(headSize))
	switch {
	case f.length > frameSize:
		return fails(FrameSizeError, fmt.Sprintf("a frame of %d bytes", f.length))
	case c.head.open && (f.kind != frameContinuation || f.stream != c.head.stream):
		return fails(ProtocolError, "a header is interrupted")
	case f.kind == frameData:
		return c.body(f)
	}
	if c.in.w-c.in.r < f.length {
		if err := c.await(); err != nil {
			return err
		}
		if err := c.need(f.length); err != nil {
			return midway(err)
		}
	}
	err := c.control(f, c.in.next(f.length))
	if err == nil && !c.headBy.IsZero() && !c.head.open {
		c.headBy = time.Time{}
	}
	return err
}

func midway(err error) error {
	if err == io.EOF { //nolint:errorlint // as io.Reader gives it
		return io.ErrUnexpectedEOF
	}
	return err
}

// control takes a frame that is whole.
func (c *conn) control(f frame, p []byte) error {
	switch f.kind {
	case frameHeaders:
		return c.headers(f, p)
	case frameContinuation:
		return c.continuation(f, p)
	case framePriority:
		return c.priority(f, p)
	case frameReset:
		return c.resets(f, p)
	case frameSettings:
		return c.settings(f, p)
	case framePing:
		return c.ping(f, p)
	case frameGoAway:
		return c.goesAway(f, p)
	case frameWindowUpdate:
		return c.windowUpdate(f, p)
	case framePushPromise:
		return fails(ProtocolError, "clients push nothing")
	}
	return c.pay(costFrame) // RFC 9113, 5.5
}

// pay takes points for what brings nobody anything.
func (c *conn) pay(cost int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.calm.spend(cost) {
		return errCalm
	}
	return nil
}

// wrong ends a stream for what its client did, in answer to which work was done already.
func (c *conn) wrong(id uint32, code Code) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s := c.streams.get(id); {
	case s != nil:
		c.reset(s, code)
	case c.isIdle(id):
		return fails(code, "a frame of a stream that was not begun")
	default:
		c.append(func(b []byte) []byte { return appendReset(b, id, code) })
		c.ended.add(id)
	}
	c.owes = true
	if !c.calm.spend(costReset) {
		return errCalm
	}
	return nil
}

// isIdle tells whether a stream was not begun, where its client can't have anything to say of it.
func (c *conn) isIdle(id uint32) bool { return id > c.newest || id%2 == 0 }

func (c *conn) priority(f frame, p []byte) error {
	switch {
	case f.stream == 0:
		return fails(ProtocolError, "a priority without a stream")
	case len(p) != 5:
		return c.wrong(f.stream, FrameSizeError)
	case binary.BigEndian.Uint32(p)&lastStream == f.stream:
		return c.wrong(f.stream, ProtocolError)
	}
	return c.pay(costFrame)
}

func (c *conn) resets(f frame, p []byte) error {
	switch {
	case f.stream == 0 || c.isIdle(f.stream):
		return fails(ProtocolError, "a stream is reset that was not begun")
	case len(p) != 4:
		return fails(FrameSizeError, "a reset of another size")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cost := costFrame
	if s := c.streams.get(f.stream); s != nil {
		cost = costReset
		c.abandon(s, !s.answer.ended)
	}
	if !c.calm.spend(cost) {
		return errCalm
	}
	return nil
}

func (c *conn) ping(f frame, p []byte) error {
	switch {
	case f.stream != 0:
		return fails(ProtocolError, "a ping of a stream")
	case len(p) != 8:
		return fails(FrameSizeError, "a ping of another size")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !f.has(flagAck):
		c.append(func(b []byte) []byte { return appendPing(b, flagAck, p) })
		c.owes = true
	case c.goaway == parting && [8]byte(p) == goodbye:
		c.leaveBy = time.Now().Add(grace)
		c.rouse()
	}
	if !c.calm.spend(costFrame) {
		return errCalm
	}
	return nil
}

// goesAway has a client be done: what it asked is answered.
func (c *conn) goesAway(f frame, p []byte) error {
	switch {
	case f.stream != 0:
		return fails(ProtocolError, "an end of a stream by the connection's")
	case len(p) < 8:
		return fails(FrameSizeError, "an end of another size")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.part()
}

func (c *conn) windowUpdate(f frame, p []byte) error {
	if len(p) != 4 {
		return fails(FrameSizeError, "a window's update of another size")
	}
	if f.stream != 0 && c.isIdle(f.stream) {
		return fails(ProtocolError, "a window of a stream that was not begun")
	}
	n := int(binary.BigEndian.Uint32(p) & lastStream)
	switch {
	case n == 0 && f.stream == 0:
		return fails(ProtocolError, "a window is opened by nothing")
	case n == 0:
		return c.wrong(f.stream, ProtocolError)
	}
	if f.stream == 0 {
		return c.openWindow(n)
	}
	c.mu.Lock()
	s := c.streams.get(f.stream)
	over := s != nil && s.answer.window+n > mostWindow
	calm := c.calm.spend(costFrame)
	if s != nil && !over {
		s.answer.window += n
		s.wake.Broadcast()
	}
	c.mu.Unlock()
	switch {
	case over:
		return c.wrong(f.stream, FlowControlError)
	case !calm:
		return errCalm
	}
	return nil
}

// openWindow opens the connection's window.
func (c *conn) openWindow(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given+n > mostWindow {
		return fails(FlowControlError, "a window of more than 2³¹-1")
	}
	c.given += n
	c.wakeBlocked()
	if !c.calm.spend(costFrame) {
		return errCalm
	}
	return nil
}

func (c *conn) settings(f frame, p []byte) error {
	switch {
	case f.stream != 0:
		return fails(ProtocolError, "settings of a stream")
	case f.has(flagAck) && len(p) > 0, len(p)%6 != 0:
		return fails(FrameSizeError, "settings of another size")
	case f.has(flagAck):
		return c.pay(costFrame)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cost := costFrame
	for ; len(p) > 0; p = p[6:] {
		if err := c.setting(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
		cost++
	}
	c.append(func(b []byte) []byte { return appendHead(b, frame{kind: frameSettings, flags: flagAck}) })
	c.owes = true
	c.wakeBlocked()
	if !c.calm.spend(cost) {
		return errCalm
	}
	return nil
}

func (c *conn) setting(id uint16, v uint32) error {
	switch id {
	case settingTableSize:
		c.encoder.setLimit(v)
	case settingPush:
		if v > 1 {
			return fails(ProtocolError, "a setting that is neither yes nor no")
		}
	case settingWindow:
		if v > mostWindow {
			return fails(FlowControlError, "a window of more than 2³¹-1")
		}
		more := int(v) - c.firstWindow
		c.firstWindow = int(v)
		for _, s := range c.streams {
			if s.answer.window += more; s.answer.window > mostWindow {
				return fails(FlowControlError, "a window of more than 2³¹-1")
			}
		}
	case settingFrameSize:
		if v < frameSize || v > mostFrameSize {
			return fails(ProtocolError, "frames of a size that is not permitted")
		}
	case settingExtendedConnect:
		if v > 1 {
			return fails(ProtocolError, "a setting that is neither yes nor no")
		}
	}
	return nil
}
