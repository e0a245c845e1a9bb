package forward

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/marucloud/maru/traffic/table"
)

const (
	// idleHTTP1 is shorter than what common servers allow themselves (2 s and more): a connection that
	// the instance closes while a request is on its way costs a request that can't be sent again.
	// Connecting anew on the same machine costs next to nothing.
	idleHTTP1 = 1500 * time.Millisecond
	idleHTTP2 = 90 * time.Second

	idlePerEndpoint = 128
	responseHeaders = 1 << 20
	expectContinue  = time.Second
	pingAfter       = 15 * time.Second
)

// conns are the connections to one endpoint.
type conns struct {
	http1, http2 *http.Transport
}

// CloseIdle closes what carries nothing.
func (c *conns) CloseIdle() {
	c.http1.CloseIdleConnections()
	c.http2.CloseIdleConnections()
}

// conns gives the endpoint's connections.
func (e *Engine) conns(ep *table.Endpoint) *conns {
	return ep.Conns(e.newConns).(*conns) //nolint:forcetypeassert // this package alone makes them
}

func (e *Engine) newConns(ep *table.Endpoint) table.Conns {
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		return e.connector.Dial(ctx, ep, at.Port())
	}
	transport := func(idle time.Duration) *http.Transport {
		return &http.Transport{
			DialContext:            dial,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    idlePerEndpoint,
			IdleConnTimeout:        idle,
			MaxResponseHeaderBytes: responseHeaders,
			ExpectContinueTimeout:  expectContinue,
			Protocols:              new(http.Protocols),
		}
	}
	c := &conns{http1: transport(idleHTTP1), http2: transport(idleHTTP2)}
	c.http1.Protocols.SetHTTP1(true)
	c.http2.Protocols.SetUnencryptedHTTP2(true)
	c.http2.HTTP2 = &http.HTTP2Config{
		SendPingTimeout:               pingAfter,
		MaxReceiveBufferPerStream:     1 << 20,
		MaxReceiveBufferPerConnection: 2 << 20,
	}
	return c
}
