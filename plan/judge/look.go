package judge

import "time"

// reason is what decided.
type reason int

const (
	none reason = iota
	moreFailures
	slowerThanOld
	overLimit
)

// look weighs the evidence.
func (j *Judge) look() {
	switch {
	case j.failures.total() >= 1/compareLevel:
		j.outcome, j.reason = Regressed, moreFailures
	case j.latency.total() >= 1/compareLevel:
		j.outcome, j.reason = Regressed, slowerThanOld
	case j.exceeded() != nil:
		j.outcome, j.reason = Regressed, overLimit
	case j.same() && j.underCeilings():
		j.outcome = Equivalent
	default:
		j.outcome = Continue
	}
}

// exceeded is the ceiling that the canary is shown to be above, if any.
func (j *Judge) exceeded() *limit {
	for _, l := range j.ceilings {
		if l.chance() <= l.level {
			return l
		}
	}
	return nil
}

// same tells whether each margin has been shown to hold.
func (j *Judge) same() bool {
	same := j.errorsSame.look()
	if j.anyLatency {
		return same
	}
	for i := range j.slowSame {
		same = j.slowSame[i].look() && same
	}
	return same
}

func (j *Judge) underCeilings() bool {
	for _, l := range j.ceilings {
		if over, _ := l.over(); over {
			return false
		}
	}
	return true
}

// Figures are what a verdict rests on.
type Figures struct {
	Canary, Stable Side
	// Errors and Latency are p-values at any moment: in at most this share of rollouts of equal releases
	// would such a difference ever be seen.
	Errors, Latency float64
	Began, Ended    time.Time // of the records: when the first and the last one ended
}

// Side is one release's part of the figures. Quantiles are those of requests that did not fail, exact to
// 3%; 0 without any.
type Side struct {
	Requests, Failures int64
	P50, P95, P99      time.Duration
}

// Figures gives the figures so far.
func (j *Judge) Figures() Figures {
	return Figures{
		Canary: j.canary.figures(), Stable: j.stable.figures(),
		Errors: min(1, 1/j.failures.total()), Latency: min(1, 1/j.latency.total()),
		Began: j.began, Ended: j.end,
	}
}

func (s *side) figures() Side {
	f := Side{Requests: s.requests, Failures: s.failures}
	if s.latencies.n > 0 {
		f.P50 = middle(s.latencies.quantile(0.5))
		f.P95 = middle(s.latencies.quantile(0.95))
		f.P99 = middle(s.latencies.quantile(0.99))
	}
	return f
}
