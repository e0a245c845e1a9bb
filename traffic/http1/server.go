package http1

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru/traffic/message"
)

// Config says how a server treats its connections.
type Config struct {
	Handler     message.Handler
	Idle        time.Duration // without a request, or with one whose body or answer does not move
	Header      time.Duration // from the first byte of a request to the end of its header
	HeaderBytes int
}

// Server serves the connections that it is given.
type Server struct {
	cfg      Config
	log      *slog.Logger
	draining atomic.Bool // each answer is the last on its connection
	leaving  atomic.Bool // nothing waits for a request any more

	mu    sync.Mutex
	conns map[*serverConn]struct{}
}

// NewServer makes a server.
func NewServer(cfg Config, log *slog.Logger) *Server {
	return &Server{cfg: cfg, log: log, conns: map[*serverConn]struct{}{}}
}

// Accepted is a connection to be served.
type Accepted struct {
	net.Conn
	First  []byte       // what was read from it already
	TLS    *message.TLS // nil: in the clear
	Origin any          // for requests
}

// Serve serves a connection until it is over, and closes it. Of a client that turns out to speak HTTP/2 in
// the clear the connection is left open, and what was read from it given back.
func (s *Server) Serve(a Accepted) (other []byte) {
	c := newServerConn(s, a)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	return c.serve()
}

// Drain has each answer from here on be the last on its connection.
func (s *Server) Drain() { s.draining.Store(true) }

// CloseIdle closes the connections that wait for a request, now and from here on. Call it after Drain.
func (s *Server) CloseIdle() {
	s.leaving.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.closeIdle()
	}
}

// Close cuts every connection.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.conn.Close()
	}
}

// Prefixed is a connection whose first bytes were read and are read again.
type Prefixed struct {
	net.Conn
	first []byte
}

// Read gives the first bytes again, then what follows.
func (p *Prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		if p.first = p.first[n:]; len(p.first) == 0 {
			p.first = nil // and what it is a part of
		}
		return n, nil
	}
	return p.Conn.Read(b)
}

// CloseWrite ends the sending half.
func (p *Prefixed) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}
