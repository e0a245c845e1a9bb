package forward

import (
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"sync"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/table"
)

// send asks the endpoint. A nil error means that it began to answer.
func (x *exchange) send(ep *table.Endpoint) (*http.Response, error) {
	c := x.e.conns(ep)
	transport := c.http1
	if x.http2() {
		transport = c.http2
	}
	hints := &interim{w: x.w}
	out := x.outRequest(ep)
	out = out.WithContext(httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{Got1xxResponse: hints.pass}))
	res, err := transport.RoundTrip(out)
	hints.end()
	x.entry.Upstream = x.e.now().Sub(x.entry.Time)
	if err != nil {
		return nil, err
	}
	if x.body != nil {
		x.body.settle()
	}
	return res, nil
}

// http2 tells which version the endpoint is asked by. gRPC needs HTTP/2 whatever the port is said to
// speak; switching to another protocol needs HTTP/1.1.
func (x *exchange) http2() bool {
	if x.upgrade != "" {
		return false
	}
	switch x.call.Service.State().Protocol(x.call.Port, maru.TCP) {
	case "h2c", "grpc":
		return true
	}
	return x.grpc && x.r.ProtoMajor == 2
}

func (x *exchange) outRequest(ep *table.Endpoint) *http.Request {
	r := x.r
	out := &http.Request{
		Method: r.Method,
		URL: &url.URL{
			Scheme: "http", Host: ep.Address(x.call.Port).String(),
			Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery,
		},
		Host:          r.Host,
		Header:        x.header,
		ContentLength: r.ContentLength,
		Trailer:       r.Trailer,
		Body:          http.NoBody,
	}
	if route := x.call.Route; route != nil {
		if route.StripPrefix {
			stripPrefix(out.URL, route.Path)
		}
		if host := x.header.Get("Host"); host != "" {
			out.Host = host
		}
	}
	if x.body != nil {
		out.Body = x.body.body()
		if x.http2() {
			out.Body = newLeaver(out.Body)
		}
	} else {
		out.ContentLength = 0
	}
	return out
}

// interim passes 1xx answers on, such as early hints, as long as the exchange waits for the final one.
type interim struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	ended bool
}

func (i *interim) pass(code int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended || code == http.StatusContinue {
		// The server itself asks the client to continue, when the body is first read.
		return nil
	}
	h := i.w.Header()
	saved := make(http.Header, len(h))
	for k, v := range h {
		saved[k] = v
	}
	for k, v := range header {
		h[k] = v
	}
	i.w.WriteHeader(code)
	clear(h)
	for k, v := range saved {
		h[k] = v
	}
	return nil
}

func (i *interim) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
}

// errAnswer says that an endpoint answered with what can't be passed on.
var errAnswer = errors.New("the service's answer is not valid")
