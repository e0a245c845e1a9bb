package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/table"
)

const (
	idleHTTP2       = 90 * time.Second
	responseHeaders = 1 << 20
	pingAfter       = 15 * time.Second
)

// http2 are the connections to an endpoint by HTTP/2 in the clear: net/http's.
type http2 struct{ transport *http.Transport }

func newHTTP2(connector *connect.Connector, ep *table.Endpoint) *http2 {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return nil, err
			}
			return connector.Dial(ctx, ep, at.Port())
		},
		DisableCompression:     true,
		IdleConnTimeout:        idleHTTP2,
		MaxResponseHeaderBytes: responseHeaders,
		Protocols:              new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:               pingAfter,
			MaxReceiveBufferPerStream:     1 << 20,
			MaxReceiveBufferPerConnection: 2 << 20,
		},
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	return &http2{t}
}

func (h *http2) closeIdle() { h.transport.CloseIdleConnections() }

func (h *http2) roundTrip(x *exchange, ep *table.Endpoint) (*message.Response, error) {
	hints := &hints{x: x}
	out, err := x.outRequest(ep)
	if err != nil {
		return nil, err
	}
	out = out.WithContext(httptrace.WithClientTrace(x.context(), &httptrace.ClientTrace{Got1xxResponse: hints.pass}))
	res, err := h.transport.RoundTrip(out) //nolint:bodyclose // the answer has it from here on
	hints.end()
	if err != nil {
		return nil, err
	}
	answer := &message.Response{Status: res.StatusCode, Length: res.ContentLength, Header: fromHTTP(nil, res.Header)}
	answer.Header.Del("Content-Length")
	if len(res.Trailer) > 0 {
		names := make([]string, 0, len(res.Trailer))
		for k := range res.Trailer {
			names = append(names, k)
		}
		answer.Header.Add("Trailer", strings.Join(names, ", "))
	}
	answer.Body = &http2Body{res: res}
	return answer, nil
}

// toHTTP makes a request without a body as net/http wants it. That may read it after the exchange ended, so
// nothing of it points into the exchange.
func toHTTP(out *http1.Outgoing, address netip.AddrPort) (*http.Request, error) {
	target, err := url.ParseRequestURI(strings.Clone(out.Target))
	if err != nil {
		return nil, errAnswer
	}
	target.Scheme, target.Host = "http", address.String()
	header := make(http.Header, len(out.Header))
	for _, f := range out.Header {
		if !message.Equal(f.Name, "Connection") && !message.Equal(f.Name, "Trailer") {
			header.Add(strings.Clone(f.Name), strings.Clone(f.Value))
		}
	}
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = []string{""} // or the transport would set its own
	}
	return &http.Request{
		Method: strings.Clone(out.Method), URL: target, Host: strings.Clone(out.Host), Header: header, Body: http.NoBody,
	}, nil
}

// outRequest makes the request as net/http wants it.
func (x *exchange) outRequest(ep *table.Endpoint) (*http.Request, error) {
	out, err := toHTTP(&x.out, ep.Address(x.call.Port))
	if err != nil || x.body == nil {
		return out, err
	}
	out.ContentLength = x.r.Length
	for names := range x.r.Header.Values("Trailer") {
		for name := range strings.SplitSeq(names, ",") {
			if out.Trailer == nil {
				out.Trailer = http.Header{}
			}
			out.Trailer[http.CanonicalHeaderKey(strings.Clone(message.Trim(name)))] = nil
		}
	}
	out.Body = newLeaver(&bodyWithTrailer{x.out.Body.(*attemptBody), out.Trailer}) //nolint:forcetypeassert // prepare made it
	return out, nil
}

// bodyWithTrailer fills a request's trailer in when its body has ended, as net/http wants it.
type bodyWithTrailer struct {
	*attemptBody
	trailer http.Header
}

func (b *bodyWithTrailer) Read(p []byte) (int, error) {
	n, err := b.attemptBody.Read(p)
	if errors.Is(err, io.EOF) && b.trailer != nil {
		for _, f := range b.b.behind() {
			name := http.CanonicalHeaderKey(f.Name)
			if _, announced := b.trailer[name]; announced {
				b.trailer[name] = append(b.trailer[name], f.Value)
			}
		}
	}
	return n, err
}

// fromHTTP takes net/http's header over.
func fromHTTP(to message.Header, from http.Header) message.Header {
	for k, values := range from {
		for _, v := range values {
			to = append(to, message.Field{Name: k, Value: v})
		}
	}
	return to
}

// http2Body is an answer's body by HTTP/2.
type http2Body struct {
	res *http.Response
	buf *[copyBuffer]byte
}

// Next gives the next piece.
func (b *http2Body) Next() ([]byte, error) {
	if b.buf == nil {
		b.buf = buffers.Get().(*[copyBuffer]byte) //nolint:forcetypeassert // its New gives nothing else
	}
	n, err := b.res.Body.Read(b.buf[:])
	return b.buf[:n], err
}

// Ready is not known.
func (b *http2Body) Ready() bool { return false }

// Trailer gives what came behind the body.
func (b *http2Body) Trailer() message.Header { return fromHTTP(nil, b.res.Trailer) }

// Close ends the exchange.
func (b *http2Body) Close() {
	b.res.Body.Close()
	if b.buf != nil {
		buffers.Put(b.buf)
		b.buf = nil
	}
}

// hints passes 1xx answers on as long as the exchange waits for the final one.
type hints struct {
	mu    sync.Mutex
	x     *exchange
	ended bool
}

func (i *hints) pass(code int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended || code == http.StatusContinue {
		// The server itself asks the client to continue, when the body is first read.
		return nil
	}
	return i.x.interim(code, fromHTTP(nil, http.Header(header)))
}

func (i *hints) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
}
