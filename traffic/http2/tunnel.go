package http2

import (
	"net"
	"os"
	"time"
)

// tunnel is a stream as a connection, on which another protocol is spoken (RFC 8441, 5).
type tunnel struct{ s *stream }

// Read reads what the client sends.
func (t *tunnel) Read(p []byte) (int, error) { return t.s.body.Read(p) }

// Write sends a piece at once.
func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.s.Write(p); err != nil {
		return 0, err
	}
	return len(p), t.s.Flush()
}

// CloseWrite ends the sending half.
func (t *tunnel) CloseWrite() error {
	c := t.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.s.over || t.s.answer.ended {
		return nil
	}
	c.endStream(t.s, nil)
	c.flush(false)
	return nil
}

// Close ends the stream.
func (t *tunnel) Close() error {
	c := t.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.s.over {
		return nil
	}
	code := Cancel
	if t.s.answer.ended {
		code = NoError
	}
	c.reset(t.s, code)
	c.flush(false)
	return nil
}

// LocalAddr gives no address.
func (*tunnel) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr gives no address.
func (*tunnel) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// SetDeadline is not supported.
func (*tunnel) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline is not supported.
func (*tunnel) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline is not supported.
func (*tunnel) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
