package serve

import (
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/marucloud/maru/traffic/message"
)

// extended gives the protocol that a client asks to speak on a stream, by a CONNECT that says so (RFC 9220);
// "" for any other request.
func extended(r *http.Request) string {
	if r.Method == http.MethodConnect && r.Proto != "HTTP/3.0" {
		return r.Proto
	}
	return ""
}

// Switch agrees to speak another protocol on the stream, where the client asked for that: any other one is
// none of HTTP/3's (RFC 9114, 4.5).
func (c *http3Client) Switch(list message.Header) (net.Conn, io.Reader, error) {
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
	over, ok := c.w.(http3.HTTPStreamer)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
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

// stream is a stream of HTTP/3 as a connection.
type stream struct {
	io.Reader
	io.Writer
	done func()
	half func() error
	once sync.Once
}

// Close ends the stream.
func (s *stream) Close() error {
	s.once.Do(s.done)
	return nil
}

// CloseWrite ends the sending half.
func (s *stream) CloseWrite() error { return s.half() }

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
