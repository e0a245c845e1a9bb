package balance

import (
	"math"
	"math/bits"
)

// Policy is a way of choosing.
type Policy uint8

// The policies.
const (
	Prequal       Policy = iota
	RoundRobin           // in turn; see Choose
	LeastRequests        // the fewest in flight
	Hash                 // by a key of the request; see Score
)

// Reading is what is known of an endpoint at one moment.
type Reading struct {
	InFlight int     // requests at it
	Latency  float64 // expected at that many, in seconds; 0: not known
	Age      float64 // of the latency, in seconds
	Failing  float64 // share of failures among its last answers, faded by age
	Share    float64 // of its part while it starts slowly; 1: all of it
	Out      bool    // passed over while there is another one
}

const (
	// near and grain, in seconds, are how much slower than the best an endpoint may be to be as good: what is
	// measured varies.
	near  = 1.5
	grain = 0.001
	// fade is the age, in seconds, at which what an estimate is above the best counts half.
	fade = 0.25
	// penalty is how much slower an endpoint looks for failing always.
	penalty = 9
)

// Dice give randomness, from a seed. They are SplitMix64 (Steele et al., OOPSLA 2014).
type Dice uint64

func (d *Dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	return mix(uint64(*d))
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Roll gives a number from 0 to n-1.
func (d *Dice) Roll(n int) int {
	hi, _ := bits.Mul64(d.next(), uint64(n))
	return int(hi)
}

// Chance is true with probability p.
func (d *Dice) Chance(p float64) bool { return float64(d.next()>>11)*0x1p-53 < p }

// Choose gives the place of the endpoint that gets the request, or -1 when all are Out. An endpoint is
// hot when it has more than that many requests in flight. RoundRobin chooses at random here: it is for
// when the one whose turn it is can't be had, and has its turn spread over all others. There are at most
// MostPool readings.
func Choose(p Policy, pool []Reading, hot float64, d *Dice) int {
	c := chooser{pool: pool, dice: d}
	if !c.enlist() {
		return -1
	}
	switch p {
	case RoundRobin:
		if c.late >= 0 {
			return c.late
		}
		return c.least()
	case Prequal:
		return c.prequal(hot)
	}
	if c.late >= 0 && float64(pool[c.late].InFlight) <= c.average() {
		return c.late
	}
	return c.leastBusy()
}

func (c *chooser) prequal(hot float64) int {
	best := c.best()
	cold, slow := false, false
	for i := range c.pool {
		r := &c.pool[i]
		c.cost[i] = refused
		if float64(r.InFlight) > hot || c.in&(1<<i) == 0 && c.late != i {
			continue
		}
		if expected(r, best) > near*best+grain {
			slow = true
			continue
		}
		if c.late == i {
			return i
		}
		cold = true
		c.cost[i] = float64(r.InFlight)
	}
	switch {
	case cold:
		return c.least()
	case !slow:
		return c.leastBusy()
	}
	for i := range c.pool {
		if r := &c.pool[i]; float64(r.InFlight) <= hot {
			c.cost[i] = expected(r, best)
		}
	}
	if i := c.least(); i >= 0 {
		return i
	}
	return c.leastBusy()
}

// chooser is one choice. Bit i of in says whether pool[i] takes part.
type chooser struct {
	pool []Reading
	in   uint64
	late int // one that starts slowly and whose turn it is; -1: none
	cost [MostPool]float64
	dice *Dice
}

// MostPool is the most readings of a choice.
const MostPool = 16

// refused is the cost of who does not take part.
const refused = math.MaxFloat64

// enlist says who takes part: all that are not Out, but of those that start slowly one now and then, which
// is chosen before all others if it does well, so that each gets its share of an equal part. It is false
// when all are Out.
func (c *chooser) enlist() bool {
	n, most := 0, 0.0
	for i := range c.pool {
		if r := &c.pool[i]; !r.Out {
			n++
			most = max(most, r.Share)
		}
	}
	c.late = -1
	for i := range c.pool {
		switch r := &c.pool[i]; {
		case r.Out:
		case r.Share >= most:
			c.in |= 1 << i
		case c.dice.Chance(r.Share / most / float64(n)):
			c.late = i
		}
	}
	return n > 0
}

// average is how many requests are in flight at an endpoint.
func (c *chooser) average() float64 {
	sum, n := 0, 0
	for i := range c.pool {
		if !c.pool[i].Out {
			sum += c.pool[i].InFlight
			n++
		}
	}
	return float64(sum) / float64(n)
}

// least gives the one with the lowest cost, one of them at random if there are several; -1 when there is
// none.
func (c *chooser) least() int {
	at, lowest, same := -1, refused, 0
	for i := range c.pool {
		if c.in&(1<<i) == 0 {
			continue
		}
		switch v := c.cost[i]; {
		case v < lowest:
			at, lowest, same = i, v, 1
		case v == lowest && at >= 0:
			if same++; c.dice.Roll(same) == 0 {
				at = i
			}
		}
	}
	return at
}

func (c *chooser) leastBusy() int {
	for i := range c.pool {
		r := &c.pool[i]
		c.cost[i] = float64(r.InFlight+1) * (1 + penalty*r.Failing)
	}
	return c.least()
}

// best is the lowest latency that is known, in seconds.
func (c *chooser) best() float64 {
	best := 0.0
	for i := range c.pool {
		r := &c.pool[i]
		if c.in&(1<<i) == 0 || r.Latency == 0 {
			continue
		}
		if l := r.Latency * (1 + penalty*r.Failing); best == 0 || l < best {
			best = l
		}
	}
	if best == 0 {
		return 1
	}
	return best
}

// expected is the latency that an endpoint is taken to have, in seconds.
func expected(r *Reading, best float64) float64 {
	l := r.Latency
	if l == 0 {
		l = best
	}
	l *= 1 + penalty*r.Failing
	if l <= best {
		return l
	}
	return best + (l-best)/(1+r.Age/fade)
}
