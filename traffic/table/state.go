package table

import (
	"slices"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/balance"
	"github.com/marucloud/maru/traffic/limit"
)

// State is one moment of a service. It is immutable.
type State struct {
	maru.ServiceTraffic
	Removed bool // the service is gone

	policy    balance.Policy
	slowStart time.Duration
	limiter   *limit.Limiter // nil: any number of requests
	priority  limit.Priority // of the calls it makes

	all   []*Endpoint // as listed, by instance
	whole *group      // those that are ready, of the releases that serve
	parts []part      // by release; only when more than one has a ready endpoint
	wheel *wheel      // turns through parts
	sides *sides      // in place of parts while a rollout shifts traffic

	matches []*Match // as Routes
}

// part is a release's share.
type part struct {
	release, weight int
	*group
}

// Limiter gives what bounds the service's requests, or nil.
func (s *State) Limiter() *limit.Limiter { return s.limiter }

// Priority is that of the calls the service makes.
func (s *State) Priority() limit.Priority { return s.priority }

// Endpoints gives every instance that is listed, ready or not.
func (s *State) Endpoints() []*Endpoint { return s.all }

// Ready gives the endpoints that take requests now.
func (s *State) Ready() []*Endpoint { return s.whole.ready }

// Protocol gives what is spoken on a port as declared or recognized: "" when nobody said.
func (s *State) Protocol(port uint16, transport maru.Protocol) string {
	for _, p := range s.Ports {
		if p.Port == port && (p.Protocol == transport || p.Protocol == "" && transport == maru.TCP) {
			return p.App
		}
	}
	return ""
}

// HTTPPort gives the first port that speaks HTTP, else the first TCP port, else 0.
func (s *State) HTTPPort() uint16 {
	for _, p := range s.Ports {
		if p.Protocol != maru.UDP && IsHTTP(p.App) {
			return p.Port
		}
	}
	for _, p := range s.Ports {
		if p.Protocol != maru.UDP && p.App != "tcp" {
			return p.Port
		}
	}
	for _, p := range s.Ports {
		if p.Protocol != maru.UDP {
			return p.Port
		}
	}
	return 0
}

// ProxyProtocol is the version of the PROXY header that connections to a TCP port begin with; 0: none.
func (s *State) ProxyProtocol(port uint16) int {
	for _, p := range s.Ports {
		if p.Port == port && p.Protocol != maru.UDP {
			return p.ProxyProtocol
		}
	}
	return 0
}

// IsHTTP tells whether a port's App is one of those that are balanced by request.
func IsHTTP(app string) bool { return app == "http" || app == "h2c" || app == "grpc" }

// Starting tells whether an instance is listed that is neither ready nor draining.
func (s *State) Starting() bool {
	return slices.ContainsFunc(s.all, func(e *Endpoint) bool { return !e.Ready() && !e.Draining() })
}

// newState makes the state of what the control plane says, out of the endpoints that were there.
func newState(svc *Service, old *State, traffic maru.ServiceTraffic, idle func(*Endpoint)) (s *State, fresh, gone []*Endpoint) {
	s = &State{ServiceTraffic: traffic, policy: policyOf(traffic.Balance), slowStart: slowStart(traffic.Balance), whole: &group{}}
	s.priority = priorityOf(traffic.Priority)
	if old != nil && old.Limits == traffic.Limits {
		s.limiter = old.limiter
	} else {
		s.limiter = newLimiter(traffic.Limits, len(traffic.Endpoints))
	}
	before := map[string]*Endpoint{}
	if old != nil {
		for _, e := range old.all {
			before[e.Instance] = e
		}
	}
	for _, t := range traffic.Endpoints {
		e := before[t.Instance]
		if e == nil || e.Addresses != t.Addresses || e.Socket != t.Socket || e.Release != t.Release || e.Baseline != t.Baseline {
			e = &Endpoint{Service: svc, Instance: t.Instance, Release: t.Release, Baseline: t.Baseline, Addresses: t.Addresses, Socket: t.Socket, key: balance.Key(t.Instance), idle: idle}
			fresh = append(fresh, e)
		} else {
			delete(before, t.Instance)
		}
		s.all = append(s.all, e)
	}
	for _, e := range before {
		gone = append(gone, e)
	}
	if traffic.Split != nil {
		s.divide(old)
	} else {
		s.group(traffic)
	}
	if old != nil && s.wheel != nil && old.wheel != nil && slices.Equal(old.wheel.weights, s.wheel.weights) {
		s.wheel = old.wheel
	}
	return s, fresh, gone
}

