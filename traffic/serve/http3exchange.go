package serve

import (
	"context"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/marucloud/maru/traffic/message"
)

// ServeHTTP gives a request to the server's handler. A panic is the operator's to see.
func (h *h3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.count(1)
	defer h.count(-1)
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
				h.log.Error("request failed by a fault of Maru", "panic", p, "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}
	}()
	if !message.ValidHost(r.Host) {
		http.Error(w, "The request's authority is malformed.", http.StatusBadRequest)
		return
	}
	settleBody(r)
	req := requestOf(r)
	if extended(r) == "websocket" {
		req.AskUpgrade()
	}
	c := &http3Client{w: w, r: r, control: http.NewResponseController(w)}
	if h.s.cfg.Handler.Serve(c, req) != nil {
		panic(http.ErrAbortHandler)
	}
}

func requestOf(r *http.Request) *message.Request {
	m := &message.Request{
		Method: r.Method, Target: r.URL.RequestURI(), Path: r.URL.Path, Host: r.Host, Scheme: "http",
		Major: r.ProtoMajor, Minor: r.ProtoMinor, Length: r.ContentLength,
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
		m.Body = &http3Body{r}
	} else {
		m.Length = 0
	}
	return m
}

// http3Body is a request's body.
type http3Body struct{ r *http.Request }

// Read asks the client for the body where it waits to be asked, as quic-go does.
func (b *http3Body) Read(p []byte) (int, error) { return b.r.Body.Read(p) }

// Buffered is not known.
func (b *http3Body) Buffered() (int, bool) { return 0, false }

// Cut ends reading.
func (b *http3Body) Cut() { b.r.Body.Close() }

// Trailer gives what came behind the body.
func (b *http3Body) Trailer() message.Header {
	var h message.Header
	for k, values := range b.r.Trailer {
		for _, v := range values {
			h.Add(k, v)
		}
	}
	return h
}

// http3Client answers by quic-go, which does it as net/http does.
type http3Client struct {
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	named   []string // trailers that were announced
}

// Context is the request's.
func (c *http3Client) Context() context.Context { return c.r.Context() }

// Interim passes a 1xx answer on.
func (c *http3Client) Interim(status int, h message.Header) error {
	to := c.w.Header()
	put(to, h)
	c.w.WriteHeader(status)
	clear(to)
	return nil
}

// put adds copies: the header is sent after the exchange ended.
func put(to http.Header, h message.Header) {
	for _, f := range h {
		to.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
}

// Begin begins the answer.
func (c *http3Client) Begin(r *message.Response) error {
	h := c.w.Header()
	put(h, r.Header)
	c.named = h["Trailer"]
	if r.Length >= 0 && r.Status != http.StatusNoContent {
		h["Content-Length"] = []string{strconv.FormatInt(r.Length, 10)}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or it would be guessed
	}
	c.w.WriteHeader(r.Status)
	return nil
}

// Write sends a piece of the body.
func (c *http3Client) Write(p []byte) error {
	_, err := c.w.Write(p)
	return err
}

// Flush sends what is held back.
func (c *http3Client) Flush() error { return c.control.Flush() }

// End sends the trailer; returning ends the answer.
func (c *http3Client) End(trailer message.Header) error {
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

func (c *http3Client) announced(name string) bool {
	for _, list := range c.named {
		if message.ListHas(list, name) {
			return true
		}
	}
	return false
}
