package judge

import (
	"time"

	"github.com/marucloud/maru"
)

// What there is without another limit.
const (
	// DefaultErrorMargin is the share of all requests by which a canary may fail more often and still be
	// equivalent.
	DefaultErrorMargin = 0.005
	// DefaultErrorRatioMargin lets an equivalent canary fail twice as often, if that is more.
	DefaultErrorRatioMargin = 1.0
	// DefaultLatencyMargin lets an equivalent canary take half as long again.
	DefaultLatencyMargin = 0.5
)

// tolerance is how much worse a canary may be, relatively, before evidence of it counts: small
// differences that are real, but no reason to go back.
const tolerance = 0.1

// The chances of a false verdict, over all moments of a rollout together. Package comment: the budget.
const (
	compareLevel = 0.004
	ceilingLevel = 0.001
	equalLevel   = 0.01
)

// Limits are what a canary is judged by. The zero value compares with the old release only.
type Limits struct {
	// Errors is the highest ratio of failed requests, above 0 and below 1. 0: no ceiling.
	Errors float64
	// P50, P95 and P99 are the highest latencies of these quantiles of requests that did not fail.
	// 0: no ceiling.
	P50, P95, P99 time.Duration
	// ErrorMargin and ErrorRatioMargin bound an equivalent canary's error ratio: the old release's plus
	// ErrorMargin, or times 1+ErrorRatioMargin, whichever is more. 0: the default.
	ErrorMargin, ErrorRatioMargin float64
	// LatencyMargin bounds its latency: times 1+LatencyMargin at the median, p90 and p99. 0: the default.
	LatencyMargin float64
	// AnyLatency leaves the latencies uncompared: for a service whose instances are too unlike in them. The
	// ceilings hold all the same.
	AnyLatency bool
}

// Validate answers maru.Invalid for limits that no release could be judged by.
func (l Limits) Validate() error {
	if l.Errors < 0 || l.Errors >= 1 {
		return maru.Errorf(maru.Invalid, "the highest error ratio is %v: it has to be at least 0 and below 1", l.Errors)
	}
	if l.ErrorMargin < 0 || l.ErrorMargin >= 1 {
		return maru.Errorf(maru.Invalid, "the margin of the error ratio is %v: it has to be at least 0 and below 1", l.ErrorMargin)
	}
	if l.ErrorRatioMargin < 0 || l.LatencyMargin < 0 {
		return maru.Errorf(maru.Invalid, "a margin is negative: errors %v, latency %v", l.ErrorRatioMargin, l.LatencyMargin)
	}
	if min(l.P50, l.P95, l.P99) < 0 {
		return maru.Errorf(maru.Invalid, "a highest latency is negative: p50 %s, p95 %s, p99 %s", l.P50, l.P95, l.P99)
	}
	return nil
}

// orDefault fills in the margins.
func (l Limits) orDefault() Limits {
	if l.ErrorMargin == 0 {
		l.ErrorMargin = DefaultErrorMargin
	}
	if l.ErrorRatioMargin == 0 {
		l.ErrorRatioMargin = DefaultErrorRatioMargin
	}
	if l.LatencyMargin == 0 {
		l.LatencyMargin = DefaultLatencyMargin
	}
	return l
}

// quantiles are the ceilings of latencies.
func (l Limits) quantiles() []limit {
	var out []limit
	for _, q := range []limit{{quantile: 0.5, latency: l.P50}, {quantile: 0.95, latency: l.P95}, {quantile: 0.99, latency: l.P99}} {
		if q.latency > 0 {
			out = append(out, q)
		}
	}
	return out
}
