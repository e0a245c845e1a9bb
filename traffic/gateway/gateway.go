// Package gateway answers requests from outside: it finds the service by host and path, and ends TLS.
package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/forward"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/policy"
	"github.com/marucloud/maru/traffic/proxyproto"
	"github.com/marucloud/maru/traffic/quic"
	"github.com/marucloud/maru/traffic/quota"
	"github.com/marucloud/maru/traffic/record"
	"github.com/marucloud/maru/traffic/serve"
	"github.com/marucloud/maru/traffic/table"
)

// Config says where the gateway listens and how it ends.
type Config struct {
	HTTP, HTTPS []net.Listener
	QUIC        []*net.UDPConn // for HTTP/3
	Trusted     []netip.Prefix // whose X-Forwarded-Proto is believed
	Proxies     proxyproto.Trusted
	Connector   *connect.Connector
	Records     *record.Ring   // may be nil
	Quotas      *quota.Counter // run by the gateway
	Drain       time.Duration  // longest wait for what is in flight when Run ends
	Linger      time.Duration  // how long idle connections stay open then
	// Certified returns when connections with TLS may be accepted, at the latest when ctx ends; nil: at
	// once. Until then they wait in the socket: without a certificate each would fail.
	Certified func(ctx context.Context)
	// Keep and Kept carry the keys of session tickets over a restart, as in traffic.Config; nil: new ones.
	Keep func(name string, f *os.File) error
	Kept func(name string) (*os.File, error)
}

// Gateway is the door from outside.
type Gateway struct {
	cfg     Config
	table   *table.Table
	engine  *forward.Engine
	server  *serve.Server
	certs   certificates
	clients clients
	tickets *keyring
	sealer  *sealer
	tls     *tls.Config
}

// New makes a gateway. The listeners are its own from here on.
func New(cfg Config, t *table.Table, engine *forward.Engine, log *slog.Logger) *Gateway {
	g := &Gateway{cfg: cfg, table: t, engine: engine, tickets: newTickets(), sealer: &sealer{ring: newSessions()}}
	g.certs.source = t.Certificates
	g.certs.log = log
	for _, ring := range []*keyring{g.tickets, g.sealer.ring} {
		ring.keep, ring.log = cfg.Keep, log
		ring.load(cfg.Kept, time.Now())
	}
	g.clients.base, g.clients.keys = g.newTLS(), g.tickets.derived
	t.Observe(g.clients.observe)
	g.tls = g.newTLS()
	g.tls.GetConfigForClient = g.hello
	g.tls.SetSessionTicketKeys(g.tickets.derived(""))
	g.server = serve.New(serve.Config{Handler: g, TLS: g.tls}, log)
	return g
}

// rotate has tickets made by the newest key.
func (g *Gateway) rotate() {
	g.tls.SetSessionTicketKeys(g.tickets.derived(""))
	g.clients.rotate()
}

// Run answers requests until ctx ends, and then finishes those in flight.
func (g *Gateway) Run(ctx context.Context) error {
	limit, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	d := &doors{g: g, limit: limit}
	var running sync.WaitGroup // the server knows them by its own count
	counting, counted := context.WithCancel(context.WithoutCancel(ctx))
	var quotas sync.WaitGroup
	quotas.Go(func() { g.cfg.Quotas.Run(counting) })
	defer quotas.Wait()
	defer counted()
	group, serving := errgroup.WithContext(ctx)
	var accepting errgroup.Group
	for _, l := range g.cfg.HTTP {
		accepting.Go(func() error { return serve.Accept(serving, l, &running, d.plain) })
	}
	for _, l := range g.cfg.HTTPS {
		accepting.Go(func() error {
			if g.cfg.Certified != nil {
				g.cfg.Certified(serving)
			}
			return serve.Accept(serving, l, &running, d.secure)
		})
	}
	for _, pc := range g.cfg.QUIC {
		accepting.Go(func() error {
			if g.cfg.Certified != nil {
				g.cfg.Certified(serving)
			}
			if serving.Err() != nil {
				return nil
			}
			return g.server.ServeQUIC(serving, pc, quic.Holder{Keep: g.cfg.Keep, Kept: g.cfg.Kept})
		})
	}
	group.Go(accepting.Wait)
	group.Go(func() error {
		g.tickets.run(serving, g.rotate)
		return nil
	})
	group.Go(func() error {
		g.sealer.ring.run(serving, g.sealer.forget)
		return nil
	})
	group.Go(func() error {
		<-serving.Done()
		for _, l := range slices.Concat(g.cfg.HTTP, g.cfg.HTTPS) {
			l.Close()
		}
		err := accepting.Wait() // what was accepted is known from here on
		timer := time.AfterFunc(g.cfg.Drain, func() {
			cut(fmt.Errorf("gateway: requests still in flight after %s", g.cfg.Drain))
		})
		defer timer.Stop()
		g.server.Drain(limit, serve.Linger(ctx, g.cfg.Linger))
		d.passing.Wait()
		return err
	})
	return group.Wait()
}

