package traffic

import (
	"context"
	"iter"
	"log/slog"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/histogram"
	"github.com/marucloud/maru/traffic/accesslog"
	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/discovery"
	"github.com/marucloud/maru/traffic/forward"
	"github.com/marucloud/maru/traffic/gateway"
	"github.com/marucloud/maru/traffic/mesh"
	"github.com/marucloud/maru/traffic/publish"
	"github.com/marucloud/maru/traffic/quota"
	"github.com/marucloud/maru/traffic/record"
	"github.com/marucloud/maru/traffic/serve"
	"github.com/marucloud/maru/traffic/socket"
	"github.com/marucloud/maru/traffic/stream"
	"github.com/marucloud/maru/traffic/table"
)

// Proxy is a data plane. It implements [maru.DataPlane].
type Proxy struct {
	cfg        Config
	log        *slog.Logger
	table      *table.Table
	engine     *forward.Engine
	records    *record.Ring
	evidence   *record.Evidence
	access     *accesslog.Log
	gateway    *gateway.Gateway
	mesh       *mesh.Mesh
	ports      *publish.Ports
	names      *discovery.Server
	subscriber *stream.Subscriber
}

// New makes a proxy and puts the state in force that is known from before. It starts nothing; the
// sockets in cfg are its own from here on.
func New(cfg Config, log *slog.Logger) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	records := record.NewRing(0)
	p := &Proxy{cfg: cfg, log: log, table: table.New(), records: records, evidence: record.NewEvidence(), access: accesslog.New(cfg.AccessLog, cfg.LogFormat, records, log)}
	connector := connect.New(connect.Config{Hold: cfg.Hold, HoldRequests: cfg.HoldRequests})
	p.engine = forward.New(forward.Config{Connector: connector, Records: records, Evidence: p.evidence, Trusted: cfg.TrustedProxies}, log)
	p.gateway = gateway.New(gateway.Config{
		HTTP: cfg.listeners(socket.HTTP), HTTPS: cfg.listeners(socket.HTTPS), QUIC: cfg.quic(), Drain: cfg.Drain, Linger: cfg.Linger,
		Trusted: cfg.TrustedProxies, Proxies: cfg.ProxyProtocol, Connector: connector, Records: records, Quotas: quota.New(cfg.State, log), Certified: p.certified, Keep: cfg.Keep, Kept: cfg.Kept,
	}, p.table, p.engine, log)
	p.mesh = mesh.New(mesh.Config{
		Listeners: cfg.listeners(socket.Mesh), Original: cfg.Original, Connector: connector, Records: records,
		Introduce: cfg.Introduce, Drain: cfg.Drain, Linger: cfg.Linger,
	}, p.table, p.engine, log)
	p.ports = publish.New(publish.Config{
		Listen: cfg.Listen, Release: cfg.Release, Connector: connector, Proxies: cfg.ProxyProtocol, Records: records,
		Drain: cfg.Drain, Linger: cfg.Linger,
	}, p.table, p.engine, log)
	p.names = discovery.New(discovery.Config{
		UDP: cfg.packets(socket.DNSUDP), TCP: cfg.listeners(socket.DNSTCP), Ranges: cfg.Ranges, Resolvers: cfg.Resolvers,
		Introduce: cfg.Introduce,
	}, p.table, log)
	p.subscriber = stream.NewSubscriber(stream.SubscriberConfig{
		Server: cfg.Server, Folder: cfg.State, Keep: cfg.Keep, Kept: cfg.Kept, Evidence: p.evidence,
	}, p.table, log)
	if err := p.subscriber.Load(); err != nil {
		log.Error("last known traffic state can't be read; waiting for the server", "error", err)
	}
	return p, nil
}

func (c Config) listeners(kind string) []net.Listener {
	var list []net.Listener
	for _, name := range sortedKeys(c.Listeners) {
		if socket.Kind(name) == kind {
			list = append(list, c.Listeners[name])
		}
	}
	return list
}

func (c Config) packets(kind string) []net.PacketConn {
	var list []net.PacketConn
	for _, name := range sortedKeys(c.Packets) {
		if socket.Kind(name) == kind {
			list = append(list, c.Packets[name])
		}
	}
	return list
}

