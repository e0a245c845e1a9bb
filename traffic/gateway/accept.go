package gateway

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/marucloud/maru/traffic/forward"
	"github.com/marucloud/maru/traffic/record"
	"github.com/marucloud/maru/traffic/relay"
	"github.com/marucloud/maru/traffic/serve"
	"github.com/marucloud/maru/traffic/sniff"
	"github.com/marucloud/maru/traffic/table"
)

// helloTime is how long a ClientHello may take.
const helloTime = 5 * time.Second

// doors takes connections in.
type doors struct {
	g       *Gateway
	limit   context.Context // ends when what is in flight is to be cut
	passing sync.WaitGroup  // connections whose TLS services end, or may end
}

// plain gives what is done with a connection in the clear.
func (d *doors) plain(conn net.Conn) func() {
	release := d.g.server.Hold()
	return func() {
		if told := d.told(conn, release); told != nil {
			d.g.server.Take(serve.Conn{Conn: told, End: release})
		}
	}
}

// secure gives what is done with a connection with TLS.
func (d *doors) secure(conn net.Conn) func() {
	release := d.g.server.Hold()
	d.passing.Add(1)
	return func() {
		first, ended := d.look(conn, release)
		d.passing.Done()
		if ended != nil {
			d.g.server.TakeTLS(serve.Conn{Conn: sniff.Again(ended, first), End: release})
		}
	}
}

// look carries a connection whose TLS a service ends. It gives one whose TLS is ended here, with what was read
// of it; nil for one that is over.
func (d *doors) look(conn net.Conn, release func()) (first []byte, ended net.Conn) {
	told := d.told(conn, release)
	if told == nil || !d.g.table.Passing() {
		return nil, told
	}
	leave := d.g.server.Opening(conn)
	name, first, err := sniff.ServerName(told, helloTime)
	leave()
	if err != nil {
		return first, told // and is answered as ever
	}
	m := d.g.table.Passthrough(name)
	if m == nil {
		return first, told
	}
	release()
	d.g.pass(d.limit, told, first, name, m)
	return nil, nil
}

// told gives the connection with the addresses that a trusted proxy tells; nil for one that is over.
func (d *doors) told(conn net.Conn, release func()) net.Conn {
	if len(d.g.cfg.Proxies) == 0 {
		return conn
	}
	leave := d.g.server.Opening(conn)
	told, err := d.g.cfg.Proxies.Accept(conn)
	leave()
	if err != nil {
		conn.Close()
		release()
		return nil
	}
	return told
}

// pass carries a connection with TLS as it is.
func (g *Gateway) pass(ctx context.Context, client net.Conn, first []byte, name string, m *table.Match) {
	defer client.Close()
	svc := m.Service
	entry := record.Record{
		Time: time.Now(), Door: forward.Gateway, Protocol: "tls", Scheme: "https", Host: name, Client: serve.Source(client), Service: svc.ID, Route: m.Route.HostName(),
	}
	defer func() {
		entry.Duration = time.Since(entry.Time)
		g.cfg.Records.Put(&entry)
	}()
	if !table.Allowed(nil, svc) || svc.State().Limited(nil) {
		entry.Error = table.Gateway + " may not call " + svc.ID.Service + ", or by HTTP only"
		return
	}
	service, ep, err := relay.Open(ctx, g.cfg.Connector, svc, m.Route.Port, entry.Client)
	if err != nil {
		entry.Error = err.Error()
		return
	}
	defer ep.Done()
	entry.Release, entry.Instance = ep.Release, ep.Instance
	if err := relay.Tell(service, client, svc.State().ProxyProtocol(m.Route.Port)); err != nil {
		entry.Error = err.Error()
		service.Close()
		return
	}
	entry.In, entry.Out = relay.Carry(ctx, client, service, first)
}
