package main

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/marucloud/maru/plan/judge"
)

// service is how a release behaves on a quiet day.
type service struct {
	errors  float64
	latency func(*rand.Rand) float64 // in seconds
	change  func(seconds float64) float64
}

// The old release's latencies. Their p95 and p99 follow from the distributions.
var (
	exponential = shape{"exponential", func(r *rand.Rand) float64 { return 0.1 * r.ExpFloat64() }, 0.1 * math.Log(20), 0.1 * math.Log(100)}
	lognormal   = shape{"lognormal, σ = 1", func(r *rand.Rand) float64 { return 0.1 * math.Exp(r.NormFloat64()) }, 0.1 * math.Exp(1.6449), 0.1 * math.Exp(2.3263)}
	pareto      = shape{"Pareto 2", func(r *rand.Rand) float64 { return 0.05 / math.Sqrt(1-r.Float64()) }, 0.05 * math.Sqrt(20), 0.05 * 10}
)

type shape struct {
	name     string
	draw     func(*rand.Rand) float64
	p95, p99 float64
}

// times multiplies every latency.
func times(factor float64) func(float64) float64 {
	return func(s float64) float64 { return factor * s }
}

// beyond multiplies the latencies that are above a threshold.
func beyond(threshold, factor float64) func(float64) float64 {
	return func(s float64) float64 {
		if s > threshold {
			return factor * s
		}
		return s
	}
}

// conditions are what a moment does to a request: to all, or to one instance.
type conditions struct {
	traffic float64 // times the usual number of requests
	slower  float64 // times the usual latency
	errors  float64 // share of requests that fail in addition
}

var quiet = conditions{traffic: 1, slower: 1}

// weather is one rollout's course of conditions: at a moment (in seconds, never going back) for one of
// the canary's or the old release's instances.
type weather func(at float64, canary bool, instance int) conditions

// stream makes the requests of one rollout.
type stream struct {
	row     *row
	rng     *rand.Rand
	weather weather
	at      float64
	number  int
}

var epoch = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

func (s *stream) next() judge.Record {
	r := s.row
	s.at += s.rng.ExpFloat64() / (r.rate * s.traffic())
	canary := s.draw()
	release, instances := &r.old, r.oldInstances
	if canary {
		release, instances = &r.canary, r.canaryInstances
	}
	now := quiet
	if s.weather != nil {
		instance := 0
		if instances > 1 {
			instance = s.rng.IntN(instances)
		}
		now = s.weather(s.at, canary, instance)
	}
	record := judge.Record{Canary: canary, Weight: r.told, At: epoch.Add(time.Duration(s.at * float64(time.Second)))}
	if p := release.errors + now.errors; p > 0 && s.rng.Float64() < p {
		record.Failed = true
		return record
	}
	seconds := release.latency(s.rng)
	if release.change != nil {
		seconds = release.change(seconds)
	}
	record.Latency = time.Duration(seconds * now.slower * float64(time.Second))
	return record
}

// draw decides which release gets the request.
func (s *stream) draw() bool {
	s.number++
	if s.row.turns {
		return s.number%int(1/s.row.drawn) == 0
	}
	return s.rng.Float64() < s.row.drawn
}

func (s *stream) traffic() float64 {
	if s.weather == nil {
		return 1
	}
	return s.weather(s.at, false, 0).traffic
}
