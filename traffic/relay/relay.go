// Package relay carries connections as they are, between a client and an endpoint.
package relay

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/proxyproto"
	"github.com/marucloud/maru/traffic/socket"
	"github.com/marucloud/maru/traffic/table"
)

// mostDials bounds how many endpoints one connection tries before it waits or gives up.
const mostDials = 5

// Open connects a client to a port of one of the service's endpoints, another one when the first can't be
// connected to, and waits for one in a gap. The endpoint has the connection counted in: the caller
// calls Done on it once.
func Open(ctx context.Context, c *connect.Connector, svc *table.Service, port uint16, client netip.Addr) (net.Conn, *table.Endpoint, error) {
	var gap connect.Gap
	defer gap.End()
	var tried []*table.Endpoint
	for dials := 0; ; {
		ep := svc.PickBy(client, tried)
		if ep == nil {
			if err := c.Await(ctx, svc, tried, &gap); err != nil {
				return nil, nil, err
			}
			tried, dials = tried[:0], 0
			continue
		}
		conn, err := c.Dial(ctx, ep, port)
		if err == nil {
			return conn, ep, nil
		}
		ep.Done()
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if dials++; dials == mostDials {
			return nil, nil, err
		}
		gap.Last = err
		tried = append(tried, ep)
	}
}

// Tell begins a connection to a service with a PROXY header of the version, which tells it the client; 0: with
// none.
func Tell(service, client net.Conn, version int) error {
	if version == 0 {
		return nil
	}
	_, err := service.Write(proxyproto.Of(client).Append(nil, version))
	return err
}

// Carry copies both ways until both sides are done, one fails, or ctx ends, and closes both. A half
// that ends is passed on as such. First are bytes that were read from the client already: what either side
// reads is read from the connection beneath it.
func Carry(ctx context.Context, client, service net.Conn, first []byte) (in, out int64) {
	client, service = socket.Beneath(client), socket.Beneath(service)
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		service.Close()
	})
	defer stop()
	defer client.Close()
	defer service.Close()
	if len(first) > 0 {
		if _, err := service.Write(first); err != nil {
			return 0, 0
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { in = half(service, client) })
	out = half(client, service)
	wg.Wait()
	return in + int64(len(first)), out
}

// half copies one way: between TCP connections inside the kernel.
func half(to, from net.Conn) int64 {
	n, err := io.Copy(to, from)
	h, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || h.CloseWrite() != nil {
		to.Close()
		from.Close()
	}
	return n
}
