package http2

// body reads a frame of a request's body, piece by piece.
func (c *conn) body(f frame) error {
	if c.isIdle(f.stream) {
		return fails(ProtocolError, "data of a stream that was not begun")
	}
	left, padding := f.length, 0
	if f.has(flagPadded) {
		if left == 0 {
			return fails(FrameSizeError, "a frame without the length of its padding")
		}
		if err := c.need(1); err != nil {
			return midway(err)
		}
		padding = int(c.in.next(1)[0])
		if left--; padding > left {
			return fails(ProtocolError, "a frame of less than its padding")
		}
		left -= padding
	}
	if err := c.admit(f, left); err != nil {
		return err
	}
	for left > 0 {
		if err := c.need(1); err != nil {
			return midway(err)
		}
		n := min(left, c.in.w-c.in.r)
		c.deliver(f.stream, c.in.next(n))
		left -= n
	}
	for padding > 0 {
		if err := c.need(1); err != nil {
			return midway(err)
		}
		n := min(padding, c.in.w-c.in.r)
		c.in.next(n)
		padding -= n
	}
	if f.has(flagEndStream) {
		return c.ends(f.stream)
	}
	return nil
}

// admit sees whether a frame with that much data may come, and counts it.
func (c *conn) admit(f frame, size int) error {
	c.mu.Lock()
	if c.window -= f.length; c.window < 0 {
		c.mu.Unlock()
		return fails(FlowControlError, "more than the connection's window")
	}
	if c.credit(f.length - size) {
		c.owes = true
	}
	cost := 0
	if size == 0 && !f.has(flagEndStream) {
		cost = costFrame
	}
	code := NoError
	if s := c.streams.get(f.stream); s == nil {
		if cost = costFrame; !c.ended.has(f.stream) {
			code = StreamClosed
		}
	} else {
		code = s.body.admit(f.length, size)
	}
	calm := c.calm.spend(cost)
	c.mu.Unlock()
	switch {
	case !calm:
		return errCalm
	case code != NoError:
		return c.wrong(f.stream, code)
	}
	return nil
}

// admit is the stream's part of it.
func (b *body) admit(length, size int) Code {
	if b.ended {
		return StreamClosed
	}
	if b.window -= length; b.window < 0 {
		return FlowControlError
	}
	b.owed += length - size
	if b.left >= 0 {
		if b.left -= int64(size); b.left < 0 {
			b.fail(errLength)
			return ProtocolError
		}
	}
	return NoError
}

// deliver gives a piece to its stream's body. What nobody wants is the client's to send again.
func (c *conn) deliver(id uint32, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams.get(id); s != nil && s.body.err == nil {
		s.body.put(p)
		s.wake.Broadcast()
		return
	}
	if c.credit(len(p)) {
		c.owes = true
	}
}

// ends takes note of the end of a stream's body.
func (c *conn) ends(id uint32) error {
	c.mu.Lock()
	code := NoError
	if s := c.streams.get(id); s != nil {
		code = c.endBody(s)
	}
	c.mu.Unlock()
	if code != NoError {
		return c.wrong(id, code)
	}
	return nil
}
