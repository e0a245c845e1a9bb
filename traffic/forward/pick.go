package forward

import (
	"errors"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/balance"
	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/table"
)

// pick chooses the endpoint for the next attempt.
func (x *exchange) pick() *table.Endpoint {
	x.picked = x.entry.Time
	if x.entry.Attempts > 0 || x.gap.Waited() || x.waited {
		x.picked = x.e.now()
	}
	ask := table.Ask{Now: x.picked.UnixNano()}
	s := x.call.Service.State()
	if b := &s.Balance; b.Policy == maru.Hash {
		ask.Key, ask.Keyed = x.key(b)
	}
	if x.entry.Attempts == 0 {
		if s.Split != nil {
			x.draw(s)
		}
		if s.Replay > 0 {
			x.record()
		}
	}
	ask.Release, ask.Baseline = x.trial.Release, x.trial.Baseline
	ep := x.call.Service.PickFor(ask, x.tried)
	if ep != nil {
		x.load = ep.InFlight()
	}
	return ep
}

// key gives what the service's requests are led by. A request that lacks it has none.
func (x *exchange) key(b *maru.Balance) (uint64, bool) {
	var v string
	switch {
	case b.Header != "":
		v = x.r.Header.Get(b.Header)
	case b.Cookie != "":
		v = x.r.Header.Cookie(b.Cookie)
	default:
		v = x.r.Name
	}
	return balance.Key(v), v != ""
}

// observe notes how the endpoint did until its answer began. What was the client's fault, or ended with
// the client, says nothing; that it could not be connected to is noted by the connector.
func (x *exchange) observe(ep *table.Endpoint, res *message.Response, err error) {
	now := x.entry.Time.Add(x.entry.Upstream)
	if err != nil {
		var refused *connect.Error
		var malformed *http1.Error
		cause := x.ended()
		if cause == nil && !errors.As(err, &refused) && !errors.As(err, &malformed) || errors.Is(cause, errTimeout) {
			ep.Answered(now.UnixNano(), true)
		}
		return
	}
	failed := failure(res.Status)
	if x.grpc {
		status := res.Header.Get("Grpc-Status")
		if failed = failed || failureGRPC(status); !failed && status == "" {
			x.took(ep, now.UnixNano())
			return // how it went is told at its end
		}
	}
	if !failed {
		x.took(ep, now.UnixNano())
	}
	ep.Answered(now.UnixNano(), failed)
}

// took notes the latency, unless the client had a part in it.
func (x *exchange) took(ep *table.Endpoint, now int64) {
	if x.sending {
		return
	}
	after := x.entry.Time.Add(x.entry.Upstream).Sub(x.picked)
	ep.Took(now, x.load, after)
	if x.endHedge == nil {
		x.call.Service.TailOf(after)
	}
}

// observeEnd notes what shows only when the answer ends: that it is cut short, and how gRPC went.
func (x *exchange) observeEnd(ep *table.Endpoint) {
	short := x.cut && x.entry.Error != errClientGone.Error() && x.entry.Error != ""
	if short || x.status != "" {
		ep.Answered(x.e.now().UnixNano(), short || failureGRPC(x.status))
	}
}

// failure tells whether a status says that the service failed.
func failure(status int) bool { return status >= 500 && status != 501 }

// failureGRPC is failure for gRPC: unknown, deadline exceeded, resource exhausted, internal, unavailable
// and data loss.
func failureGRPC(status string) bool {
	switch status {
	case "2", "4", "8", "13", "14", "15":
		return true
	}
	return false
}
