package table

import (
	"sync/atomic"
	"time"

	"github.com/marucloud/maru/traffic/balance"
)

// outlier is an endpoint's state of being passed over for its failures. Unlike that for refused
// connections, it is not ended by a connection that is made.
type outlier struct {
	until atomic.Int64 // Unix nanoseconds
	times atomic.Int32 // in quick succession
}

func (o *outlier) forget() {
	o.until.Store(0)
	o.times.Store(0)
}

// Took takes in how long after the choice a good answer began, of a request that was one of so many at
// the endpoint.
func (e *Endpoint) Took(now int64, inFlight int, after time.Duration) {
	e.meter.Took(now, inFlight, after)
}

// Answered takes in how a request that the endpoint got went. It failed if the endpoint died, did not
// answer in time, or answered that it failed.
func (e *Endpoint) Answered(now int64, failed bool) {
	if failed {
		e.failed(now)
	} else {
		e.meter.Succeeded(now)
	}
}

// failed counts a failure, and has the endpoint passed over if it is one too many.
func (e *Endpoint) failed(now int64) {
	row := e.meter.Failed(now)
	failing := e.meter.Failing(now)
	if e.outlier.until.Load() > now || !balance.Suspect(row, failing) {
		return
	}
	ready := e.Service.State().Ready()
	out, sum, others := 0, 0.0, 0
	for _, o := range ready {
		switch {
		case o == e:
		case o.outlier.until.Load() > now:
			out++
		default:
			sum += o.meter.Failing(now)
			others++
		}
	}
	if balance.Outlier(row, failing, sum/float64(max(1, others)), out, len(ready)) {
		e.eject(now)
	}
}

func (e *Endpoint) eject(now int64) {
	last := e.outlier.until.Load()
	times := e.outlier.times.Load()
	if times > 0 && now-last > 2*int64(balance.Ejection(int(times))) {
		times = 0 // it did well for longer than it was away
	}
	if e.outlier.until.CompareAndSwap(last, now+int64(balance.Ejection(int(times)+1))) {
		e.outlier.times.Store(times + 1)
		e.meter.Again()
	}
}

// leastShare is the share of its part that an instance begins with.
const leastShare = 0.1

// share is how much of its part the endpoint gets: less at first when it joins others, or comes back to
// them.
func (e *Endpoint) share(now int64, slowStart time.Duration) float64 {
	from := max(e.slowFrom.Load(), e.outlier.until.Load())
	if from == 0 || now-from >= int64(slowStart) {
		return 1
	}
	return max(leastShare, float64(now-from)/float64(slowStart))
}

// read gives what is known of the endpoint.
func (e *Endpoint) read(r *balance.Reading, now int64, s *State) {
	r.InFlight = e.InFlight()
	r.Out = e.out(now)
	r.Share = e.share(now, s.slowStart)
	r.Failing = e.meter.Failing(now)
	if s.policy == balance.Prequal {
		r.Latency, r.Age = e.meter.Latency(now, r.InFlight+1)
	}
}