// quic gives the sockets for HTTP/3.
func (c Config) quic() []*net.UDPConn {
	var list []*net.UDPConn
	for _, pc := range c.packets(socket.QUIC) {
		if udp, ok := pc.(*net.UDPConn); ok {
			list = append(list, udp)
		}
	}
	return list
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// ErrNoSuccessor is the cause for Run's context to end with when no other proxy follows: then idle
// connections are closed at once.
var ErrNoSuccessor = serve.ErrNoSuccessor

// Run carries traffic until ctx ends. Then it takes no further connections, finishes what is in
// flight within the drain time, and returns. Sockets that others hold too stay open for the next proxy.
func (p *Proxy) Run(ctx context.Context) error {
	// What serves ends first; what it needs meanwhile, the stream and the log, goes on until then.
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var support errgroup.Group
	support.Go(func() error { return p.access.Run(late) })
	support.Go(func() error { return p.subscriber.Run(late) })

	p.settle(ctx, p.subscriber.Services())
	p.refresh(ctx)
	doors, serving := errgroup.WithContext(ctx)
	select {
	case <-p.subscriber.Certificates(): // ready before the first answer, not about then
		if err := p.announce(serving); err != nil {
			doors.Go(func() error { return err })
		}
	default:
		doors.Go(func() error { return p.announce(serving) })
	}
	doors.Go(func() error { return p.gateway.Run(serving) })
	doors.Go(func() error { return p.mesh.Run(serving) })
	doors.Go(func() error { return p.ports.Run(serving) })
	doors.Go(func() error { return p.names.Run(serving) })
	var ending time.Time
	doors.Go(func() error {
		<-serving.Done()
		ending = time.Now()
		p.subscriber.Handover()
		return nil
	})
	err := doors.Wait()
	// Upgraded connections are left; the drain time counts from the same moment for them.
	limit, cut := context.WithDeadline(context.WithoutCancel(ctx), ending.Add(p.cfg.Drain))
	defer cut()
	p.engine.Drain(limit)
	end()
	if e := support.Wait(); err == nil {
		err = e
	}
	return err
}

// settle waits until something is known, but no longer than it is allowed to.
func (p *Proxy) settle(ctx context.Context, known <-chan struct{}) {
	timer := time.NewTimer(p.cfg.Settle)
	defer timer.Stop()
	select {
	case <-known:
	case <-timer.C:
		p.log.Warn("the server does not tell its traffic state; going on with what is known", "after", p.cfg.Settle)
	case <-ctx.Done():
	}
}

// announce tells that the proxy accepts at all its doors, as soon as it may at the one with TLS.
func (p *Proxy) announce(ctx context.Context) error {
	if p.certified(ctx); ctx.Err() != nil || p.cfg.Ready == nil {
		return nil
	}
	return p.cfg.Ready()
}

// freshWithin is how long a server may take to tell what is new since the state was kept.
const freshWithin = 150 * time.Millisecond

// refresh gives a server that is there the time to tell what is new: what was kept may be older than what
// somebody was told is ready.
func (p *Proxy) refresh(ctx context.Context) {
	timer := time.NewTimer(freshWithin)
	defer timer.Stop()
	select {
	case <-p.subscriber.Told():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// certified waits for certificates likewise.
func (p *Proxy) certified(ctx context.Context) { p.settle(ctx, p.subscriber.Certificates()) }

// Update puts a step of state in force.
func (p *Proxy) Update(u maru.TrafficUpdate) error { return p.table.Update(u) }

// Report tells what is in force.
func (p *Proxy) Report() maru.TrafficReport { return p.table.Report() }

// Count is how many requests of one kind a service has had since the proxy started.
type Count struct {
	Service maru.ServiceID
	table.Key
	Retries uint64
	Latency histogram.Counts // its total is the number of requests
}

// Counts gives what was counted of every service that had a request.
func (p *Proxy) Counts() iter.Seq[Count] {
	return func(yield func(Count) bool) {
		for svc := range p.table.Services() {
			for key, c := range svc.Stats.All() {
				if !yield(Count{Service: svc.ID, Key: key, Retries: c.Retries.Load(), Latency: c.Latency.Counts()}) {
					return
				}
			}
		}
	}
}

// Records gives what becomes of each request from now on. Close the reader when done.
func (p *Proxy) Records() *record.Reader { return p.records.Reader() }

// Evidence takes how requests went that were drawn between two releases, where no server is told of it.
func (p *Proxy) Evidence() []maru.Evidence { return p.evidence.Take() }

// LogDropped is how many lines of the access log did not fit.
func (p *Proxy) LogDropped() uint64 { return p.access.Dropped() }
