package http2

import (
	"runtime"
	"sync"
	"time"
)

const (
	outSize = 32 << 10
	// gathered is from where on what is to be sent is not held back for a moment.
	gathered = 8 << 10
	// turns are how many buffers one who wants something of its own sent sends for all.
	turns = 4
	// mostUnsent bounds what is kept for a client that reads nothing.
	mostUnsent = 256 << 10
)

var outs = sync.Pool{New: func() any { return new([outSize]byte) }}

// output is what is not sent yet. The connection's lock has it.
type output struct {
	b        []byte
	pooled   *[outSize]byte
	turn     uint // of the buffer: a frame's place is good for one
	flushing bool // somebody sends
	blocked  int  // streams that wait for a window or for room
	writeBy  time.Time
}

// hold has memory to write to.
func (o *output) hold() {
	if o.b == nil {
		o.pooled = outs.Get().(*[outSize]byte) //nolint:forcetypeassert // its New gives nothing else
		o.b = o.pooled[:0]
	}
}

// room is how much of a frame goes in.
func (o *output) room() int { return outSize - headSize - len(o.b) }

// append adds frames. They are sent with the next that somebody wants sent.
func (c *conn) append(frames func([]byte) []byte) {
	c.out.hold()
	c.out.b = frames(c.out.b)
}

// flush sends what is there, by the one who asks for it unless somebody is about it. With gather it waits until
// everybody who can go on has: requests that came together are mostly answered together. The lock is held
// before and after.
func (c *conn) flush(gather bool) {
	if c.out.flushing || len(c.out.b) == 0 || c.broken != nil {
		return
	}
	c.out.flushing = true
	if gather && c.running > 1 && len(c.out.b) < gathered {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	c.send()
}

// do goes on with sending.
func (c *conn) do() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send()
}

// send sends buffer after buffer; after some of them another goroutine goes on, as the one that began has
// something else to do.
func (c *conn) send() {
	for turn := 0; len(c.out.b) > 0 && c.broken == nil; turn++ {
		if turn == turns {
			c.s.workers.run(c)
			return
		}
		b, pooled := c.out.b, c.out.pooled
		c.out.b, c.out.pooled = nil, nil
		c.out.turn++
		c.guardWrite()
		c.mu.Unlock()
		_, err := c.conn.Write(b)
		outs.Put(pooled)
		c.mu.Lock()
		if err != nil {
			c.fail(err)
		}
		c.wakeBlocked()
	}
	c.out.flushing = false
	c.changed.Broadcast()
}

// guardWrite moves the deadline of writes when half of its time is over.
func (c *conn) guardWrite() {
	now := time.Now()
	if !c.leaving && c.out.writeBy.Sub(now) < c.s.cfg.Idle/2 {
		c.out.writeBy = now.Add(c.s.cfg.Idle)
		_ = c.conn.SetWriteDeadline(c.out.writeBy)
	}
}

func (c *conn) wakeBlocked() {
	if c.out.blocked == 0 {
		return
	}
	for _, s := range c.streams {
		s.wake.Broadcast()
	}
}

// fail ends a connection that can't be written to.
func (c *conn) fail(err error) {
	if c.broken == nil {
		c.broken = err
		c.conn.Close() // which the one who reads sees
	}
}

// credit has the client send as much again as was read or thrown away, once that is worth a frame; it tells
// whether one is to be sent.
func (c *conn) credit(n int) bool {
	if c.owed += n; c.owed < connWindow/4 {
		return false
	}
	back := c.owed
	c.append(func(b []byte) []byte { return appendWindowUpdate(b, 0, back) })
	c.window, c.owed = c.window+back, 0
	return true
}
