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
	"runtime/debug"
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
	conns int
	empty chan struct{} // closed when draining and no connection is left
}

// New makes a server. It starts nothing.
func New(cfg Config, log *slog.Logger) *Server {
	s := &Server{empty: make(chan struct{})}
	if cfg.Idle == 0 {
		cfg.Idle = defaultIdle
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:           s.wrap(cfg.Handler, log),
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

// wrap tells clients, while the server drains, to send further requests on a new connection:
// "Connection: close" by HTTP/1.1, which by HTTP/2 becomes GOAWAY. A panic is the operator's to see.
func (s *Server) wrap(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
					log.Error("request failed by a fault of Maru", "panic", p, "stack", string(debug.Stack()))
				}
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) track(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.mu.Lock()
		s.conns++
		s.mu.Unlock()
		if held, ok := c.(interface{ Tracked() }); ok {
			held.Tracked()
		}
	case http.StateClosed, http.StateHijacked:
		s.forget()
	}
}

// Hold counts a connection that will, or may, be given to the server: while it is looked at the
// server is not idle. Release it when the server's listener has it, or when it goes elsewhere.
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
	if s.draining.Load() && s.conns == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
}

// Draining tells whether Drain was called.
func (s *Server) Draining() bool { return s.draining.Load() }

// Drain finishes what is in flight. Call it when nothing is accepted any more. Idle connections stay open for
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
