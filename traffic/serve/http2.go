package serve

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/marucloud/maru/traffic/message"
)

const (
	streams       = 250
	streamWindow  = 512 << 10
	connectWindow = 1 << 20
	pingAfter     = time.Minute
)

// http2 serves the connections that speak HTTP/2, by net/http. Its goroutine runs from the first of
// them on.
type http2 struct {
	s     *Server
	log   *slog.Logger
	http  *http.Server
	queue *queue
	start sync.Once
	done  chan struct{} // closed when http is done with the queue

	mu   sync.Mutex
	ends map[net.Conn]func()
}

// handed is a connection in the clear, with where it came from.
type handed struct {
	net.Conn
	origin any
}

type (
	originKey struct{}
	tlsKey    struct{}
)

func newHTTP2(s *Server, log *slog.Logger) *http2 {
	h := &http2{s: s, log: log, queue: newQueue(), done: make(chan struct{}), ends: map[net.Conn]func(){}}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	h.http = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeader,
		IdleTimeout:       s.cfg.Idle,
		MaxHeaderBytes:    headerBytes,
		ConnState:         h.track,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         protocols,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			switch c := c.(type) {
			case *handed:
				if c.origin != nil {
					return context.WithValue(ctx, originKey{}, c.origin)
				}
			case *tls.Conn:
				return context.WithValue(ctx, tlsKey{}, message.NewTLS(c.ConnectionState()))
			}
			return ctx
		},
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          streams,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connectWindow,
			SendPingTimeout:               pingAfter,
		},
	}
	return h
}

// take serves the connection; end is called when it is over. False when nothing is served any more.
func (h *http2) take(c net.Conn, end func()) bool {
	h.start.Do(func() {
		go func() {
			defer close(h.done)
			if err := h.http.Serve(h.queue); err != nil && !ended(err) {
				h.log.Error("HTTP/2 is not served any more", "error", err)
			}
		}()
	})
	h.mu.Lock()
	h.ends[c] = end
	h.mu.Unlock()
	if h.queue.put(c) {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ends, c)
	return false
}

func (h *http2) track(c net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	h.mu.Lock()
	end := h.ends[c]
	delete(h.ends, c)
	h.mu.Unlock()
	if end != nil {
		end()
	}
}

// end closes what is idle and waits, not longer than ctx, for what is not; gone is closed then.
func (h *http2) end(ctx context.Context) (gone chan struct{}) {
	gone = make(chan struct{})
	h.start.Do(func() { close(h.done) }) // it was never needed
	go func() {
		defer close(gone)
		_ = h.http.Shutdown(ctx)
		h.queue.Close()
		<-h.done
	}()
	return gone
}

func (h *http2) close() { h.http.Close() }

// ServeHTTP gives a request to the server's handler. While the server drains, the client is told to
// send further ones on a new connection: "Connection: close" becomes GOAWAY. A panic is the operator's
// to see.
func (h *http2) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.s.serveWeb(w, r, h.log) }

func (s *Server) serveWeb(w http.ResponseWriter, r *http.Request, log *slog.Logger) {
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
				log.Error("request failed by a fault of Maru", "panic", p, "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}
	}()
	if !message.ValidHost(r.Host) {
		http.Error(w, "The request's authority is malformed.", http.StatusBadRequest)
		return
	}
	if r.ProtoMajor == 3 {
		settleBody(r)
	}
	req := requestOf(r)
	if extended(r) == "websocket" {
		asUpgrade(req)
	}
	c := &http2Client{s: s, w: w, r: r}
	c.control = http.NewResponseController(w)
	if s.cfg.Handler.Serve(c, req) != nil {
		panic(http.ErrAbortHandler)
	}
}

func requestOf(r *http.Request) *message.Request {
	m := &message.Request{
		Method: r.Method, Target: r.URL.RequestURI(), Path: r.URL.Path, Host: r.Host, Scheme: "http",
		Major: r.ProtoMajor, Minor: r.ProtoMinor, Length: r.ContentLength, Origin: r.Context().Value(originKey{}),
	}
	if r.TLS != nil {
		m.Scheme = "https"
		m.TLS, _ = r.Context().Value(tlsKey{}).(*message.TLS)
	}
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		m.Client = a.Addr().Unmap()
		m.Name = m.Client.String()
	}
	m.Header = make(message.Header, 0, len(r.Header)+1)
	for k, values := range r.Header {
		if k == "Content-Length" {
			continue
		}
		for _, v := range values {
			m.Header.Add(k, v)
		}
	}
	for k := range r.Trailer {
		m.Header.Add("Trailer", k)
	}
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		m.Body = &http2Body{r}
	} else {
		m.Length = 0
	}
	return m
}

// http2Body is a request's body.
type http2Body struct{ r *http.Request }

// Read asks the client for the body where it waits to be asked, as net/http does.
func (b *http2Body) Read(p []byte) (int, error) { return b.r.Body.Read(p) }

// Buffered is not known.
func (b *http2Body) Buffered() (int, bool) { return 0, false }

// Cut ends reading.
func (b *http2Body) Cut() { b.r.Body.Close() }

// Trailer gives what came behind the body.
func (b *http2Body) Trailer() message.Header {
	var h message.Header
	for k, values := range b.r.Trailer {
		for _, v := range values {
			h.Add(k, v)
		}
	}
	return h
}

// http2Client answers by HTTP/2 and HTTP/3.
type http2Client struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	named   []string // trailers that were announced
}

// Context is net/http's.
func (c *http2Client) Context() context.Context { return c.r.Context() }

// Interim passes a 1xx answer on.
func (c *http2Client) Interim(status int, h message.Header) error {
	to := c.w.Header()
	put(to, h)
	c.w.WriteHeader(status)
	clear(to)
	return nil
}

// put adds copies: net/http sends a header after the exchange ended, and its compression remembers it.
func put(to http.Header, h message.Header) {
	for _, f := range h {
		to.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
}

// Begin begins the answer.
func (c *http2Client) Begin(r *message.Response) error {
	h := c.w.Header()
	put(h, r.Header)
	c.named = h["Trailer"]
	if r.Length >= 0 && r.Status != http.StatusNoContent {
		h["Content-Length"] = []string{strconv.FormatInt(r.Length, 10)}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http would guess it
	}
	if c.s.Draining() && c.r.ProtoMajor == 2 {
		h["Connection"] = []string{"close"}
	}
	c.w.WriteHeader(r.Status)
	return nil
}

// Write sends a piece of the body.
func (c *http2Client) Write(p []byte) error {
	_, err := c.w.Write(p)
	return err
}

// Flush sends what is held back.
func (c *http2Client) Flush() error { return c.control.Flush() }

// End sends the trailer; returning ends the answer.
func (c *http2Client) End(trailer message.Header) error {
	if len(trailer) == 0 {
		return nil
	}
	// Without this a short body would be sent with a length, and that leaves no room for trailers.
	_ = c.control.Flush()
	h := c.w.Header()
	for _, f := range trailer {
		if !httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(f.Name)) {
			continue
		}
		name := strings.Clone(f.Name)
		if !c.announced(name) {
			name = http.TrailerPrefix + name
		}
		h.Add(name, strings.Clone(f.Value))
	}
	return nil
}

func (c *http2Client) announced(name string) bool {
	for _, list := range c.named {
		if message.ListHas(list, name) {
			return true
		}
	}
	return false
}
