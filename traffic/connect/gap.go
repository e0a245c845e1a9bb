package connect

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/marucloud/maru/traffic/table"
)

const (
	// refusedHold is how long a request waits for endpoints that are said to be ready and refuse
	// connections. What crashed is seen within this time.
	refusedHold = 3 * time.Second
	// goodBefore is how recently an endpoint must have been connected to for it to be worth that wait.
	goodBefore = 30 * time.Second

	firstPause   = 10 * time.Millisecond
	longestPause = 250 * time.Millisecond

	holdsPerService = 1024
)

// ErrNoEndpoint says that a service has no instance that is ready.
var ErrNoEndpoint = errors.New("no instance is ready")

// Gap is a wait for an endpoint: a service that was ready a moment ago is likely to be so again in a
// moment, as between the old and the new instance of what has one at a time, or while a crashed one
// is started again. The zero value has not waited yet.
type Gap struct {
	Last error // what the last endpoint that was tried said

	in    *Connector
	svc   *table.Service
	until time.Time // while none is ready
	brief time.Time // while those that are ready refuse
	pause time.Duration
}

// End must be called when the wait is over.
func (g *Gap) End() {
	if g.in != nil {
		g.in.waiting.Add(-1)
		g.svc.Waiting.Add(-1)
		g.in = nil
	}
}

// Waited tells whether there was a wait.
func (g *Gap) Waited() bool { return !g.until.IsZero() }

// begin counts the wait in, unless too many wait already.
func (g *Gap) begin(c *Connector, svc *table.Service) bool {
	if g.in != nil {
		return true
	}
	if int(c.waiting.Add(1)) > c.cfg.HoldRequests {
		c.waiting.Add(-1)
		return false
	}
	if svc.Waiting.Add(1) > holdsPerService {
		svc.Waiting.Add(-1)
		c.waiting.Add(-1)
		return false
	}
	g.in, g.svc = c, svc
	return true
}

// Await waits until it is worth to choose among the service's endpoints again. It gives the error
// that ends the wait: g.Last, or ErrNoEndpoint, or the cause of ctx.
func (c *Connector) Await(ctx context.Context, svc *table.Service, tried []*table.Endpoint, g *Gap) error {
	now := time.Now()
	changed := svc.Changed()
	state := svc.State()
	if slices.ContainsFunc(state.Ready(), func(ep *table.Endpoint) bool { return !slices.Contains(tried, ep) }) {
		return nil
	}
	refused := len(state.Ready()) > 0
	if g.until.IsZero() {
		g.until, g.brief = now.Add(c.cfg.Hold), now.Add(min(refusedHold, c.cfg.Hold))
		g.pause = firstPause
	}
	end := g.until
	if refused {
		end = g.brief
	}
	reason := g.Last
	if reason == nil || !refused {
		reason = ErrNoEndpoint
	}
	if !now.Before(end) || !c.worthIt(svc, tried, refused, now) {
		return reason
	}
	if !g.begin(c, svc) {
		return reason
	}
	wake := end
	if refused && now.Add(g.pause).Before(end) {
		wake = now.Add(g.pause)
		g.pause = min(2*g.pause, longestPause)
	}
	timer := time.NewTimer(wake.Sub(now))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
		if !refused {
			return reason
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func (c *Connector) worthIt(svc *table.Service, tried []*table.Endpoint, refused bool, now time.Time) bool {
	if svc.State().Removed {
		return false
	}
	if !refused {
		return svc.WasReady(now.Add(-c.cfg.Hold))
	}
	return slices.ContainsFunc(tried, func(ep *table.Endpoint) bool { return ep.ConnectedSince(now.Add(-goodBefore)) })
}
