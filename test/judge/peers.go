package main

import (
	"math"
	"math/bits"
	"time"

	"github.com/marucloud/maru/plan/judge"
)

// The two peers are what today's tools do, on the same stream. Both promote what they have not taken
// back after ten minutes.
const patience = 600 // seconds

// peer is one of them: it gets every record and answers whether it takes the canary back now.
type peer interface {
	observe(r judge.Record, at float64) bool
}

// thresholds looks each minute at the canary's last minute, and takes back at the first one that is over
// a limit.
type thresholds struct {
	limits                 judge.Limits
	next                   float64
	requests, failed, slow int
}

func (t *thresholds) observe(r judge.Record, at float64) bool {
	back := false
	if at >= t.next {
		served := t.requests - t.failed
		back = float64(t.failed) > t.limits.Errors*float64(t.requests) || float64(t.slow) > 0.01*float64(served)
		t.requests, t.failed, t.slow = 0, 0, 0
		t.next += 60 * (1 + math.Floor((at-t.next)/60))
	}
	if r.Canary {
		t.requests++
		switch {
		case r.Failed:
			t.failed++
		case r.Latency > t.limits.P99:
			t.slow++
		}
	}
	return back
}

// mannWhitney looks each 10 s at all records so far, by the test of that name at 98%, as Kayenta does:
// is the canary slower, or does it fail more often?
type mannWhitney struct {
	next    float64
	latency [2][fine]int
	failed  [2][2]int
}

// fine is the number of latencies that the test tells apart: 32 to each doubling.
const fine = 64 << 5

func (m *mannWhitney) observe(r judge.Record, at float64) bool {
	back := false
	if at >= m.next {
		const upper = 2.326 // of the normal distribution: 1%
		back = rankSum(m.latency[0][:], m.latency[1][:]) > upper || rankSum(m.failed[0][:], m.failed[1][:]) > upper
		m.next += 10 * (1 + math.Floor((at-m.next)/10))
	}
	side := 0
	if r.Canary {
		side = 1
	}
	if r.Failed {
		m.failed[side][1]++
		return back
	}
	m.failed[side][0]++
	m.latency[side][fineBucket(r.Latency)]++
	return back
}

func fineBucket(d time.Duration) int {
	d = max(d, 64)
	exponent := bits.Len64(uint64(d)) - 1
	return exponent<<5 + int(d>>(exponent-5))&31
}

// rankSum is the standardized statistic of Mann and Whitney, corrected for ties: how much greater b's
// values are than a's, both given as counts of each value.
func rankSum(a, b []int) float64 {
	var seenA, u, ties, na, nb float64
	for i := range a {
		ca, cb := float64(a[i]), float64(b[i])
		if ca+cb == 0 {
			continue
		}
		u += cb * (seenA + ca/2)
		seenA += ca
		na, nb = na+ca, nb+cb
		ties += (ca + cb) * ((ca+cb)*(ca+cb) - 1)
	}
	n := na + nb
	if na < 1 || nb < 5 || n < 2 {
		return 0
	}
	variance := na * nb / 12 * (n + 1 - ties/(n*(n-1)))
	if variance <= 0 {
		return 0
	}
	return (u - na*nb/2) / math.Sqrt(variance)
}
