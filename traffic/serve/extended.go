package serve

import (
	"crypto/rand"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/marucloud/maru/traffic/message"
)

// extended gives the protocol that a client asks to speak on a stream, by a CONNECT that says so (RFC 8441, 4;
// RFC 9220); "" for any other request.
func extended(r *http.Request) string {
	switch {
	case r.Method != http.MethodConnect:
	case r.ProtoMajor == 2:
		return r.Header.Get(":protocol")
	case r.Proto != "HTTP/3.0":
		return r.Proto
	}
	return ""
}

// asUpgrade makes of such a request for WebSocket the one that says the same by HTTP/1.1.
func asUpgrade(m *message.Request) {
	m.Method, m.Upgrade, m.Body, m.Length = http.MethodGet, "websocket", nil, 0
	m.Header.Del(":protocol")
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	m.Header.Set("Sec-Websocket-Key", base64.StdEncoding.EncodeToString(key[:]))
	if !m.Header.Has("Sec-Websocket-Version") {
		m.Header.Add("Sec-Websocket-Version", "13")
	}
}

// Switch agrees to speak another protocol on the stream, where the client asked for that: any other one is
// none of HTTP/2's (RFC 9113, 8.6).
func (c *http2Client) Switch(list message.Header) (net.Conn, io.Reader, error) {
	if extended(c.r) == "" {
		return nil, nil, http.ErrNotSupported
	}
	h := c.w.Header()
	for _, f := range list {
		if !message.HopByHop(f.Name) && !message.Equal(f.Name, "Sec-Websocket-Accept") {
			put(h, message.Header{f})
		}
	}
	c.w.WriteHeader(http.StatusOK)
	if over, ok := c.w.(http3.HTTPStreamer); ok {
		s, err := over.HTTPStream()
		if err != nil {
			return nil, nil, err
		}
		conn := &stream{Reader: s, Writer: s, done: func() {
			s.CancelRead(0)
			_ = s.Close()
		}, half: s.Close}
		return conn, conn, nil
	}
	if err := c.control.Flush(); err != nil {
		return nil, nil, err
	}
	conn := &stream{Reader: c.r.Body, Writer: flushing{c}, done: func() { c.r.Body.Close() }}
	return conn, conn, nil
}

// flushing sends at once what is written.
type flushing struct{ c *http2Client }

// Write sends a piece.
func (f flushing) Write(p []byte) (int, error) {
	n, err := f.c.w.Write(p)
	if err == nil {
		err = f.c.control.Flush()
	}
	return n, err
}

// stream is a stream of HTTP/2 or HTTP/3 as a connection.
type stream struct {
	io.Reader
	io.Writer
	done func()
	half func() error // nil: the sending half can't be ended by itself
	once sync.Once
}

// Close ends the stream.
func (s *stream) Close() error {
	s.once.Do(s.done)
	return nil
}

// CloseWrite ends the sending half.
func (s *stream) CloseWrite() error {
	if s.half == nil {
		return http.ErrNotSupported
	}
	return s.half()
}

// LocalAddr gives no address.
func (s *stream) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr gives no address.
func (s *stream) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// SetDeadline is not supported.
func (s *stream) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline is not supported.
func (s *stream) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline is not supported.
func (s *stream) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
