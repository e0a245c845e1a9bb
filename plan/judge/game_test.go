package judge

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// slack is for rounding.
const slack = 1 + 1e-9

var (
	weights = rapid.Float64Range(0.001, 0.999)
	shares  = rapid.Float64Range(0, 1)
)

// mean is what a bet gives on average when the canary has the request with the chance w.
func (b *bets) mean(i int, w float64) float64 {
	return w*b.canary[i] + (1-w)*b.stable[i]
}

// However a request of equal releases ends, who had it is drawn with the chance w: a player's mean gain
// on that draw is nothing, whatever was seen before.
func TestLatencyBetsAreFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, g, h := weights.Draw(t, "weight"), newLatencyGame(), anyHistogram(t)
		g.prepare(w, h)
		for b := range numBuckets {
			cell := g.cells[g.cell[b]]
			for i := range slownesses {
				if m := cell.mean(i, w); math.Abs(m-1) > 1e-9 {
					t.Fatalf("player %d's mean factor in bucket %d is %v", i, b, m)
				}
			}
		}
	})
}

// The slower a request, the more it speaks against the release that had it: otherwise a faster canary
// could look slower.
func TestLatencyBetsGrowWithTheLatency(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newLatencyGame()
		g.prepare(weights.Draw(t, "weight"), anyHistogram(t))
		for b := 1; b < numBuckets; b++ {
			faster, slower := g.cells[g.cell[b-1]], g.cells[g.cell[b]]
			for i := range slownesses {
				if faster.canary[i] > slower.canary[i]*slack || slower.stable[i] > faster.stable[i]*slack {
					t.Fatalf("player %d bets on faster requests between buckets %d and %d", i, b-1, b)
				}
			}
		}
	})
}

func TestFailureBetsAreFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, g := weights.Draw(t, "weight"), newFailureGame()
		n := rapid.Int64Range(0, 1e6).Draw(t, "requests")
		g.prepare(w, counts{requests: n, failures: rapid.Int64Range(0, n).Draw(t, "failures")})
		for i := range odds {
			if g.failed.mean(i, w) > slack || g.succeeded.mean(i, w) > slack {
				t.Fatalf("player %d gains: %v by failures, %v by successes", i, g.failed.mean(i, w), g.succeeded.mean(i, w))
			}
			if g.failed.canary[i] < g.succeeded.canary[i] {
				t.Fatalf("player %d bets on successes", i)
			}
		}
	})
}

// A canary that is worse by the margin, or more, gives no gain to those who bet on equivalence.
func TestMarginBetsAreFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, old := weights.Draw(t, "weight"), shares.Draw(t, "old")
		m := margin{ratio: rapid.Float64Range(1, 4).Draw(t, "ratio"), plus: rapid.Float64Range(0, 0.5).Draw(t, "plus")}
		worst := old*m.ratio + m.plus
		if worst > 1 {
			t.Skip("no canary can be that bad")
		}
		canary := worst + (1-worst)*shares.Draw(t, "worse")
		g := newMarginGame(m)
		g.prepare(w)
		for i := range stakes {
			mean := w*(canary*g.bad.canary[i]+(1-canary)*g.good[i]) + (1-w)*(old*g.bad.stable[i]+1-old)
			if mean > slack || g.bad.canary[i] <= 0 {
				t.Fatalf("player %d's mean factor is %v, the least %v", i, mean, g.bad.canary[i])
			}
		}
	})
}

// A release at the ceiling gives no gain to those who bet that it is above or below, and the weight does
// not change what a moment counts.
func TestCeilingBetsAreFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.Float64Range(lightest, 1-lightestOld).Draw(t, "weight")
		other := rapid.Float64Range(lightest, 1-lightestOld).Draw(t, "other weight")
		c := newCeiling(rapid.Float64Range(0.0001, 0.6).Draw(t, "ceiling"))
		p := shares.Draw(t, "bad")
		c.prepare(w)
		d := newCeiling(c.share)
		d.prepare(other)
		for i := range parts {
			above := p*c.bad.canary[i] + (1-p)*c.good.canary[i] - 1
			below := p*c.bad.stable[i] + (1-p)*c.good.stable[i] - 1
			if above > 1e-9 && p < c.share || below > 1e-9 && p > c.share {
				t.Fatalf("player %d gains %v and %v", i, above, below)
			}
			if min(c.bad.canary[i], c.good.canary[i], c.bad.stable[i], c.good.stable[i]) <= 0 {
				t.Fatalf("player %d may lose all", i)
			}
			if a, b := w*(c.bad.canary[i]-1), other*(d.bad.canary[i]-1); math.Abs(a-b) > 1e-9 {
				t.Fatalf("a moment counts %v and %v", a, b)
			}
		}
	})
}

func TestDividingKeepsTheSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWealth(5)
		w.multiply(rapid.SliceOfN(rapid.Float64Range(0, 1e6), 5, 5).Draw(t, "factors"))
		before := w.total()
		w.divide()
		if math.Abs(w.total()-before) > 1e-9*before {
			t.Fatalf("%v became %v", before, w.total())
		}
	})
}

func anyHistogram(t *rapid.T) *histogram {
	h := new(histogram)
	for _, b := range rapid.SliceOf(rapid.IntRange(0, numBuckets-1)).Draw(t, "latencies") {
		h.add(b)
	}
	return h
}

func TestBucketsAreOrderedAndNarrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "a"))
		b := time.Duration(rapid.Int64Range(int64(a), int64(2*time.Hour)).Draw(t, "b"))
		if bucketOf(a) > bucketOf(b) {
			t.Fatalf("%s is in bucket %d, %s in %d", a, bucketOf(a), b, bucketOf(b))
		}
		at := middle(bucketOf(a))
		if bucketOf(at) != bucketOf(a) {
			t.Fatalf("the middle of %s's bucket, %s, is in another one", a, at)
		}
		if inside := a >= 1<<lowest && a < 1<<highest; inside && math.Abs(float64(at-a)) > 0.04*float64(a) {
			t.Fatalf("%s counts as %s", a, at)
		}
	})
}

func TestQuantile(t *testing.T) {
	var h histogram
	for i := range 100 {
		h.add(i + 1)
	}
	for q, want := range map[float64]int{0.5: 50, 0.9: 90, 0.99: 99, 0.001: 1} {
		if got := h.quantile(q); got < want || got > want+1 {
			t.Errorf("the %v quantile of 1 … 100 is %d", q, got)
		}
	}
}
