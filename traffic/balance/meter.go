package balance

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Meter keeps what an endpoint's answers say of it. It is for many goroutines, of whose answers one may
// be lost when two come at the same instant. Moments are Unix nanoseconds.
type Meter struct {
	latency [buckets]sample // by requests in flight: up to 1, 2, 4, 8 and so on
	failing sample
	row     atomic.Int32 // failures since the last success
}

const (
	buckets = 8
	// weight is the least that a new number counts in its average.
	weight = 1.0 / 8
	// settle is the age, in seconds, at which an average counts no more than the next number.
	settle = 0.5
	// fresh is the age, in seconds, up to which the latency at the present load is preferred to that at
	// another one.
	fresh = 2.0
	// forget is the age, in seconds, at which a share of failures counts half.
	forget = 2.0
)

// sample is an average with the moment of its last change: a float32, and milliseconds modulo 2³². 0 is none.
type sample struct{ word atomic.Uint64 }

func (s *sample) get(now int64) (value, age float64) {
	w := s.word.Load()
	if w == 0 {
		return 0, math.Inf(1)
	}
	return float64(math.Float32frombits(uint32(w >> 32))), float64(int32(stamp(now)-uint32(w))) / 1000
}

func stamp(now int64) uint32 { return uint32(now / int64(time.Millisecond)) }

func (s *sample) add(now int64, v float64) {
	old, age := s.get(now)
	if age >= 0 && !math.IsInf(age, 1) {
		v = old + (v-old)*max(weight, age/(age+settle))
	}
	s.word.Store(uint64(math.Float32bits(float32(v)))<<32 | uint64(stamp(now)))
}

func bucket(inFlight int) int {
	return min(bits.Len(uint(max(0, inFlight-1))), buckets-1)
}

// Took takes in that a good answer began so long after its request came, as one of that many.
func (m *Meter) Took(now int64, inFlight int, after time.Duration) {
	m.latency[bucket(inFlight)].add(now, max(after.Seconds(), 1e-6))
}

// Succeeded takes in a good answer.
func (m *Meter) Succeeded(now int64) {
	if m.row.Load() != 0 {
		m.row.Store(0)
	}
	if v, _ := m.failing.get(now); v > 0.001 {
		m.failing.add(now, 0)
	}
}

// Failed takes in a failure, and gives how many there were in a row.
func (m *Meter) Failed(now int64) int {
	if v, _ := m.failing.get(now); v == 0 {
		m.failing.word.Store(uint64(stamp(now))) // so that one failure is no average of failures
	}
	m.failing.add(now, 1)
	return int(m.row.Add(1))
}

// Failing gives the share of failures among the last answers, less the older it is.
func (m *Meter) Failing(now int64) float64 {
	if m.failing.word.Load() == 0 {
		return 0
	}
	v, age := m.failing.get(now)
	return v / (1 + max(0, age)/forget)
}

// Again begins the row of failures anew.
func (m *Meter) Again() { m.row.Store(0) }

// Latency gives the latency, in seconds, to expect of a request that comes as one of that many, and its
// age in seconds: that at the nearest load which was measured lately, else what was measured last. 0 is
// none.
func (m *Meter) Latency(now int64, inFlight int) (latency, age float64) {
	age = math.Inf(1)
	b := bucket(inFlight)
	for away := 0; away < buckets; away++ {
		for _, i := range [2]int{b - away, b + away} {
			if i < 0 || i >= buckets {
				continue
			}
			v, a := m.latency[i].get(now)
			if a < age {
				latency, age = v, a
			}
			if a <= fresh {
				return v, max(0, a)
			}
		}
	}
	return latency, max(0, age)
}
