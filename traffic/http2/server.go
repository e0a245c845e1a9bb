package http2

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru/traffic/message"
)

const (
	// streams are the requests that a connection has at once.
	streams = 250
	// streamWindow and connWindow are how much of bodies a client may send that nobody has read yet.
	streamWindow = 512 << 10
	connWindow   = 1 << 20
	// mostFields bounds a header's fields.
	mostFields = 256
	// pingAfter is how long nothing comes from a client before it is asked whether it is there, and
	// pingFor how long it has to answer.
	pingAfter = time.Minute
	pingFor   = 15 * time.Second
	// farewell is how long a client has to learn that it should go elsewhere, and grace for what it had begun
	// when it did.
	farewell = time.Second
	grace    = 100 * time.Millisecond
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
	workers  workers
	draining atomic.Bool // who sends a request is told to go elsewhere with the next one

	mu      sync.Mutex
	leaving bool // everybody is
	conns   map[*conn]struct{}
}

// NewServer makes a server. It starts nothing.
func NewServer(cfg Config, log *slog.Logger) *Server {
	return &Server{cfg: cfg, log: log, conns: map[*conn]struct{}{}}
}

// Accepted is a connection to be served.
type Accepted struct {
	net.Conn
	First  []byte       // what was read from it already
	TLS    *message.TLS // nil: in the clear
	Origin any          // for requests
}

// Serve serves a connection until it is over and no request of it runs any more, and closes it.
func (s *Server) Serve(a Accepted) {
	c := newConn(s, a)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	leaving := s.leaving
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	if leaving {
		c.depart()
	}
	c.serve()
}

// Drain has each client that sends a request told to send further ones on a new connection.
func (s *Server) Drain() { s.draining.Store(true) }

// Depart tells all clients, and ends each connection when what is in flight on it is done. Call it after Drain.
func (s *Server) Depart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	for c := range s.conns {
		c.depart()
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

// Rest ends the goroutines that wait for requests. Call it when there are none any more.
func (s *Server) Rest() { s.workers.close() }
