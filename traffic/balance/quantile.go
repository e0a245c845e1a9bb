package balance

import (
	"math"
	"sync/atomic"
)

// Quantile follows a quantile of a stream of numbers that are not negative, with nothing kept but the
// estimate: each number that is above it draws it up a little, each other one down, so that they balance
// where they should (Robbins and Monro, 1951). It is for many goroutines, of whose numbers one may be
// lost. The zero value is an estimate of 0.
type Quantile struct{ bits atomic.Uint64 }

// Get gives the estimate.
func (q *Quantile) Get() float64 { return math.Float64frombits(q.bits.Load()) }

// Begin sets the estimate.
func (q *Quantile) Begin(v float64) { q.bits.Store(math.Float64bits(v)) }

// Add takes a number into the estimate of the quantile p. The unit is what a step is at least, in twentieths.
func (q *Quantile) Add(v, p, unit float64) {
	at := q.Get()
	step := (unit + at) / 20
	if v > at {
		at += step * p
	} else {
		at = max(0, at-step*(1-p))
	}
	q.bits.Store(math.Float64bits(at))
}
