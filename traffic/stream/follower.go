package stream

import (
	"context"

	"github.com/marucloud/maru"
)

// follower is a data plane that is told of changes.
type follower struct {
	proxy  bool // carries requests and reports them
	full   bool // was told everything once
	sent   uint64
	report maru.TrafficReport // its last
}

func (p *Publisher) join(proxy bool) *follower {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &follower{proxy: proxy}
	p.followers[f] = struct{}{}
	return f
}

func (p *Publisher) leave(f *follower) {
	p.mu.Lock()
	delete(p.followers, f)
	p.hear()
	p.forget()
	free := p.free()
	p.mu.Unlock()
	p.tellDrained(free)
}

// next waits until there is something that the follower was not told, and gives it.
func (p *Publisher) next(ctx context.Context, f *follower) (maru.TrafficUpdate, error) {
	for {
		p.mu.Lock()
		if p.synced && (!f.full || f.sent < p.version) {
			u := p.since(f)
			f.full, f.sent = true, p.version
			p.forget()
			p.mu.Unlock()
			return u, nil
		}
		wake := p.wake
		p.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return maru.TrafficUpdate{}, context.Cause(ctx)
		}
	}
}

// since gives what changed since the follower was told, by walking back only as far as that.
func (p *Publisher) since(f *follower) maru.TrafficUpdate {
	u := maru.TrafficUpdate{Version: p.version, Full: !f.full}
	for e := p.changed.Back(); e != nil && (u.Full || value(e).version > f.sent); e = e.Prev() {
		switch en := value(e); {
		case !en.removed:
			u.Services = append(u.Services, en.traffic)
			if !f.proxy { // who carries no requests has no use for them
				u.Services[len(u.Services)-1].Secrets = nil
			}
		case !u.Full:
			u.Removed = append(u.Removed, en.id)
		}
	}
	if u.Full || p.certVersion > f.sent {
		u.Certificates = p.certificates
	}
	if f.proxy && (u.Full || p.chalVersion > f.sent) {
		list := p.challenges
		u.Challenges = &list
	}
	if u.Full || p.resVersion > f.sent {
		u.Resolvers = p.resolvers
	}
	return u
}

// drain is an instance that is to finish what it has.
type drain struct {
	version uint64 // since which it drains
	told    bool   // that it is free
}

// watchDrain notes which instances of a service began or ceased to drain.
func (p *Publisher) watchDrain(before maru.ServiceTraffic, now *entry) {
	still := map[string]bool{}
	for _, ep := range now.traffic.Endpoints {
		if !ep.Draining {
			continue
		}
		still[ep.Instance] = true
		if p.draining[ep.Instance] == nil {
			p.draining[ep.Instance] = &drain{version: now.version}
		}
	}
	for _, ep := range before.Endpoints {
		if ep.Draining && !still[ep.Instance] {
			delete(p.draining, ep.Instance)
		}
	}
}

// acked takes a follower's report.
func (p *Publisher) acked(f *follower, r maru.TrafficReport) {
	p.mu.Lock()
	f.report = r
	p.hear()
	free := p.free()
	p.mu.Unlock()
	p.tellDrained(free)
}

// free gives the draining instances that nobody uses any more and that were not told of before.
func (p *Publisher) free() []string {
	proxies := false
	for f := range p.followers {
		proxies = proxies || f.proxy
	}
	if !proxies {
		return nil
	}
	var list []string
	for instance, d := range p.draining {
		if d.told || !p.unused(instance, d.version) {
			continue
		}
		d.told = true
		list = append(list, instance)
	}
	return list
}

func (p *Publisher) unused(instance string, since uint64) bool {
	for f := range p.followers {
		if f.report.Version < since || f.report.InFlight[instance] > 0 {
			return false
		}
	}
	return true
}

func (p *Publisher) tellDrained(instances []string) {
	if p.cfg.Drained == nil {
		return
	}
	for _, i := range instances {
		p.cfg.Drained(i)
	}
}

// hear wakes those who wait for reports. The caller holds the lock.
func (p *Publisher) hear() {
	close(p.heard)
	p.heard = make(chan struct{})
}

// InForce waits until every data plane that is connected has in force what has been set so far.
func (p *Publisher) InForce(ctx context.Context) error {
	for wanted := p.Version(); ; {
		p.mu.Lock()
		heard := p.heard
		p.mu.Unlock()
		if acked, planes := p.Acked(); planes == 0 || acked >= wanted {
			return nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Acked gives the version that every data plane has in force, and how many there are; with none, 0.
func (p *Publisher) Acked() (version uint64, planes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	version = p.version
	for f := range p.followers {
		version = min(version, f.report.Version)
	}
	if len(p.followers) == 0 {
		return 0, 0
	}
	return version, len(p.followers)
}

// Reports gives the last report of each proxy that is connected.
func (p *Publisher) Reports() []maru.TrafficReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []maru.TrafficReport
	for f := range p.followers {
		if f.proxy {
			list = append(list, f.report)
		}
	}
	return list
}
