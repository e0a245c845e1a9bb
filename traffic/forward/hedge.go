package forward

import (
	"context"
	"errors"
	"time"

	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/table"
)

// leastHedge is the least time after which a second endpoint is asked.
const leastHedge = time.Millisecond

// hedgeAfter gives how long the endpoint has to answer before a second one is asked, too, where the service
// wants that: for a request that may be sent twice and has nothing to send but its header, by HTTP/1.1.
func (x *exchange) hedgeAfter() (time.Duration, bool) {
	r := &x.call.Service.State().Retry
	if r.HedgeAfter == 0 && r.HedgeAt == 0 || x.entry.Attempts > 1 || x.r.Body != nil || x.upgrade != "" || x.trial.Weight > 0 || !idempotent(x.r.Method) || x.overHTTP2() {
		return 0, false
	}
	d := r.HedgeAfter
	if d == 0 {
		d = time.Duration(x.call.Service.Tail.Get() * float64(time.Second))
	}
	return max(d, leastHedge), d > 0
}

// attempt is one of two requests that are sent for one.
type attempt struct {
	x      *exchange
	ep     *table.Endpoint
	picked time.Time
	load   int
	out    http1.Outgoing
	ctx    context.Context //nolint:containedctx // of one request
	cancel context.CancelFunc
	res    *message.Response
	err    error
}

func (x *exchange) attempt(ep *table.Endpoint) *attempt {
	x.prepare()
	a := &attempt{x: x, ep: ep, picked: x.picked, load: x.load, out: x.out}
	a.ctx, a.cancel = context.WithCancel(x.context())
	a.out.Now = a.picked
	a.out.Slow = func(cut func()) func() bool { return context.AfterFunc(a.ctx, cut) }
	a.out.Interim = func(int, message.Header) error { return nil } // only one answer is passed on
	a.out.Hurry = true
	return a
}

// run asks the endpoint.
func (a *attempt) run(done chan<- *attempt) {
	a.res, a.err = a.send()
	done <- a
}

func (a *attempt) send() (*message.Response, error) {
	pool, port := &a.x.e.conns(a.ep).http1, a.x.call.Port
	for fresh := false; ; fresh = true {
		var c *http1.Conn
		if !fresh {
			c = pool.Get(port, a.out.Now)
		}
		if c == nil {
			conn, err := a.x.e.connector.Dial(a.ctx, a.ep, port)
			if err != nil {
				return nil, err
			}
			c = http1.NewConn(pool, port, conn)
		}
		res, err := c.RoundTrip(&a.out)
		var failed *http1.Failed
		if err == nil || !errors.As(err, &failed) || !failed.Reused || a.ctx.Err() != nil {
			return res, err
		}
	}
}

// sendHedged asks the endpoint, and a second one if it does not answer in time. It gives the one that answered
// first; all of the other one is over then.
func (x *exchange) sendHedged(ep *table.Endpoint, after time.Duration) (*table.Endpoint, *message.Response, error) {
	began := x.picked
	done := make(chan *attempt, 2)
	first := x.attempt(ep)
	go first.run(done)
	won, left := x.second(first, done, after)
	if won == nil {
		won = <-done
		if left != nil && won == left {
			left = first
		}
	}
	if won.err != nil && left != nil {
		x.note(won)
		x.tried = append(x.tried, won.ep)
		won, left = <-done, nil
	}
	if left != nil {
		left.cancel()
		<-done
		x.note(left)
	}
	x.picked, x.load, x.endHedge = won.picked, won.load, won.cancel
	x.entry.Release, x.entry.Instance = won.ep.Release, won.ep.Instance
	now := x.e.now()
	x.entry.Upstream = now.Sub(x.entry.Time)
	if won.err == nil {
		x.call.Service.TailOf(now.Sub(began))
	}
	return won.ep, won.res, won.err
}

// second asks a second endpoint when it is time, if there is one and the budget has room. It gives the first one
// if that is done before, or else the second.
func (x *exchange) second(first *attempt, done chan *attempt, after time.Duration) (won, other *attempt) {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case a := <-done:
		return a, nil
	case <-timer.C:
	}
	x.tried = append(x.tried, first.ep)
	ep := x.pick()
	x.tried = x.tried[:len(x.tried)-1]
	if ep == nil {
		return nil, nil
	}
	if !x.call.Service.Retries.Spend(x.picked) {
		ep.Done()
		return nil, nil
	}
	x.entry.Attempts++
	a := x.attempt(ep)
	go a.run(done)
	return nil, a
}

// note notes how an attempt went whose answer is not the client's, and counts it out.
func (x *exchange) note(a *attempt) {
	defer a.ep.Done()
	a.cancel()
	now := x.e.now()
	var refused *connect.Error
	switch {
	case a.err == nil:
		if a.res.Body != nil {
			a.res.Body.Close()
		}
		fallthrough
	case errors.Is(a.err, context.Canceled), a.ctx.Err() != nil:
		a.ep.Took(now.UnixNano(), a.load, now.Sub(a.picked)) // at least
	case !errors.As(a.err, &refused):
		a.ep.Answered(now.UnixNano(), true)
	}
}
