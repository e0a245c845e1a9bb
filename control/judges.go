package control

import (
	"context"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
	"github.com/marucloud/maru/plan/judge"
)

// defaultWarmup is for how long latencies do not count after a step, which brought cold instances.
const defaultWarmup = 10 * time.Second

// evenly is the chance of either release to get a request that is replayed.
const evenly = 0.5

// verdictsEvery is how often figures that decide nothing are told.
const verdictsEvery = 250 * time.Millisecond

// judges weigh the evidence about releases that traffic shifts to. They live in memory: what they have not
// said yet begins anew with the process.
type judges struct {
	mu    sync.Mutex
	by    map[maru.ServiceID]*judging
	fresh chan struct{} // there is something to tell
}

// judging is one release's case.
type judging struct {
	judge    *judge.Judge
	old, new int
	weight   int   // percent, of the newest request
	atWeight int64 // requests to the new release since
	told     bool
}

func newJudges() *judges {
	return &judges{by: map[maru.ServiceID]*judging{}, fresh: make(chan struct{}, 1)}
}

// Evidence takes how requests went that were drawn between two releases. What is of no rollout that goes on
// is forgotten. A release that turns out to be worse is taken back by the plan that follows at once.
func (c *Controller) Evidence(e maru.Evidence) {
	shift, on := c.view.shifts(e.Service, e.Old, e.New)
	if !on {
		return
	}
	c.judges.mu.Lock()
	j := c.judges.by[e.Service]
	if j == nil || j.old != e.Old || j.new != e.New {
		j = &judging{judge: judge.New(shift.limits), old: e.Old, new: e.New}
		c.judges.by[e.Service] = j
	}
	for _, r := range e.Records {
		if r.Baseline != shift.baseline {
			continue // it says nothing of what is compared
		}
		if r.At.Before(shift.warm) {
			r.Latency = -1
		}
		j.observe(r)
	}
	j.told = false
	verdict := j.verdict()
	c.judges.mu.Unlock()
	if verdict.Outcome == maru.JudgedRegressed {
		c.view.judged(e.Service, verdict)
		return
	}
	select {
	case c.judges.fresh <- struct{}{}:
	default:
	}
}

func (j *judging) observe(r maru.EvidenceRecord) {
	if percent := int(math.Round(r.Weight * 100)); percent != j.weight {
		j.weight, j.atWeight = percent, 0
	}
	switch {
	case r.Replayed:
		r.Weight = evenly
	case r.Baseline:
		r.Weight = float64(j.weight) / float64(j.weight+maru.BaselineWeight(j.weight))
	}
	if r.New {
		j.atWeight++
	}
	j.judge.Observe(judge.Record{Canary: r.New, Failed: r.Failed, Latency: r.Latency, At: r.At, Weight: r.Weight})
}

func (j *judging) verdict() maru.Verdict {
	v := j.judge.Verdict()
	return maru.Verdict{
		Outcome: string(v.Outcome), Why: v.Why, Release: j.new, Against: j.old, Requests: v.Figures.Canary.Requests,
		Weight: j.weight, AtWeight: j.atWeight, At: v.Figures.Ended,
	}
}

// tellVerdicts has apps planned for as evidence comes in.
func (c *Controller) tellVerdicts(ctx context.Context) error {
	for {
		select {
		case <-c.judges.fresh:
		case <-ctx.Done():
			return nil
		}
		for id, v := range c.takeVerdicts() {
			c.view.judged(id, v)
		}
		if !pause(ctx, verdictsEvery) {
			return nil
		}
	}
}

// takeVerdicts gives what was not told yet, and drops the cases that are closed.
func (c *Controller) takeVerdicts() map[maru.ServiceID]maru.Verdict {
	out := map[maru.ServiceID]maru.Verdict{}
	for id, j := range c.judges.all() {
		if _, on := c.view.shifts(id, j.old, j.new); !on {
			c.judges.close(id, j)
		} else if v, fresh := c.judges.tell(j); fresh {
			out[id] = v
		}
	}
	return out
}

func (x *judges) all() map[maru.ServiceID]*judging {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.by)
}

func (x *judges) close(id maru.ServiceID, j *judging) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.by[id] == j {
		delete(x.by, id)
	}
}

func (x *judges) tell(j *judging) (v maru.Verdict, fresh bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if j.told {
		return v, false
	}
	j.told = true
	return j.verdict(), true
}

// judgedBy is how a shift of traffic is judged.
type judgedBy struct {
	limits   judge.Limits
	warm     time.Time // from when on latencies count
	baseline bool      // only what went to a baseline or to the new release counts
}

// shifts tells whether a rollout shifts a service's traffic between the two releases, and how that is judged.
func (v *view) shifts(id maru.ServiceID, old, fresh int) (by judgedBy, on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.apps[id.Scope]
	if a == nil || a.newest == nil || a.services[id.Service].Shifting != fresh {
		return by, false
	}
	e := a.newest.Services[id.Service]
	if e.Phase != maru.Shifting || e.From != old || e.To != fresh {
		return by, false
	}
	shift := a.releases[id.Service][fresh].Spec.Update.Shift
	if shift == nil || shift.Judge == nil {
		return by, false
	}
	by.baseline = plan.Compared(a.releases[id.Service][old], a.releases[id.Service][fresh])
	by.warm = e.Stepped.Add(defaultWarmup)
	if shift.Warmup != 0 {
		by.warm = e.Stepped.Add(max(0, shift.Warmup))
	}
	l := shift.Judge
	by.limits = judge.Limits{
		Errors: l.Errors, P50: l.P50, P95: l.P95, P99: l.P99, AnyLatency: l.AnyLatency,
		ErrorMargin: l.ErrorMargin, ErrorRatioMargin: l.ErrorRatioMargin, LatencyMargin: l.LatencyMargin,
	}
	return by, true
}

// judged takes a verdict, and has the app planned for.
func (v *view) judged(id maru.ServiceID, verdict maru.Verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.apps[id.Scope]
	if a == nil {
		return
	}
	a.verdicts = with(a.verdicts, id.Service, verdict)
	a.tell()
	v.touched(id.Scope)
}
