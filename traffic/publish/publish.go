package publish

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/forward"
	"github.com/marucloud/maru/traffic/proxyproto"
	"github.com/marucloud/maru/traffic/record"
	"github.com/marucloud/maru/traffic/serve"
	"github.com/marucloud/maru/traffic/table"
)

// Config says where sockets come from and how they end.
type Config struct {
	Listen    func(ctx context.Context, network, address string) (*os.File, error)
	Release   func(network, address string) // may be nil
	Connector *connect.Connector
	Proxies   proxyproto.Trusted
	Records   *record.Ring  // may be nil
	Drain     time.Duration // longest wait for what is in flight when Run ends
	Linger    time.Duration // how long idle connections stay open then
}

// Ports holds published ports.
type Ports struct {
	cfg    Config
	table  *table.Table
	engine *forward.Engine
	log    *slog.Logger
	server *serve.Server

	mu     sync.Mutex
	claims map[place][]claim // in the order in which they came
	dirty  map[place]struct{}
	wake   chan struct{}
}

// place is a port of the host.
type place struct {
	network string // tcp, udp
	address string // as for Listen
}

func (p place) String() string { return "host port " + p.address + "/" + p.network }

// claim is a service's wish for a place.
type claim struct {
	service *table.Service
	target  uint16
}

// New makes the ports and has the table tell of those that are wished for.
func New(cfg Config, t *table.Table, engine *forward.Engine, log *slog.Logger) *Ports {
	p := &Ports{
		cfg: cfg, table: t, engine: engine, log: log,
		claims: map[place][]claim{}, dirty: map[place]struct{}{}, wake: make(chan struct{}, 1),
	}
	p.server = serve.New(serve.Config{Handler: p}, log)
	t.Observe(p.observe)
	return p
}

func wishes(s *table.State) map[place]uint16 {
	if s == nil || len(s.Publish) == 0 {
		return nil
	}
	w := make(map[place]uint16, len(s.Publish))
	for _, port := range s.Publish {
		if port.HostPort == 0 {
			continue
		}
		network := string(maru.TCP)
		if port.Target.Protocol == maru.UDP {
			network = string(maru.UDP)
		}
		w[place{network, net.JoinHostPort(hostIP(port.HostIP), strconv.Itoa(int(port.HostPort)))}] = port.Target.Port
	}
	return w
}

// hostIP gives one spelling for each address; all of both families is "".
func hostIP(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a != netip.IPv6Unspecified() {
		return a.String()
	}
	return ""
}

func (p *Ports) observe(svc *table.Service, before, after *table.State) {
	old, now := wishes(before), wishes(after)
	if len(old) == 0 && len(now) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, target := range now {
		if have, ok := old[at]; !ok || have != target {
			p.put(at, claim{svc, target})
		}
	}
	for at := range old {
		if _, ok := now[at]; !ok {
			p.drop(at, svc)
		}
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Ports) put(at place, c claim) {
	list := slices.Clone(p.claims[at])
	if i := slices.IndexFunc(list, func(have claim) bool { return have.service == c.service }); i >= 0 {
		list[i] = c
	} else {
		list = append(list, c)
	}
	p.claims[at] = list
	p.dirty[at] = struct{}{}
}

func (p *Ports) drop(at place, svc *table.Service) {
	list := slices.DeleteFunc(slices.Clone(p.claims[at]), func(c claim) bool { return c.service == svc })
	if len(list) == 0 {
		delete(p.claims, at)
	} else {
		p.claims[at] = list
	}
	p.dirty[at] = struct{}{}
	p.table.Solved(svc.ID, at.String())
}

// holder gives the claim that has the place.
func (p *Ports) holder(at place) (claim, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if list := p.claims[at]; len(list) > 0 {
		return list[0], true
	}
	return claim{}, false
}

// Run holds the ports until ctx ends, and then finishes what is in flight.
func (p *Ports) Run(ctx context.Context) error {
	limit, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	k := keeper{p: p, limit: limit, open: map[place]*opened{}, retry: map[place]int{}}
	k.run(ctx)
	timer := time.AfterFunc(p.cfg.Drain, func() {
		cut(fmt.Errorf("published ports: connections still in flight after %s", p.cfg.Drain))
	})
	defer timer.Stop()
	p.server.Drain(limit, serve.Linger(ctx, p.cfg.Linger))
	k.carrying.Wait()
	return nil
}
