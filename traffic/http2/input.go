package http2

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/marucloud/maru/traffic/socket"
)

// inputSize has a frame's room, and that for what comes with it.
const inputSize = 20 << 10

var inputs = sync.Pool{New: func() any { return new([inputSize]byte) }}

// input reads through memory that it holds only while there is something in it.
type input struct {
	p    *[inputSize]byte
	r, w int // what is between was read and not used yet
	head [headSize]byte
	try  func(fd uintptr) bool
	n    int
	err  error
}

func (i *input) hold() {
	if i.p == nil {
		i.p = inputs.Get().(*[inputSize]byte) //nolint:forcetypeassert // its New gives nothing else
	}
}

func (i *input) release() {
	if i.p != nil {
		inputs.Put(i.p)
		i.p = nil
	}
	i.r, i.w = 0, 0
}

// next gives n bytes that are there.
func (i *input) next(n int) []byte {
	p := i.p[i.r : i.r+n]
	i.r += n
	return p
}

// need has n bytes be there. io.EOF says that the connection ended before the first of them.
func (c *conn) need(n int) error {
	for c.in.w-c.in.r < n {
		if err := c.fill(n); err != nil {
			return err
		}
	}
	return nil
}

// fill reads once, after what came before is under way.
func (c *conn) fill(n int) error {
	if err := c.settle(); err != nil {
		return err
	}
	i := &c.in
	switch {
	case i.r == i.w:
		i.r, i.w = 0, 0
	case i.r+n > inputSize:
		i.w = copy(i.p[:], i.p[i.r:i.w])
		i.r = 0
	}
	for {
		n, err := c.receive()
		if n > 0 {
			i.w += n
			c.heard = true
			return nil
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := c.tick(); err != nil {
				return err
			}
		case err == nil:
			return io.ErrNoProgress
		default:
			return err
		}
	}
}

// receive reads once. Where nothing is held, memory is taken once something has come.
func (c *conn) receive() (int, error) {
	i := &c.in
	switch {
	case len(c.first) > 0:
		i.hold()
		n := copy(i.p[i.w:], c.first)
		if c.first = c.first[n:]; len(c.first) == 0 {
			c.first = nil // and what it is a part of
		}
		return n, nil
	case i.p == nil && c.raw != nil:
		i.n, i.err = 0, nil
		if err := c.raw.Read(i.try); err != nil {
			return 0, err
		}
		return i.n, i.err
	case i.p == nil:
		n, err := c.conn.Read(i.head[:])
		if n > 0 {
			i.hold()
			copy(i.p[:], i.head[:n])
		}
		return n, err
	}
	return c.conn.Read(i.p[i.w:])
}

// tryRead takes memory only if there is something to read into it.
func (c *conn) tryRead(fd uintptr) bool {
	i := &c.in
	i.hold()
	n, again, err := socket.Read(fd, i.p[:])
	if n == 0 {
		i.release()
	}
	i.n, i.err = n, err
	return !again
}

// await has a header that has begun be there in time.
func (c *conn) await() error {
	if !c.headBy.IsZero() {
		return nil
	}
	now := time.Now()
	c.headBy = now.Add(c.s.cfg.Header)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.SetReadDeadline(c.next(now))
}