// divide groups the endpoints by the two releases that requests are shared out between, with the baseline apart.
func (s *State) divide(before *State) {
	old, fresh, base := &group{}, &group{}, &group{}
	for i, t := range s.ServiceTraffic.Endpoints {
		switch {
		case !t.Ready || t.Draining:
			continue
		case t.Baseline:
			base.ready = append(base.ready, s.all[i])
		case t.Release == s.Split.Old:
			old.ready = append(old.ready, s.all[i])
		case t.Release == s.Split.New:
			fresh.ready = append(fresh.ready, s.all[i])
		}
	}
	s.sides = newSides(s.ServiceTraffic, old, fresh, base, before)
	s.whole.ready = slices.Concat(old.ready, base.ready)
	if s.sides.weight > 0 {
		s.whole.ready = slices.Concat(old.ready, base.ready, fresh.ready)
	}
}

func (s *State) group(traffic maru.ServiceTraffic) {
	weights := map[int]int{}
	for _, w := range traffic.Serving {
		if w.Weight > 0 {
			weights[w.Release] += w.Weight
		}
	}
	at := map[int]int{}
	for i, t := range traffic.Endpoints {
		weight, serves := weights[t.Release]
		if !t.Ready || t.Draining || len(weights) > 0 && !serves {
			continue
		}
		s.whole.ready = append(s.whole.ready, s.all[i])
		if len(weights) < 2 {
			continue
		}
		n, ok := at[t.Release]
		if !ok {
			n = len(s.parts)
			at[t.Release] = n
			s.parts = append(s.parts, part{release: t.Release, weight: weight, group: &group{}})
		}
		s.parts[n].ready = append(s.parts[n].ready, s.all[i])
	}
	if len(s.parts) < 2 {
		s.parts = nil
		return
	}
	slices.SortFunc(s.parts, func(a, b part) int { return a.release - b.release })
	shares := make([]int, len(s.parts))
	for i, p := range s.parts {
		shares[i] = p.weight
	}
	s.wheel = newWheel(shares)
}

// defaultSlowStart is for how long an instance that joins others gets less than its part.
const defaultSlowStart = 10 * time.Second

func slowStart(b maru.Balance) time.Duration {
	if b.SlowStart == 0 {
		return defaultSlowStart
	}
	return max(0, b.SlowStart)
}

func policyOf(b maru.Balance) balance.Policy {
	switch b.Policy {
	case maru.RoundRobin:
		return balance.RoundRobin
	case maru.LeastRequests:
		return balance.LeastRequests
	case maru.Hash:
		return balance.Hash
	}
	return balance.Prequal
}

// startEach is how many requests for each instance a service whose bound is not found yet may have.
const startEach = 16

func newLimiter(l maru.Limits, instances int) *limit.Limiter {
	if l.Concurrency == 0 {
		return nil
	}
	return limit.New(limit.Config{
		Requests: max(0, l.Concurrency), Start: startEach * max(1, instances), Queue: l.Queue, Wait: l.Wait,
	})
}

func priorityOf(p maru.Priority) limit.Priority {
	switch p {
	case maru.LowPriority:
		return limit.Low
	case maru.HighPriority:
		return limit.High
	}
	return limit.Normal
}
