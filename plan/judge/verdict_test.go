package judge

import (
	"testing"
	"time"
)

// The sentences that people read, each from a stream of its kind.
func TestSentences(t *testing.T) {
	for _, c := range []struct {
		name    string
		limits  Limits
		traffic func(*traffic)
		n       int64
		outcome Outcome
		want    string
	}{
		{"first", Limits{}, func(*traffic) {}, 0, Continue,
			"not enough evidence yet: 0 requests to the new release and 0 to the old one"},
		{"few", Limits{}, func(*traffic) {}, 20, Continue,
			"not enough evidence yet: errors 0% (0 of 20) against 0% (0 of 478); p50 82ms against 82ms, p95 160ms against 330ms, p99 220ms against 420ms"},
		{"equal", Limits{}, func(g *traffic) { g.errors = [2]float64{0.001, 0.001} }, 20000, Equivalent,
			"as good as the old release: errors 0% (0 of 1,272) against 0.09% (21 of 23,425); p50 74ms against 78ms, p95 280ms against 310ms, p99 480ms against 470ms; within the margins with 99% certainty"},
		{"failing", Limits{}, func(g *traffic) { g.errors = [2]float64{0.01, 0.05} }, 20000, Regressed,
			"fails more often than the old release at the same time: errors 4.9% (12 of 247) against 1.1% (49 of 4,646); equal releases come to this at most once in 258 rollouts"},
		{"broken", Limits{}, func(g *traffic) { g.errors[1], g.weight = 1, 0.5 }, 20000, Regressed,
			"fails more often than the old release at the same time: errors 100% (4 of 4) against 0% (0 of 13); equal releases come to this at most once in 8,886 rollouts"},
		{"slow", Limits{}, func(g *traffic) { g.slower[1] = 2 }, 20000, Regressed,
			"slower than the old release at the same time: p50 150ms against 78ms, p95 520ms against 330ms, p99 870ms against 450ms, in 64 requests against 1,220; equal releases come to this at most once in 285 rollouts"},
		{"over the limit of errors", Limits{Errors: 0.2}, func(g *traffic) { g.errors, g.weight = [2]float64{0.19, 0.2055}, 0.25 }, 400000, Regressed,
			"above the limit of 20% errors, which the old release keeps at the same time: errors 20.7% (12,655 of 61,010) against 19% (34,784 of 183,194); equal releases come to this at most once in 1,008 rollouts"},
		{"over the limit of latency", Limits{P99: 490 * time.Millisecond}, func(g *traffic) { g.slower[1], g.weight = 1.1, 0.25 }, 200000, Regressed,
			"above the limit of 490ms for p99, which the old release keeps at the same time: 1.3% (382 of 29,632) took longer against 0.9% (756 of 88,468); equal releases come to this at most once in 1,002 rollouts"},
		{"both over the limit of errors", Limits{Errors: 0.01}, func(g *traffic) { g.errors = [2]float64{0.1, 0.1} }, 2000, Continue,
			"both releases are above the limit of 1% errors lately, so the new one is neither taken back nor promoted: 10.4% against 9.9%"},
		{"both over the limit of latency", Limits{P99: 100 * time.Millisecond}, func(*traffic) {}, 2000, Continue,
			"both releases are above the limit of 100ms for p99 lately, so the new one is neither taken back nor promoted: 36.8% against 40.6% took longer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, g := New(c.limits), newTraffic(7, 0.05)
			c.traffic(g)
			if c.outcome == Continue {
				until(j, g, c.n)
			} else {
				until(j, g, c.n, c.outcome)
			}
			if v := j.Verdict(); v.Outcome != c.outcome || v.Why != c.want {
				t.Errorf("%s, want %s:\n%s\nwant\n%s", v.Outcome, c.outcome, v.Why, c.want)
			}
		})
	}
}
