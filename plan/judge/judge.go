package judge

import "time"

// Record is one request to one of the two releases, as the gateway or the mesh saw it end. Leave out
// requests that neither release could help, such as those that the client broke off, and those that
// began before the canary had its share.
type Record struct {
	Canary  bool
	Failed  bool
	Latency time.Duration // of a request that did not fail; negative: it does not count
	At      time.Time     // when it ended
	// Weight is the chance with which the canary was drawn when this request went to one of the two
	// releases: above 0 and below 1.
	Weight float64
}

// Outcome is what the evidence so far says.
type Outcome string

// The outcomes. Regressed is final; Equivalent may still become Regressed, when a canary gets worse.
const (
	Continue   Outcome = "continue"   // not enough evidence yet
	Equivalent Outcome = "equivalent" // within the margins of the old release, and under the ceilings
	Regressed  Outcome = "regressed"  // worse than the old release, or above a ceiling that the old one keeps
)

// Judge holds the evidence about one canary. Not for concurrent use.
type Judge struct {
	outcome    Outcome
	reason     reason
	weight     float64 // that the bets are prepared for
	refreshAt  int64
	canary     side
	stable     side
	began, end time.Time
	failures   failureGame
	latency    latencyGame
	ceilings   []*limit
	errorsSame marginGame
	slowSame   []quantileGame
	forgive    float64 // what a canary's latency is multiplied by, for the tolerance …
	within     float64 // … and for the margin
	anyLatency bool
}

// side is what is known of one release.
type side struct {
	counts
	latencies histogram // of requests that did not fail
}

type counts struct{ requests, failures int64 }

func (c *counts) add(failed bool) {
	c.requests++
	if failed {
		c.failures++
	}
}

func (c *counts) ratio() float64 {
	if c.requests == 0 {
		return 0
	}
	return float64(c.failures) / float64(c.requests)
}

// limit is a ceiling from the file: of the error ratio, or of a quantile of the latency.
type limit struct {
	ceiling
	level    float64
	quantile float64 // 0: it is one of the error ratio
	latency  time.Duration
}

func (l *limit) record(r Record) {
	switch {
	case l.quantile == 0:
		l.observe(r.Canary, r.Failed)
	case !r.Failed && r.Latency >= 0:
		l.observe(r.Canary, r.Latency > l.latency)
	}
}

// New makes a judge without evidence. The limits are valid.
func New(l Limits) *Judge {
	l = l.orDefault()
	j := &Judge{
		outcome:    Continue,
		failures:   newFailureGame(),
		latency:    newLatencyGame(),
		errorsSame: newMarginGame(margin{ratio: 1, plus: l.ErrorMargin}, margin{ratio: 1 + l.ErrorRatioMargin}),
		forgive:    1 / (1 + tolerance),
		within:     1 / (1 + l.LatencyMargin),
		anyLatency: l.AnyLatency,
	}
	if l.Errors > 0 {
		j.ceilings = append(j.ceilings, &limit{ceiling: newCeiling(l.Errors), level: ceilingLevel})
	}
	for _, q := range l.quantiles() {
		q.ceiling = newCeiling(1 - q.quantile)
		q.level = ceilingLevel / float64(len(l.quantiles()))
		j.ceilings = append(j.ceilings, &q)
	}
	for _, q := range []float64{0.5, 0.9, 0.99} {
		j.slowSame = append(j.slowSame, newQuantileGame(q))
	}
	return j
}

// Observe takes a record into account and says what the evidence shows now. Records come in the order
// in which the requests ended. Once the canary has regressed, further records change nothing, and
// those with a weight of 0 or 1 never do: there was nothing to compare them with.
//
// Evidence is looked at after each of the canary's records; those of the old release in between count
// with the next one.
func (j *Judge) Observe(r Record) Outcome {
	if compared := r.Weight > 0 && r.Weight < 1; !compared || j.outcome == Regressed {
		return j.outcome
	}
	j.prepare(r)
	j.count(r)
	j.failures.observe(r.Canary, r.Failed)
	j.errorsSame.observe(r.Canary, r.Failed)
	for _, c := range j.ceilings {
		c.record(r)
	}
	if !r.Failed && !j.anyLatency && r.Latency >= 0 {
		j.observeLatency(r)
	}
	if r.Canary {
		j.look()
	}
	return j.outcome
}

func (j *Judge) observeLatency(r Record) {
	seen := bucketOf(r.Latency)
	forgiven, within := seen, seen
	if r.Canary {
		j.canary.latencies.add(seen)
		forgiven = bucketOf(time.Duration(float64(r.Latency) * j.forgive))
		within = bucketOf(time.Duration(float64(r.Latency) * j.within))
	} else {
		j.stable.latencies.add(seen)
	}
	j.latency.observe(r.Canary, forgiven)
	for i := range j.slowSame {
		g := &j.slowSame[i]
		g.observe(r.Canary, within >= g.at)
	}
}

func (j *Judge) count(r Record) {
	if j.began.IsZero() {
		j.began = r.At
	}
	j.end = r.At
	if r.Canary {
		j.canary.add(r.Failed)
	} else {
		j.stable.add(r.Failed)
	}
}

// prepare sets the bets for the next record by what was seen before it: at ever longer distances, and
// when the weight is another one.
func (j *Judge) prepare(r Record) {
	seen := j.canary.requests + j.stable.requests
	due := seen >= j.refreshAt
	if !due && r.Weight == j.weight {
		return
	}
	weight := r.Weight
	j.weight = weight
	j.failures.prepare(weight, j.stable.counts)
	j.latency.prepare(weight, &j.stable.latencies)
	j.errorsSame.prepare(weight)
	for _, c := range j.ceilings {
		c.prepare(weight)
	}
	for i := range j.slowSame {
		j.slowSame[i].prepare(weight, &j.stable.latencies)
	}
	if due {
		j.refreshAt = seen + min(max(seen/4, 8), 4096)
		j.divide()
	}
}

func (j *Judge) divide() {
	j.failures.divide()
	j.latency.divide()
	j.errorsSame.divide()
	for i := range j.slowSame {
		j.slowSame[i].divide()
	}
}
