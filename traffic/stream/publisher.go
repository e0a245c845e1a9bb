package stream

import (
	"container/list"
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/marucloud/maru"
)

// Publisher holds the traffic state and tells any number of data planes. It is for many goroutines.
type Publisher struct {
	cfg PublisherConfig

	mu           sync.Mutex
	synced       bool
	version      uint64
	entries      map[maru.ServiceID]*list.Element
	changed      *list.List // of *entry, by version: the last changed is at the back
	certificates []maru.Certificate
	certVersion  uint64
	resolvers    []netip.AddrPort
	resVersion   uint64
	challenges   []maru.Challenge
	chalVersion  uint64
	followers    map[*follower]struct{}
	draining     map[string]*drain // by instance
	removed      []grave           // by version
	wake         chan struct{}     // closed at the next change
	heard        chan struct{}     // closed at the next report, or when a data plane leaves
}

// PublisherConfig says who is told what data planes report.
type PublisherConfig struct {
	// Drained is called once for each draining instance when every data plane that is connected knows
	// that it drains and has nothing in flight there any more. While no proxy is connected nothing is
	// known. It is called from several goroutines, and should not block. May be nil.
	Drained func(instance string)
	// Report is called with each report of a proxy, in their order, likewise. May be nil.
	Report func(report maru.TrafficReport)
	// Evidence is called with how requests went that were drawn between two releases, likewise. May be nil.
	Evidence func(maru.Evidence)
}

// entry is the last state of one service. A removed one stays until every follower was told.
type entry struct {
	id      maru.ServiceID
	traffic maru.ServiceTraffic
	removed bool
	version uint64
}

// NewPublisher makes a publisher with no services. Nobody is told anything before [Publisher.Sync].
func NewPublisher(cfg PublisherConfig) *Publisher {
	return &Publisher{
		cfg: cfg, entries: map[maru.ServiceID]*list.Element{}, changed: list.New(),
		followers: map[*follower]struct{}{}, draining: map[string]*drain{}, wake: make(chan struct{}),
		heard: make(chan struct{}),
	}
}

// Sync says that everything there is has been set once. Until then data planes are told nothing, and
// keep what they had: a control plane that just started must not take away what it does not know yet.
func (p *Publisher) Sync() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = true
	p.bump()
}

// Set puts the state of services in the place of their earlier ones and gives the version that has
// it. The values are the publisher's from here on.
func (p *Publisher) Set(services ...maru.ServiceTraffic) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(services) == 0 {
		return p.version
	}
	p.bump()
	for _, s := range services {
		p.put(&entry{id: s.Service, traffic: s, version: p.version})
	}
	return p.version
}

// Remove takes services away.
func (p *Publisher) Remove(ids ...maru.ServiceID) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	bumped := false
	for _, id := range ids {
		e, ok := p.entries[id]
		if !ok || value(e).removed {
			continue
		}
		if !bumped {
			p.bump()
			bumped = true
		}
		p.put(&entry{id: id, removed: true, version: p.version})
		p.removed = append(p.removed, grave{id, p.version})
	}
	p.forget()
	return p.version
}

// SetCertificates puts the TLS certificates in the place of the earlier ones. None leaves those that
// data planes have.
func (p *Publisher) SetCertificates(certificates []maru.Certificate) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bump()
	p.certificates, p.certVersion = certificates, p.version
	return p.version
}

// Challenge puts what authorities ask of the gateway in the place of what they asked before, and returns
// when every data plane answers it. Unavailable: no proxy is connected, so that nobody would.
func (p *Publisher) Challenge(ctx context.Context, all []maru.Challenge) error {
	p.mu.Lock()
	p.bump()
	p.challenges, p.chalVersion = append([]maru.Challenge{}, all...), p.version // not nil: that says nothing
	proxies := false
	for f := range p.followers {
		proxies = proxies || f.proxy
	}
	p.mu.Unlock()
	if !proxies && len(all) > 0 {
		return maru.Errorf(maru.Unavailable, "no proxy is there to answer an authority's challenge")
	}
	return p.InForce(ctx)
}

// SetResolvers says whom to ask for names that are not Maru's.
func (p *Publisher) SetResolvers(resolvers []netip.AddrPort) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(p.resolvers, resolvers) {
		return p.version
	}
	p.bump()
	p.resolvers, p.resVersion = resolvers, p.version
	return p.version
}

// Version is that of the last change.
func (p *Publisher) Version() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}

// Service gives the state that is published of a service.
func (p *Publisher) Service(id maru.ServiceID) (maru.ServiceTraffic, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[id]
	if !ok || value(e).removed {
		return maru.ServiceTraffic{}, false
	}
	return value(e).traffic, true
}

// Services gives the state that is published of all services, the one that changed last at the end.
func (p *Publisher) Services() []maru.ServiceTraffic {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []maru.ServiceTraffic
	for e := p.changed.Front(); e != nil; e = e.Next() {
		if !value(e).removed {
			all = append(all, value(e).traffic)
		}
	}
	return all
}

func value(e *list.Element) *entry { return e.Value.(*entry) } //nolint:forcetypeassert // the list holds nothing else

// bump begins a new version. The caller holds the lock.
func (p *Publisher) bump() {
	p.version++
	close(p.wake)
	p.wake = make(chan struct{})
}

func (p *Publisher) put(fresh *entry) {
	var before maru.ServiceTraffic
	if e, ok := p.entries[fresh.id]; ok {
		before = value(e).traffic
		e.Value = fresh
		p.changed.MoveToBack(e)
	} else {
		p.entries[fresh.id] = p.changed.PushBack(fresh)
	}
	p.watchDrain(before, fresh)
}

// grave is where a removed service was.
type grave struct {
	id      maru.ServiceID
	version uint64
}

// forget drops removed services that every follower was told of.
func (p *Publisher) forget() {
	oldest := p.version
	for f := range p.followers {
		oldest = min(oldest, f.sent)
	}
	n := 0
	for ; n < len(p.removed) && p.removed[n].version <= oldest; n++ {
		g := p.removed[n]
		if e, ok := p.entries[g.id]; ok && value(e).removed && value(e).version == g.version {
			p.changed.Remove(e)
			delete(p.entries, g.id)
		}
	}
	p.removed = slices.Delete(p.removed, 0, n)
}

// Follow tells a data plane everything, then each change, until ctx ends or the data plane fails,
// which is the error.
func (p *Publisher) Follow(ctx context.Context, plane maru.DataPlane) error {
	f := p.join(false)
	defer p.leave(f)
	for {
		u, err := p.next(ctx, f)
		if err != nil {
			return err
		}
		if err := plane.Update(u); err != nil {
			return maru.Errorf(maru.KindOf(err), "traffic update %d: %w", u.Version, err)
		}
		p.acked(f, maru.TrafficReport{Version: u.Version})
	}
}
