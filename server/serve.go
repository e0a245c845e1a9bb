package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/sockets"
)

// Door is a listening socket of the API. It has TLS everywhere but on a unix socket.
type Door struct {
	Listener net.Listener
	TLS      *tls.Config
	// Gateway says that the gateway connects here, for whoever asks it: nobody is known by the other end of the
	// connection, and only what other programs than Maru's speak is served.
	Gateway bool
}

// Times of connections.
const (
	headerTime = 10 * time.Second // to send a request's headers
	idleTime   = 3 * time.Minute  // without a request
	pingAfter  = 15 * time.Second // a silent HTTP/2 connection is asked whether it still lives
	pingTime   = 15 * time.Second // to answer that
)

// window is how much of an upload may be on its way; HTTP/2 in net/http allows less than 4 MiB.
const window = 4<<20 - 1

// errRestarting is what streams end with when the server does. Clients come back.
var errRestarting = maru.WithHint(maru.Errorf(maru.Unavailable, "the server is restarting"), "try again in a moment")

// Serve answers at the doors until ctx ends. Then it accepts nothing more, ends streams with
// Unavailable, lets calls finish for up to grace, and returns. The listeners' sockets stay open for
// whoever else has them.
func (s *Server) Serve(ctx context.Context, grace time.Duration, doors ...Door) error {
	active := &activity{changed: make(chan struct{}, 1), conns: map[net.Conn]bool{}}
	h := &http.Server{
		Handler:           s.lastAnswers(),
		ConnContext:       s.connContext,
		ConnState:         active.note,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTime, MaxReceiveBufferPerStream: window, MaxReceiveBufferPerConnection: window},
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetHTTP2(true)
	h.Protocols.SetUnencryptedHTTP2(true)
	var serving sync.WaitGroup
	failed := make(chan error, len(doors))
	var stops []*sockets.StopListener
	for _, door := range doors {
		stop := sockets.NewStopListener(door.Listener)
		stops = append(stops, stop)
		serving.Go(func() {
			if err := serveDoor(h, stop, door); err != nil {
				failed <- err
			}
		})
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	for _, stop := range stops {
		err = errors.Join(err, stop.Stop())
	}
	s.close(errRestarting)
	active.wait(grace)
	err = errors.Join(err, shutDown(h, grace))
	serving.Wait()
	return err
}

func serveDoor(h *http.Server, listener net.Listener, door Door) error {
	if door.Gateway {
		listener = gatewayListener{listener}
	}
	if door.TLS != nil {
		config := door.TLS.Clone()
		config.NextProtos = []string{"h2", "http/1.1"}
		listener = tls.NewListener(listener, config)
	}
	if err := h.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return maru.Errorf(maru.Unavailable, "serve the API at %s: %w", listener.Addr(), err)
	}
	return nil
}

// gatewayListener marks connections of the gateway.
type gatewayListener struct{ net.Listener }

type gatewayConn struct{ net.Conn }

func (l gatewayListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return gatewayConn{conn}, nil
}

type gatewayKey struct{}

func (s *Server) connContext(ctx context.Context, conn net.Conn) context.Context {
	if _, ok := conn.(gatewayConn); ok {
		return context.WithValue(ctx, gatewayKey{}, true)
	}
	return s.ConnContext(ctx, conn)
}

// shutDown closes connections, those with requests on them last.
func shutDown(h *http.Server, grace time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), max(grace, time.Second),
		maru.Errorf(maru.Unavailable, "connections did not end in time"))
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		return h.Close()
	}
	return nil
}

// lastAnswers tells clients not to use their connection again once the server ends.
func (s *Server) lastAnswers() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.closing.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		if r.Context().Value(gatewayKey{}) != nil {
			s.public.ServeHTTP(w, r)
			return
		}
		s.handler.ServeHTTP(w, r)
	})
}

// activity counts the connections with requests on them.
type activity struct {
	mu      sync.Mutex
	conns   map[net.Conn]bool
	changed chan struct{}
}

func (a *activity) note(conn net.Conn, state http.ConnState) {
	a.mu.Lock()
	if state == http.StateNew || state == http.StateActive {
		a.conns[conn] = true
	} else {
		delete(a.conns, conn)
	}
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

func (a *activity) none() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.conns) == 0
}

// wait returns when no connection has a request on it, or the time is up.
func (a *activity) wait(limit time.Duration) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for !a.none() {
		select {
		case <-a.changed:
		case <-timeout.C:
			return
		}
	}
}
