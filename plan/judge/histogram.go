package judge

import (
	"math"
	"math/bits"
	"time"
)

// Latencies are counted in buckets, 16 to each doubling, from 2¹² ns (4 µs) to 2⁴² ns (73 minutes),
// with one below and one above. The games are played on buckets: their width costs a little power, no
// validity.
const (
	lowest     = 12
	highest    = 42
	sub        = 4
	numBuckets = (highest-lowest)<<sub + 2
)

// bucketOf grows with the latency.
func bucketOf(d time.Duration) int {
	if d < 1<<lowest {
		return 0
	}
	exponent := bits.Len64(uint64(d)) - 1
	if exponent >= highest {
		return numBuckets - 1
	}
	return 1 + (exponent-lowest)<<sub + int(d>>(exponent-sub))&(1<<sub-1)
}

// middle is a latency inside the bucket.
func middle(bucket int) time.Duration {
	switch bucket {
	case 0:
		return 1 << (lowest - 1)
	case numBuckets - 1:
		return 1 << highest
	}
	at := bucket - 1
	low := float64(uint64(1<<sub+at&(1<<sub-1)) << (at>>sub + lowest - sub))
	return time.Duration(low * (1 + 0.5/(1<<sub)))
}

type histogram struct {
	buckets [numBuckets]uint32
	n       int64
}

func (h *histogram) add(bucket int) {
	if h.buckets[bucket] < math.MaxUint32 {
		h.buckets[bucket]++
	}
	h.n++
}

// quantile gives the bucket that the share q of the latencies is not above; 0 if there are none.
func (h *histogram) quantile(q float64) int {
	above := int64(math.Floor((1 - q) * float64(h.n)))
	for b := numBuckets - 1; b > 0; b-- {
		above -= int64(h.buckets[b])
		if above < 0 {
			return b
		}
	}
	return 0
}
