// Package serve is an HTTP server that stops without failing a request: HTTP/1.1, HTTP/2 over TLS
// and HTTP/2 by prior knowledge, on any number of listeners.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru"
)

// Config says how a server treats its connections.
type Config struct {
	Handler     http.Handler
	TLS         *tls.Config // for listeners given to ServeTLS
	ConnContext func(ctx context.Context, c net.Conn) context.Context
	Idle        time.Duration // an idle connection is closed after this; 0: 3 minutes
}

const (
	readHeader    = 30 * time.Second
	defaultIdle   = 3 * time.Minute
	headerBytes   = 128 << 10
	streams       = 250
	streamWindow  = 512 << 10
	connectWindow = 1 << 20
)

// Server serves until it is drained.
type Server struct {
	http     *http.Server
	draining atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	empty chan struct{} // closed when draining and no connection is left
}

// New makes a server. It starts nothing.
func New(cfg Config, log *slog.Logger) *Server {
	s := &Server{conns: map[net.Conn]struct{}{}, empty: make(chan struct{})}
	if cfg.Idle == 0 {
		cfg.Idle = defaultIdle
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:           s.announce(cfg.Handler),
		TLSConfig:         cfg.TLS,
		ReadHeaderTimeout: readHeader,
		IdleTimeout:       cfg.Idle,
		MaxHeaderBytes:    headerBytes,
		ConnState:         s.track,
		ConnContext:       cfg.ConnContext,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          streams,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connectWindow,
			SendPingTimeout:               time.Minute,
		},
	}
	return s
}

// Serve answers connections of l in the clear until l is closed, which is no error.
func (s *Server) Serve(l net.Listener) error { return ended(s.http.Serve(l)) }

// ServeTLS answers connections of l by TLS until l is closed, which is no error.
func (s *Server) ServeTLS(l net.Listener) error { return ended(s.http.ServeTLS(l, "", "")) }

func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return maru.Errorf(maru.Unavailable, "serve HTTP: %w", err)
}

// announce tells clients, while the server drains, to send further requests on a new connection:
// "Connection: close" by HTTP/1.1, which by HTTP/2 becomes GOAWAY.
func (s *Server) announce(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
		s.checkEmpty()
	}
}

func (s *Server) checkEmpty() {
	if s.draining.Load() && len(s.conns) == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
}

// Draining tells whether Drain was called.
func (s *Server) Draining() bool { return s.draining.Load() }

// Drain finishes what is in flight, once the listeners are closed. Idle connections stay open for
// linger, since a client may be about to use one; whoever does is asked to go elsewhere. What is
// still in flight when ctx ends is cut.
func (s *Server) Drain(ctx context.Context, linger time.Duration) {
	s.mu.Lock()
	s.draining.Store(true)
	s.checkEmpty()
	s.mu.Unlock()
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-s.empty:
	case <-timer.C:
	case <-ctx.Done():
	}
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}