// Serve carries a request to the service that its host and path lead to.
func (g *Gateway) Serve(c message.Client, r *message.Request) error {
	call := forward.Call{Door: forward.Gateway}
	if r.TLS != nil && r.Major < 3 && len(g.cfg.QUIC) > 0 {
		call.AltSvc = alternative(r.Host)
	}
	host := message.HostName(r.Host)
	if r.Method == "CONNECT" {
		return g.engine.Refuse(c, r, call, forward.BadRequest("The gateway carries no CONNECT requests."))
	}
	if list := g.table.Challenges(); list != nil {
		if answer := challenged(*list, host, r); answer != "" {
			return tell(c, r, answer)
		}
	}
	m, err := g.table.Route(host, r)
	switch {
	case err != nil:
		return g.engine.Refuse(c, r, call, forward.BadRequest(err.Error()))
	case m == nil:
		return g.engine.Refuse(c, r, call, forward.NoRoute(host))
	}
	call.Service, call.Route = m.Service, &m.Route
	if m.Route.PassesThrough() {
		return g.elsewhere(c, r, host, call)
	}
	if !g.plain(r, m) {
		if f := g.secure(r, host, m, &call); f != nil {
			return g.engine.Refuse(c, r, call, *f)
		}
	}
	switch {
	case !table.Allowed(nil, m.Service):
		return g.engine.Refuse(c, r, call, forward.NotAllowed(m.Service.ID.Service, table.Gateway))
	case m.Policy != nil:
		return g.underPolicy(c, r, call, m.Policy)
	}
	return g.carry(c, r, call)
}

// elsewhere answers a request for a host whose TLS its service ends: it is not to be asked here.
func (g *Gateway) elsewhere(c message.Client, r *message.Request, host string, call forward.Call) error {
	if r.TLS != nil || len(g.cfg.HTTPS) == 0 || g.fronted(r) {
		return g.engine.Refuse(c, r, call, forward.PassedThrough(host))
	}
	return g.engine.Refuse(c, r, call, forward.Moved(g.secureAddress(r)))
}

func (g *Gateway) carry(c message.Client, r *message.Request, call forward.Call) error {
	if call.Port = call.Route.Port; call.Port == 0 {
		call.Port = call.Service.State().HTTPPort()
	}
	if call.Port == 0 {
		return g.engine.Refuse(c, r, call, forward.NoPort(call.Service.ID.Service))
	}
	return g.engine.Serve(c, r, call)
}

// underPolicy carries a request as far as its route's policy lets it.
func (g *Gateway) underPolicy(c message.Client, r *message.Request, call forward.Call, chain *policy.Chain) error {
	env := policy.Env{
		Scheme: g.scheme(r), Service: call.Service.ID, Secrets: call.Service.State().Secrets, Sealer: g.sealer, Quotas: g.cfg.Quotas,
	}
	if chain.Asks() {
		env.Ask = asker{g, c, call}.ask
	}
	x := chain.Begin(c, r, g.engine.Source(r), env)
	defer x.End()
	if a := chain.Run(x); a != nil {
		return g.engine.Refuse(x.Client, r, call, forward.Failure{
			Status: a.Status, Title: a.Title, What: a.What, Do: a.Do, Reason: a.Reason, After: seconds(a.After), Header: a.Header, Bare: a.Bare, Body: a.Body,
		})
	}
	call.Target, call.Host, call.Edits, call.Timeout, call.HTTP2 = x.Out.Target, x.Out.Host, x.Out.Edits, x.Out.Time, x.Out.HTTP2
	return g.carry(x.Client, r, call)
}

// seconds gives a time in whole seconds, and never less than it is.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
