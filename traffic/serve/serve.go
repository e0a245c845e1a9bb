// Package serve is an HTTP server that stops without failing a request: HTTP/1.1, HTTP/2 over TLS
// and HTTP/2 by prior knowledge, on any number of listeners, and HTTP/3. HTTP/1.1 and
// HTTP/2 are Maru's own (traffic/http1, traffic/http2), HTTP/3 is quic-go's. All have the same handler.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/http2"
	"github.com/marucloud/maru/traffic/message"
)

// Config says how a server treats its connections.
type Config struct {
	Handler message.Handler
	TLS     *tls.Config   // for connections given to TakeTLS
	Idle    time.Duration // an idle connection is closed after this; 0: 3 minutes
}

const (
	readHeader  = 30 * time.Second
	defaultIdle = 3 * time.Minute
	headerBytes = 128 << 10

	// Of HTTP/3: requests at once on a connection, and how much of bodies may be there that nobody has read.
	streams       = 250
	streamWindow  = 512 << 10
	connectWindow = 1 << 20
)

// Server serves until it is drained.
type Server struct {
	cfg   Config
	http1 *http1.Server
	http2 *http2.Server
	http3 *h3

	opening opening

	mu       sync.Mutex
	draining bool
	conns    int
	empty    chan struct{} // closed when draining and no connection is left
}

// New makes a server. It starts nothing.
func New(cfg Config, log *slog.Logger) *Server {
	if cfg.Idle == 0 {
		cfg.Idle = defaultIdle
	}
	s := &Server{cfg: cfg, empty: make(chan struct{}), opening: opening{most: mostOpening}}
	s.http1 = http1.NewServer(http1.Config{Handler: cfg.Handler, Idle: cfg.Idle, Header: readHeader, HeaderBytes: headerBytes}, log)
	s.http2 = http2.NewServer(http2.Config{Handler: cfg.Handler, Idle: cfg.Idle, Header: readHeader, HeaderBytes: headerBytes}, log)
	s.http3 = newHTTP3(s, log)
	return s
}

// Serve answers connections of l in the clear until l is closed, which is no error. Those that are
// open then live on until the server is drained.
func (s *Server) Serve(l net.Listener) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var running sync.WaitGroup // Drain waits for them by its own count
	return Accept(ctx, l, &running, func(c net.Conn) func() {
		release := s.Hold()
		return func() { s.Take(Conn{Conn: c, End: release}) }
	})
}

// Conn is a connection that was accepted elsewhere.
type Conn struct {
	net.Conn
	First  []byte // what was read from it already
	Origin any    // what requests are told of where they come from
	End    func() // called when it is over
}

// Take serves a connection in the clear. It returns when the connection is over.
func (s *Server) Take(c Conn) {
	defer c.End()
	if first := s.http1.Serve(http1.Accepted{Conn: c.Conn, First: c.First, Origin: c.Origin}); first != nil {
		s.http2.Serve(http2.Accepted{Conn: c.Conn, First: first, Origin: c.Origin})
	}
	c.Close()
}

// Opening counts a connection in that is not known yet: whose handshake, or what comes before it, is waited
// for. It may be closed meanwhile. Leave counts it out again.
func (s *Server) Opening(c net.Conn) (leave func()) { return s.opening.enter(c) }

// TakeTLS is Take for a connection by TLS. What was read from it already has to be read again.
func (s *Server) TakeTLS(accepted Conn) {
	defer accepted.End()
	c := tls.Server(accepted.Conn, s.cfg.TLS)
	defer c.Close()
	leave := s.opening.enter(accepted.Conn)
	limit, cancel := context.WithTimeoutCause(context.Background(), opens, fmt.Errorf("TLS handshake not done after %s", opens))
	err := c.HandshakeContext(limit)
	cancel()
	leave()
	state := c.ConnectionState()
	switch {
	case err != nil:
	case state.NegotiatedProtocol == "h2":
		s.http2.Serve(http2.Accepted{Conn: c, TLS: message.NewTLS(state)})
	case state.NegotiatedProtocol == "", state.NegotiatedProtocol == "http/1.1":
		s.http1.Serve(http1.Accepted{Conn: c, TLS: message.NewTLS(state)})
	}
}

// Hold counts a connection in that is, or may be, the server's: while it is looked at the server is
// not idle. Release it when the connection is over or goes elsewhere.
func (s *Server) Hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns++
	return sync.OnceFunc(s.forget)
}

func (s *Server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	s.checkEmpty()
}

func (s *Server) checkEmpty() {
	if s.draining && s.conns == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
}

// Drain finishes what is in flight. Call it when nothing is accepted any more. Idle connections stay open for
// linger, since a client may be about to use one; whoever does is asked to go elsewhere. What is
// still in flight when ctx ends is cut.
func (s *Server) Drain(ctx context.Context, linger time.Duration) {
	s.mu.Lock()
	s.draining = true
	s.http1.Drain()
	s.http2.Drain()
	s.checkEmpty()
	s.mu.Unlock()
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-s.empty:
	case <-timer.C:
	case <-ctx.Done():
	}
	s.opening.close()
	s.http1.CloseIdle()
	s.http2.Depart()
	s.http3.end(ctx)
	select {
	case <-s.empty:
	case <-ctx.Done():
		s.http1.Close()
		s.http2.Close()
	}
	s.http2.Rest()
}

// ErrNoSuccessor is the cause that a server's context ends with when nobody serves after it.
var ErrNoSuccessor = errors.New("interrupted")

// Linger is how long idle connections stay open once ctx has ended: for d when a successor answers who
// comes again, else not at all.
func Linger(ctx context.Context, d time.Duration) time.Duration {
	if errors.Is(context.Cause(ctx), ErrNoSuccessor) {
		return 0
	}
	return d
}
