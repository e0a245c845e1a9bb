// Package mesh carries what services say to each other by HTTP. The kernel leads their connections
// here: the original destination tells the callee, the source address the caller.
package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/forward"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/record"
	"github.com/marucloud/maru/traffic/relay"
	"github.com/marucloud/maru/traffic/serve"
	"github.com/marucloud/maru/traffic/sniff"
	"github.com/marucloud/maru/traffic/table"
)

// Config says where the mesh listens and how it ends.
type Config struct {
	Listeners []net.Listener
	Original  func(net.Conn) (netip.AddrPort, error) // nil: Original
	Connector *connect.Connector
	Records   *record.Ring  // may be nil
	Introduce time.Duration // how long a caller that nothing is known of yet waits to be known
	Drain     time.Duration // longest wait for what is in flight when Run ends
	Linger    time.Duration // how long idle connections stay open then
}

const (
	// firstWords is how long a connection may be silent before it is taken for HTTP.
	firstWords = 5 * time.Second
	idle       = 10 * time.Minute
	// mostCalls is how many connections one instance may have here.
	mostCalls = 4096
)

// Mesh is the door for calls from service to service.
type Mesh struct {
	cfg    Config
	table  *table.Table
	engine *forward.Engine
	log    *slog.Logger
	server *serve.Server
	limit  *serve.Limiter
}

// New makes a mesh. The listeners are its own from here on.
func New(cfg Config, t *table.Table, engine *forward.Engine, log *slog.Logger) *Mesh {
	if cfg.Original == nil {
		cfg.Original = Original
	}
	m := &Mesh{cfg: cfg, table: t, engine: engine, log: log, limit: serve.NewLimiter(mostCalls)}
	m.server = serve.New(serve.Config{Handler: m, Idle: idle}, log)
	return m
}

// Run carries calls until ctx ends, and then finishes those in flight.
func (m *Mesh) Run(ctx context.Context) error {
	limit, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	group, serving := errgroup.WithContext(ctx)
	var calls sync.WaitGroup
	var accepting errgroup.Group
	for _, l := range m.cfg.Listeners {
		accepting.Go(func() error {
			return serve.Accept(serving, l, &calls, func(c net.Conn) func() { return m.begin(limit, c) })
		})
	}
	group.Go(accepting.Wait)
	group.Go(func() error {
		<-serving.Done()
		for _, l := range m.cfg.Listeners {
			l.Close()
		}
		err := accepting.Wait()
		timer := time.AfterFunc(m.cfg.Drain, func() {
			cut(fmt.Errorf("mesh: calls still in flight after %s", m.cfg.Drain))
		})
		defer timer.Stop()
		m.server.Drain(limit, serve.Linger(ctx, m.cfg.Linger))
		calls.Wait()
		return err
	})
	return group.Wait()
}

// call is what is known of a connection: where it goes, and who began it from where.
type call struct {
	to     netip.AddrPort
	from   netip.Addr
	caller *table.Endpoint
}

func (m *Mesh) begin(ctx context.Context, conn net.Conn) func() {
	release := m.server.Hold()
	return func() { m.accept(ctx, conn, release) }
}

// accept looks at a new connection and hands it on: to the HTTP server, which then releases it, or
// as it is to an endpoint.
func (m *Mesh) accept(ctx context.Context, conn net.Conn, release func()) {
	leave := m.limit.Enter(serve.Source(conn))
	if leave == nil {
		release()
		conn.Close()
		return
	}
	first, speaks, c := m.introduce(ctx, conn)
	switch {
	case c == nil:
		release()
		leave()
		conn.Close()
	case speaks == sniff.Other:
		release()
		defer leave()
		m.tunnel(ctx, conn, first, c)
	default:
		m.server.Take(serve.Conn{Conn: conn, First: first, Origin: c, End: func() { release(); leave() }})
	}
}

// introduce finds out who calls whom, and what the connection speaks. A nil call is none.
func (m *Mesh) introduce(ctx context.Context, conn net.Conn) (first []byte, speaks sniff.Protocol, c *call) {
	to, err := m.cfg.Original(conn)
	if err != nil {
		m.log.Debug("connection to the mesh from nowhere", "error", err)
		return nil, 0, nil
	}
	callee, ok := m.table.Virtual(to.Addr())
	if !ok {
		return nil, 0, nil
	}
	from := serve.Source(conn)
	caller, ok := m.table.AwaitCaller(ctx, from, m.cfg.Introduce)
	if !ok {
		m.log.Debug("call from an address that is no instance's", "from", conn.RemoteAddr(), "service", callee.ID)
		return nil, 0, nil
	}
	first, speaks, err = sniff.Read(conn, firstWords)
	if err != nil {
		return nil, 0, nil
	}
	return first, speaks, &call{to: to, from: from, caller: caller}
}

// Serve carries one call. Who the addresses are and what the policy says is asked for each, as it
// may change while a connection lasts.
func (m *Mesh) Serve(client message.Client, r *message.Request) error {
	c, ok := r.Origin.(*call)
	if !ok {
		return m.engine.Refuse(client, r, forward.Call{Door: forward.Mesh}, forward.BadRequest("This is no call from service to service."))
	}
	out := forward.Call{Door: forward.Mesh, Port: c.to.Port(), Caller: c.caller}
	if now, ok := m.table.Caller(c.from); ok {
		out.Caller = now
	}
	if out.Service, ok = m.table.Virtual(c.to.Addr()); !ok {
		return m.engine.Refuse(client, r, out, forward.NoRoute(message.HostName(r.Host)))
	}
	caller, callee := out.Caller.Service, out.Service
	switch {
	case !table.Allowed(caller, callee):
		return m.engine.Refuse(client, r, out, forward.NotAllowed(callee.ID.Service, caller.ID.Service))
	case r.Method == "CONNECT":
		return m.engine.Refuse(client, r, out, forward.BadRequest("The mesh carries no CONNECT requests."))
	}
	return m.engine.Serve(client, r, out)
}

// tunnel carries a connection that does not speak HTTP although its port is said to.
func (m *Mesh) tunnel(ctx context.Context, client net.Conn, first []byte, c *call) {
	defer client.Close()
	caller := c.caller
	callee, ok := m.table.Virtual(c.to.Addr())
	if !ok {
		return
	}
	entry := record.Record{
		Time: time.Now(), Door: forward.Mesh, Protocol: "tcp", Client: c.from,
		Caller: caller.Instance, From: caller.Service.ID, Service: callee.ID,
	}
	defer func() {
		entry.Duration = time.Since(entry.Time)
		m.cfg.Records.Put(&entry)
	}()
	if !table.Allowed(caller.Service, callee) {
		entry.Error = caller.Service.ID.Service + " may not call " + callee.ID.Service
		return
	}
	if callee.State().Limited(caller.Service) {
		entry.Error = caller.Service.ID.Service + " may call " + callee.ID.Service + " by HTTP only"
		return
	}
	service, ep, err := relay.Open(ctx, m.cfg.Connector, callee, c.to.Port(), c.from)
	if err != nil {
		entry.Error = err.Error()
		return
	}
	defer ep.Done()
	entry.Release, entry.Instance = ep.Release, ep.Instance
	entry.In, entry.Out = relay.Carry(ctx, client, service, first)
}
