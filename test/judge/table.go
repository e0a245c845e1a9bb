package main

import (
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/marucloud/maru/plan/judge"
)

// row is one line of the table: a kind of rollout, and what is asked of the judge for it.
type row struct {
	name                          string
	canary, old                   service
	rate                          float64 // requests a second to the two releases
	drawn, told                   float64 // the chance that the canary gets a request; what the judge is told of it
	turns                         bool    // each so many requests one goes to the canary, without drawing
	canaryInstances, oldInstances int
	limits                        judge.Limits
	weather                       func(*rand.Rand) weather
	alone                         bool          // only the judge: the peers have no time for it
	watched                       time.Duration // goes on for so long whatever is promoted; 0: until the verdict
	bar                           bar
}

// bar is what the judge has to keep. Zero fields ask nothing. Counts are requests of the canary.
type bar struct {
	back     float64 // at most this share is taken back
	promoted float64 // at most this share is promoted
	by       int     // 99% are promoted by then
	median   int     // half are taken back by then
	last     int     // all are taken back by then
}

// seed depends on the name alone, so that a row's figures don't change with its neighbours.
func (r *row) seed() uint64 {
	h := fnv.New64a()
	h.Write([]byte(r.name))
	return h.Sum64()
}

// base is a row of equal releases at 5%, 50 requests a second.
func base(name string, errors float64, s shape) row {
	release := service{errors: errors, latency: s.draw}
	return row{
		name: name, canary: release, old: release, rate: 50, drawn: 0.05, told: 0.05,
		limits: judge.Limits{Errors: max(0.01, 2*errors), P99: time.Duration(1.5 * s.p99 * float64(time.Second))},
	}
}

func (r row) with(change func(*row)) row {
	change(&r)
	return r
}

// The stated numbers of requests by which good releases are promoted.
const (
	quick  = 6000
	steady = 8000
	slow   = 16000
)

func table() []row {
	return append(append(equal(), good()...), append(bad(), rare()...)...)
}

func equal() []row {
	kept := bar{back: 0.01, by: steady}
	only := bar{back: 0.01}
	return []row{
		base("equal: 0.1% errors, exponential", 0.001, exponential).with(func(r *row) { r.bar = bar{back: 0.01, by: quick} }),
		base("equal: 1% errors, lognormal", 0.01, lognormal).with(func(r *row) { r.bar = kept }),
		base("equal: 1% errors, Pareto", 0.01, pareto).with(func(r *row) { r.bar = kept }),
		base("equal: bursts", 0.001, exponential).with(func(r *row) {
			r.weather, r.limits.P99, r.bar = bursts, 4*r.limits.P99, bar{back: 0.01, by: slow}
		}),
		base("equal: days, one request a second", 0.001, lognormal).with(func(r *row) { r.weather, r.rate, r.bar = days, 1, kept }),
		base("equal: incidents of all instances", 0.001, exponential).with(func(r *row) { r.weather, r.bar = incidents, only }),
		base("equal: warm-up, fresh baseline", 0.001, lognormal).with(func(r *row) {
			r.weather, r.rate, r.drawn, r.told, r.bar = warmth(true), 5, 0.5, 0.5, bar{back: 0.01, by: slow}
		}),
		base("equal: 6% drawn, 5% told", 0.01, lognormal).with(func(r *row) { r.drawn, r.bar = 0.06, only }),
		base("equal: 4% drawn, 5% told", 0.01, lognormal).with(func(r *row) { r.drawn, r.bar = 0.04, only }),
		base("equal: each 20th in turn", 0.01, lognormal).with(func(r *row) { r.turns, r.bar = true, kept }),
		base("equal, measured: warm-up without a fresh baseline", 0.001, lognormal).with(func(r *row) { r.weather = warmth(false) }),
		single("equal, measured: accident of one of 20 instances, one is the canary", 0.05, 1),
		single("equal, measured: accident of one of 60 instances, three are the canary", 0.05, 3),
		single("equal, measured: accident of the canary's only instance", 1, 1),
		single("equal, measured: accident of one of the canary's three instances", 1, 3),
	}
}

func single(name string, ofCanary float64, canaries int) row {
	return base(name, 0.001, exponential).with(func(r *row) {
		r.canaryInstances, r.oldInstances = canaries, 19*canaries
		r.weather = accident(ofCanary, canaries, 19*canaries)
	})
}

func good() []row {
	return []row{
		base("good: twice as fast", 0.001, exponential).with(func(r *row) {
			r.canary.change, r.bar = times(0.5), bar{back: 0.01, by: quick}
		}),
		base("good: half the errors", 0.01, exponential).with(func(r *row) {
			r.canary.errors, r.bar = 0.005, bar{back: 0.01, by: quick}
		}),
		base("good: 5% slower", 0.001, exponential).with(func(r *row) {
			r.canary.change, r.bar = times(1.05), bar{back: 0.01, by: steady}
		}),
	}
}

func bad() []row {
	return []row{
		failing("bad: errors 1% → 5%", 0.01, 0.05, 250),
		failing("bad: errors 0.1% → 1%", 0.001, 0.01, 700),
		failing("bad: errors 0 → 100%", 0, 1, 10),
		failing("bad: errors 1% → 2%, the margin", 0.01, 0.02, 0),
		slowing(exponential, "every latency × 2", times(2), 200),
		slowing(lognormal, "every latency × 2", times(2), 200),
		slowing(pareto, "every latency × 2", times(2), 200),
		slowing(exponential, "beyond p95 × 2", beyond(exponential.p95, 2), 600),
		slowing(lognormal, "beyond p95 × 2", beyond(lognormal.p95, 2), 1000),
		slowing(pareto, "beyond p95 × 2", beyond(pareto.p95, 2), 2000),
		slowing(exponential, "every latency × 1.5, the margin", times(1.5), 0),
	}
}

func failing(name string, from, to float64, median int) row {
	return base(name, from, exponential).with(func(r *row) {
		r.canary.errors, r.bar = to, bar{promoted: 0.01, median: median}
	})
}

func slowing(s shape, name string, change func(float64) float64, median int) row {
	return base("bad: "+name+", "+s.name, 0.001, s).with(func(r *row) {
		r.canary.change, r.bar = change, bar{promoted: 0.01, median: median}
	})
}

// rare are five requests a minute, a quarter of them to the canary.
func rare() []row {
	few := func(r *row) {
		r.rate, r.drawn, r.told, r.alone = 5.0/60, 0.25, 0.25, true
	}
	return []row{
		base("rare: equal, watched for two weeks", 0.01, lognormal).with(few).with(func(r *row) {
			r.watched, r.bar = 14*24*time.Hour, bar{back: 0.01}
		}),
		failing("rare: errors 1% → 5%", 0.01, 0.05, 0).with(few),
		failing("rare: every request fails", 0.01, 1, 0).with(few).with(func(r *row) { r.bar.last = 10 }),
	}
}
