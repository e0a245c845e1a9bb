package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/quic"
)

const (
	quicIdle = time.Minute
	// unverified is how many handshakes may be under way before clients have to show, by one more round
	// trip, that they are at the address that they give (RFC 9000, 8.1.2).
	unverified = 64
	// farewell is how long clients have to learn that they should go elsewhere.
	farewell = time.Second
)

// h3 serves connections of QUIC by quic-go, which HTTP/3 goes over.
type h3 struct {
	s      *Server
	log    *slog.Logger
	server *http3.Server

	handshakes atomic.Int64
	running    sync.WaitGroup

	mu         sync.Mutex
	transports []*quicgo.Transport
	sockets    []*quic.Socket
	active     int           // requests
	idle       chan struct{} // closed when there are none; nil: nobody waits
}

// tlsKey is what a connection's handshake told in the contexts of its requests.
type tlsKey struct{}

func newHTTP3(s *Server, log *slog.Logger) *h3 {
	h := &h3{s: s, log: log}
	h.server = &http3.Server{
		Handler: h, MaxHeaderBytes: headerBytes, IdleTimeout: s.cfg.Idle,
		ConnContext: func(ctx context.Context, c *quicgo.Conn) context.Context {
			return context.WithValue(ctx, tlsKey{}, message.NewTLS(c.ConnectionState().TLS))
		},
	}
	return h
}

// ServeQUIC answers connections of QUIC that begin before ctx ends. They then live on until the server is
// drained. The socket is the server's own from here on.
func (s *Server) ServeQUIC(ctx context.Context, pc *net.UDPConn, h quic.Holder) error {
	return s.http3.serve(ctx, pc, h)
}

func (h *h3) serve(ctx context.Context, pc *net.UDPConn, holder quic.Holder) error {
	socket, err := quic.Open(pc, holder)
	if err != nil {
		return err
	}
	transport, err := socket.Transport(holder, func(net.Addr) bool { return h.handshakes.Load() > unverified })
	if err != nil {
		socket.Close()
		return err
	}
	transport.ConnContext = h.handshake
	h.mu.Lock()
	h.transports, h.sockets = append(h.transports, transport), append(h.sockets, socket)
	h.mu.Unlock()
	// 0-RTT is off: what is sent by it can be sent again by others (RFC 9001, 9.2).
	listener, err := transport.Listen(http3.ConfigureTLSConfig(h.s.cfg.TLS), &quicgo.Config{
		HandshakeIdleTimeout: readHeader / 2, MaxIdleTimeout: quicIdle,
		MaxIncomingStreams: streams, MaxIncomingUniStreams: 8, // three are used
		InitialStreamReceiveWindow: streamWindow / 2, MaxStreamReceiveWindow: streamWindow,
		InitialConnectionReceiveWindow: streamWindow, MaxConnectionReceiveWindow: connectWindow,
	})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	h.running.Go(func() { served <- h.server.ServeListener(listener) })
	socket.Take()
	select {
	case err = <-served:
	case <-ctx.Done():
		// Who comes before the successor does is not sent away.
		h.running.Go(func() {
			socket.Leave()
			listener.Close()
		})
		return nil
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, quicgo.ErrServerClosed) || errors.Is(err, quicgo.ErrTransportClosed) {
		return nil
	}
	return err
}

// handshake counts those that are under way.
func (h *h3) handshake(ctx context.Context, _ *quicgo.ClientInfo) (context.Context, error) {
	h.handshakes.Add(1)
	done := sync.OnceFunc(func() { h.handshakes.Add(-1) })
	context.AfterFunc(ctx, done)
	time.AfterFunc(time.Second, done) // by then it is done, or slow
	return ctx, nil
}

func (h *h3) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.active += n; h.active == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// end asks clients to go elsewhere, waits for what is under way, not longer than ctx, and closes all.
func (h *h3) end(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = h.server.Shutdown(ctx) // it says that ctx is over
	}()
	// What clients sent before they knew is not cut: most of them close when they do.
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case <-gone:
	case <-timer.C:
		select {
		case <-gone:
		case <-h.quiet():
		}
	}
	cancel()
	<-gone
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.transports {
		_ = t.Close()
	}
	for _, s := range h.sockets {
		_ = s.Close()
	}
	h.running.Wait()
}

// quiet is closed when no request is under way.
func (h *h3) quiet() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan struct{})
	if h.active == 0 {
		close(c)
		return c
	}
	if h.idle == nil {
		h.idle = c
	}
	return h.idle
}

// firstByte is a body of unknown length whose first byte was read to see whether there is any.
type firstByte struct {
	io.ReadCloser
	first []byte
}

// Read gives the byte again, then what follows.
func (b *firstByte) Read(p []byte) (int, error) {
	if len(b.first) > 0 && len(p) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.ReadCloser.Read(p)
}

// settleBody finds out whether a request of a method that mostly has no body has one, where nothing but the
// end of its stream says so.
func settleBody(r *http.Request) {
	if r.ContentLength >= 0 || r.Body == nil {
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions:
	default:
		return
	}
	var one [1]byte
	n, err := r.Body.Read(one[:])
	if n == 0 && errors.Is(err, io.EOF) {
		r.ContentLength = 0
		return
	}
	r.Body = &firstByte{r.Body, one[:n]}
}
