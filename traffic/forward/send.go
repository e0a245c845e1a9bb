package forward

import (
	"errors"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/table"
)

// conns are the connections to one endpoint.
type conns struct {
	http1 http1.Pool
	http2 *http2
}

// CloseIdle closes what carries nothing.
func (c *conns) CloseIdle() {
	c.http1.CloseIdle()
	c.http2.closeIdle()
}

// conns gives the endpoint's connections.
func (e *Engine) conns(ep *table.Endpoint) *conns {
	return ep.Conns(e.newConns).(*conns) //nolint:forcetypeassert // this package alone makes them
}

func (e *Engine) newConns(ep *table.Endpoint) table.Conns {
	return &conns{http2: newHTTP2(e.connector, ep)}
}

// send asks the endpoint. A nil error means that it began to answer.
func (x *exchange) send(ep *table.Endpoint) (res *message.Response, err error) {
	c := x.e.conns(ep)
	x.prepare()
	if x.overHTTP2() {
		res, err = c.http2.roundTrip(x, ep)
	} else {
		res, err = x.overHTTP1(&c.http1, ep)
	}
	x.entry.Upstream = x.e.now().Sub(x.entry.Time)
	if err == nil && x.body != nil {
		x.body.settle()
	}
	return res, err
}

// overHTTP2 tells which version the endpoint is asked by. gRPC needs HTTP/2 whatever the port is said
// to speak; switching to another protocol needs HTTP/1.1.
func (x *exchange) overHTTP2() bool {
	if x.upgrade != "" {
		return false
	}
	switch x.call.Service.State().Protocol(x.call.Port, maru.TCP) {
	case "h2c", "grpc":
		return true
	}
	return x.call.HTTP2 || x.grpc && x.r.Major >= 2
}

// prepare makes the request for the next attempt ready.
func (x *exchange) prepare() {
	out, r := &x.out, x.r
	out.Now = x.entry.Time
	out.Method, out.Target, out.Header, out.Length = r.Method, r.Target, x.header, r.Length
	out.Upgrade, out.Expects = x.upgrade != "", r.Expects
	switch route := x.call.Route; {
	case x.call.Target != "":
		out.Target = x.call.Target
	case route != nil && route.StripPrefix:
		out.Target = message.CutPrefix(r.Target, r.Path, route.Path)
	}
	out.Body, out.Here, out.Trailer = nil, 0, nil
	if x.body != nil {
		out.Body, out.Trailer = x.body.body(), x.body.behind
		if n, whole := r.Body.Buffered(); whole && n > 0 && x.entry.Attempts == 1 {
			out.Here = n
		}
	}
}

// overHTTP1 asks on a connection that is there or on a new one. One that was used before may have been
// closed by the endpoint meanwhile: that is no failure of the endpoint.
func (x *exchange) overHTTP1(pool *http1.Pool, ep *table.Endpoint) (*message.Response, error) {
	fresh := false
	for {
		var c *http1.Conn
		if !fresh {
			c = pool.Get(x.call.Port, x.out.Now)
		}
		if c == nil {
			conn, err := x.e.connector.Dial(x.context(), ep, x.call.Port)
			if err != nil {
				return nil, err
			}
			c = http1.NewConn(pool, x.call.Port, conn)
			x.out.Now = x.e.now()
		}
		res, err := c.RoundTrip(&x.out)
		if err == nil {
			return res, nil
		}
		if fresh = x.onceMore(err); !fresh {
			return nil, err
		}
	}
}

// onceMore makes the request ready to be sent again on a new connection, if the error says that it was
// the old one's that was at fault.
func (x *exchange) onceMore(err error) bool {
	var failed *http1.Failed
	if !errors.As(err, &failed) || !failed.Reused || x.ended() != nil {
		return false
	}
	if !failed.Unsent && (!idempotent(x.r.Method) || x.upgrade != "") || x.body != nil && !x.body.rewind() {
		return false
	}
	here := x.out.Here
	x.prepare()
	if failed.Unsent {
		x.out.Here = here
	}
	return true
}

// interim passes 1xx answers on, such as early hints.
func (x *exchange) interim(status int, h message.Header) error {
	x.answer.Header = copyAnswer(x.answer.Header[:0], h)
	return x.c.Interim(status, x.answer.Header)
}

// errAnswer says that an endpoint answered with what can't be passed on.
var errAnswer = errors.New("the service's answer is not valid")
