// Package histogram counts durations in exponential buckets, as Prometheus' native histograms of schema 3
// do: eight buckets for each doubling, so that a quantile is off by at most 4.5 %.
// See https://prometheus.io/docs/specs/native_histograms/.
package histogram

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// Schema is the resolution: a bucket's upper bound is 2^(2^-Schema) times the one's below.
	Schema = 3

	perDoubling = 1 << Schema
	lowest      = -16 // exponents of 2, in seconds: 15 µs
	highest     = 8   // 256 s
	size        = (highest - lowest) * perDoubling
)

// ZeroThreshold is the upper bound of the zero bucket, which all shorter durations fall into.
var ZeroThreshold = seconds(math.Ldexp(1, lowest))

// bounds are the buckets' upper bounds within a doubling, as fractions that [math.Frexp] gives.
var bounds = func() (b [perDoubling]float64) {
	for i := range b {
		b[i] = 0.5 * math.Exp2(float64(i)/perDoubling)
	}
	return b
}()

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Histogram counts durations. It is for many goroutines; the zero value is empty.
type Histogram struct {
	sum    atomic.Int64
	zero   atomic.Uint64
	counts [size]atomic.Uint64
}

// Observe counts a duration. One longer than 256 s counts as that long.
func (h *Histogram) Observe(d time.Duration) {
	h.sum.Add(int64(d))
	if d <= ZeroThreshold {
		h.zero.Add(1)
		return
	}
	h.counts[min(index(d.Seconds())-first, size-1)].Add(1)
}

// first is the index of counts[0]: the bucket above the zero bucket.
const first = lowest*perDoubling + 1

// index gives the bucket, as the format numbers them: the one at 0 ends at one second.
func index(s float64) int {
	fraction, exponent := math.Frexp(s)
	i, _ := slices.BinarySearch(bounds[:], fraction)
	return i + (exponent-1)*perDoubling
}

// Counts gives what was counted so far.
func (h *Histogram) Counts() Counts {
	c := Counts{Sum: time.Duration(h.sum.Load()), Zero: h.zero.Load()}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			if c.Buckets == nil {
				c.First = first + i
			}
			for c.First+len(c.Buckets) < first+i {
				c.Buckets = append(c.Buckets, 0)
			}
			c.Buckets = append(c.Buckets, n)
		}
	}
	return c
}

// Counts are a histogram's counts at a moment.
type Counts struct {
	Sum     time.Duration `json:"sum"`               // of all durations
	Zero    uint64        `json:"zero,omitempty"`    // not above ZeroThreshold
	First   int           `json:"first,omitempty"`   // number of the first bucket: bucket i ends at 2^(i/8) s
	Buckets []uint64      `json:"buckets,omitempty"` // from First on
}

// Total is how many durations were counted.
func (c Counts) Total() uint64 {
	n := c.Zero
	for _, b := range c.Buckets {
		n += b
	}
	return n
}

// Add gives the counts of both together.
func (c Counts) Add(other Counts) Counts {
	return c.combine(other, func(a, b uint64) uint64 { return a + b }, c.Sum+other.Sum)
}

// Since gives what was counted after before, an earlier state of the same histogram.
func (c Counts) Since(before Counts) Counts {
	return c.combine(before, func(a, b uint64) uint64 { return a - min(a, b) }, c.Sum-before.Sum)
}

func (c Counts) combine(other Counts, with func(a, b uint64) uint64, sum time.Duration) Counts {
	out := Counts{Sum: sum, Zero: with(c.Zero, other.Zero)}
	from, to := c.First, c.First+len(c.Buckets)
	if len(other.Buckets) > 0 {
		if len(c.Buckets) == 0 {
			from, to = other.First, other.First
		}
		from, to = min(from, other.First), max(to, other.First+len(other.Buckets))
	}
	out.First = from
	for i := from; i < to; i++ {
		out.Buckets = append(out.Buckets, with(c.at(i), other.at(i)))
	}
	return out
}

func (c Counts) at(i int) uint64 {
	if i -= c.First; i < 0 || i >= len(c.Buckets) {
		return 0
	}
	return c.Buckets[i]
}

// Quantile gives the duration that the share q of all does not exceed, by exponential interpolation in
// its bucket; 0 when nothing was counted.
func (c Counts) Quantile(q float64) time.Duration {
	rank := q * float64(c.Total())
	if rank <= float64(c.Zero) {
		if c.Zero == 0 {
			return 0
		}
		return seconds(ZeroThreshold.Seconds() * rank / float64(c.Zero))
	}
	below := float64(c.Zero)
	for i, n := range c.Buckets {
		if n > 0 && below+float64(n) >= rank {
			within := (rank - below) / float64(n)
			return seconds(math.Exp2((float64(c.First+i-1) + within) / perDoubling))
		}
		below += float64(n)
	}
	return 0
}
