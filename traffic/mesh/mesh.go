// Package mesh carries what services say to each other by HTTP. The kernel leads their connections
// here: the original destination tells the callee, the source address the caller.
package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru/traffic/accesslog"
	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/forward"
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
	AccessLog *accesslog.Log // may be nil
	Introduce time.Duration  // how long a caller that nothing is known of yet waits to be known
	Drain     time.Duration  // longest wait for what is in flight when Run ends
	Linger    time.Duration  // how long idle connections stay open then
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
	queue  *serve.Queue
	limit  *serve.Limiter
}

// New makes a mesh. The listeners are its own from here on.
func New(cfg Config, t *table.Table, engine *forward.Engine, log *slog.Logger) *Mesh {
	if cfg.Original == nil {
		cfg.Original = Original
	}
	m := &Mesh{cfg: cfg, table: t, engine: engine, log: log, queue: serve.NewQueue(&net.TCPAddr{}), limit: serve.NewLimiter(mostCalls)}
	m.server = serve.New(serve.Config{Handler: m, ConnContext: withCall, Idle: idle}, log)
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
	group.Go(func() error { return m.server.Serve(m.queue) })
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
		m.server.Drain(limit, m.cfg.Linger)
		m.queue.Close()
		calls.Wait()
		return err
	})
	return group.Wait()
}

// call is what is known of a connection: where it goes and who began it.
type call struct {
	net.Conn
	to      netip.AddrPort
	caller  *table.Endpoint
	tracked func()
	leave   func()
}

// Tracked is called when the server knows of the connection.
func (c *call) Tracked() { c.tracked() }

// Close closes the connection and counts it out.
func (c *call) Close() error {
	c.leave()
	return c.Conn.Close()
}

type callKey struct{}

func withCall(ctx context.Context, c net.Conn) context.Context {
	if call, ok := c.(*call); ok {
		return context.WithValue(ctx, callKey{}, call)
	}
	return ctx
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
	first, c := m.introduce(ctx, conn)
	if c != nil && first == nil {
		c.tracked, c.leave = release, leave
		if m.queue.Put(c) {
			return
		}
	}
	release()
	defer leave()
	defer conn.Close()
	if first != nil {
		m.tunnel(ctx, first, c)
	}
}

// introduce finds out who calls whom, and gives the connection as it is when it speaks no HTTP. A nil
// call is none.
func (m *Mesh) introduce(ctx context.Context, conn net.Conn) (plain *sniff.Conn, c *call) {
	to, err := m.cfg.Original(conn)
	if err != nil {
		m.log.Debug("connection to the mesh from nowhere", "error", err)
		return nil, nil
	}
	callee, ok := m.table.Virtual(to.Addr())
	if !ok {
		return nil, nil
	}
	caller, ok := m.table.AwaitCaller(ctx, serve.Source(conn), m.cfg.Introduce)
	if !ok {
		m.log.Debug("call from an address that is no instance's", "from", conn.RemoteAddr(), "service", callee.ID)
		return nil, nil
	}
	first, speaks, err := sniff.Wrap(conn, firstWords)
	if err != nil {
		return nil, nil
	}
	c = &call{Conn: first, to: to, caller: caller}
	if speaks == sniff.Other {
		return first, c
	}
	return nil, c
}

// ServeHTTP carries one call. Who the addresses are and what the policy says is asked for each, as it
// may change while a connection lasts.
func (m *Mesh) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(callKey{}).(*call)
	if !ok {
		http.Error(w, "this is no call from service to service", http.StatusBadRequest)
		return
	}
	out := forward.Call{Door: forward.Mesh, Port: c.to.Port(), Caller: c.caller}
	if now, ok := m.table.Caller(serve.Source(c.Conn)); ok {
		out.Caller = now
	}
	if out.Service, ok = m.table.Virtual(c.to.Addr()); !ok {
		m.engine.Refuse(w, r, out, forward.NoRoute(forward.HostOf(r)))
		return
	}
	caller, callee := out.Caller.Service, out.Service
	switch {
	case !table.Allowed(caller, callee):
		m.engine.Refuse(w, r, out, forward.NotAllowed(callee.ID.Service, caller.ID.Service))
	case r.Method == http.MethodConnect:
		m.engine.Refuse(w, r, out, forward.BadRequest("The mesh carries no CONNECT requests."))
	default:
		m.engine.Serve(w, r, out)
	}
}

// tunnel carries a connection that does not speak HTTP although its port is said to.
func (m *Mesh) tunnel(ctx context.Context, conn *sniff.Conn, c *call) {
	first, client := conn.Take()
	defer client.Close()
	caller := c.caller
	callee, ok := m.table.Virtual(c.to.Addr())
	if !ok {
		return
	}
	entry := accesslog.Entry{
		Time: time.Now(), Door: forward.Mesh, Protocol: "tcp", Client: serve.Source(client),
		Caller: caller.Instance, Service: callee.ID,
	}
	defer func() {
		entry.Duration = time.Since(entry.Time)
		m.cfg.AccessLog.Write(entry)
	}()
	if !table.Allowed(caller.Service, callee) {
		entry.Error = caller.Service.ID.Service + " may not call " + callee.ID.Service
		return
	}
	service, ep, err := relay.Open(ctx, m.cfg.Connector, callee, c.to.Port())
	if err != nil {
		entry.Error = err.Error()
		return
	}
	defer ep.Done()
	entry.Release, entry.Instance = ep.Release, ep.Instance
	entry.In, entry.Out = relay.Carry(ctx, client, service, first)
}
