package judge

import "math"

// parts are how much of the highest stake the players of a ceiling put on each request.
var parts = [...]float64{0.003, 0.01, 0.03, 0.1, 0.3, 0.9}

// Stakes fall as the weight grows, so that all moments count alike on both sides: exactly while the
// canary's weight is at least lightest and the old release's at least lightestOld.
const (
	lightest    = 0.01
	lightestOld = 0.1
)

// ceiling asks whether the canary is above a share c of bad requests (failed, or slower than a latency)
// on the average over the rollout so far, and the old release below it. Above: each of the canary's
// requests gives stake·(bad-c). Below: each of the old release's gives stake·(c-bad).
//
// Let p be the ratio of bad requests of equal releases at each moment. As 1+x is at most eˣ, the first
// wealth over the product of e^(stake·w·(p-c)) is a supermartingale, so that wherever the average of p
// is at most c the wealth is no more than that; so for the second where the average is at least c. One
// of both always holds. A bad time for both releases makes the judge wait, not turn back. For the sake
// of the average no wealth is divided again.
type ceiling struct {
	share        float64
	above, below wealth
	good, bad    bets
	canary, old  counts    // failures: bad ones
	lately       [2]recent // the old release's and the canary's
	unsettled    counts    // requests of the old release that are not in below yet
}

// recent is the share of bad requests in about the last thousand of the canary, or those of the old
// release at the same time: older ones fade out.
type recent struct{ requests, bad float64 }

const fading = 1 - 1.0/1000

func (r *recent) add(bad bool) {
	r.requests++
	if bad {
		r.bad++
	}
}

func (r *recent) ratio() float64 {
	if r.requests == 0 {
		return 0
	}
	return r.bad / r.requests
}

func newCeiling(share float64) ceiling {
	n := len(parts)
	return ceiling{share: share, above: newWealth(n), below: newWealth(n), good: newBets(n), bad: newBets(n)}
}

func (c *ceiling) prepare(w float64) {
	c.settle()
	highest := min(1, lightest/w) / c.share
	highestOld := min(1, lightestOld/(1-w)) / (1 - c.share)
	for i, part := range parts {
		c.bad.canary[i] = 1 + part*highest*(1-c.share)
		c.good.canary[i] = 1 - part*highest*c.share
		c.bad.stable[i] = 1 - part*highestOld*(1-c.share)
		c.good.stable[i] = 1 + part*highestOld*c.share
	}
}

func (c *ceiling) observe(canary, bad bool) {
	c.count(canary, bad)
	switch {
	case !canary:
		c.unsettled.add(bad)
	case bad:
		c.above.multiply(c.bad.canary)
	default:
		c.above.multiply(c.good.canary)
	}
}

// settle brings below up to date: the old release has most of the requests, and the canary is seldom
// above.
func (c *ceiling) settle() {
	bad, good := float64(c.unsettled.failures), float64(c.unsettled.requests-c.unsettled.failures)
	for i := range parts {
		c.below.by[i+1] *= math.Pow(c.bad.stable[i], bad) * math.Pow(c.good.stable[i], good)
	}
	c.unsettled = counts{}
}

func (c *ceiling) count(canary, bad bool) {
	if !canary {
		c.old.add(bad)
		c.lately[0].add(bad)
		return
	}
	c.canary.add(bad)
	for i := range c.lately {
		c.lately[i].requests *= fading
		c.lately[i].bad *= fading
	}
	c.lately[1].add(bad)
}

// chance bounds the share of rollouts of equal releases in which the canary would ever look so far above
// the ceiling and the old release so far below it.
func (c *ceiling) chance() float64 {
	above := c.above.total()
	if above <= 2 {
		return 1
	}
	c.settle()
	return min(1, 2/min(above, c.below.total()))
}

// over tells whether the two releases have lately been above the ceiling, without certainty.
func (c *ceiling) over() (canary, old bool) {
	return c.lately[1].ratio() > c.share, c.lately[0].ratio() > c.share
}
