package publish

import (
	"context"
	"net"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/forward"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/record"
	"github.com/marucloud/maru/traffic/relay"
	"github.com/marucloud/maru/traffic/serve"
	"github.com/marucloud/maru/traffic/sniff"
	"github.com/marucloud/maru/traffic/table"
)

// firstWords is how long a connection to a port that speaks HTTP may be silent before it is taken
// for HTTP.
const firstWords = 5 * time.Second

// accepter gives what is done with a connection to a place.
func (p *Ports) accepter(ctx context.Context, at place) func(net.Conn) func() {
	return func(conn net.Conn) func() {
		release := p.server.Hold()
		return func() { p.accept(ctx, conn, at, release) }
	}
}

func (p *Ports) accept(ctx context.Context, conn net.Conn, at place, release func()) {
	leave := p.server.Opening(conn)
	told, err := p.cfg.Proxies.Accept(conn)
	leave()
	c, ok := p.holder(at)
	if !ok || err != nil {
		release()
		conn.Close()
		return
	}
	conn = told
	if state := c.service.State(); !table.IsHTTP(state.Protocol(c.target, maru.TCP)) || state.ProxyProtocol(c.target) != 0 {
		release()
		p.carry(ctx, conn, nil, c)
		return
	}
	first, speaks, err := sniff.Read(conn, firstWords)
	switch {
	case err != nil:
		release()
		conn.Close()
	case speaks == sniff.Other:
		release()
		p.carry(ctx, conn, first, c)
	default:
		p.server.Take(serve.Conn{Conn: conn, First: first, Origin: at, End: release})
	}
}

// Serve carries a request that came to a published port.
func (p *Ports) Serve(client message.Client, r *message.Request) error {
	at, _ := r.Origin.(place)
	c, ok := p.holder(at)
	call := forward.Call{Door: forward.Published, Service: c.service, Port: c.target}
	switch {
	case !ok:
		return p.engine.Refuse(client, r, forward.Call{Door: forward.Published}, forward.NoRoute(message.HostName(r.Host)))
	case r.Method == "CONNECT":
		return p.engine.Refuse(client, r, call, forward.BadRequest("CONNECT requests are not carried."))
	}
	return p.engine.Serve(client, r, call)
}

// carry carries a connection as it is.
func (p *Ports) carry(ctx context.Context, client net.Conn, first []byte, c claim) {
	defer client.Close()
	entry := record.Record{Time: time.Now(), Door: forward.Published, Protocol: "tcp", Client: serve.Source(client), Service: c.service.ID}
	service, ep, err := relay.Open(ctx, p.cfg.Connector, c.service, c.target, entry.Client)
	if err != nil {
		entry.Error = err.Error()
	} else {
		entry.Release, entry.Instance = ep.Release, ep.Instance
		if err := relay.Tell(service, client, c.service.State().ProxyProtocol(c.target)); err != nil {
			entry.Error = err.Error()
			service.Close()
		} else {
			entry.In, entry.Out = relay.Carry(ctx, client, service, first)
		}
		ep.Done()
	}
	entry.Duration = time.Since(entry.Time)
	p.cfg.Records.Put(&entry)
}
