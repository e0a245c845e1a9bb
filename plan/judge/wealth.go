package judge

import "slices"

// wealth is that of several players of one game. The first one never bets: whatever the others lose,
// his part stays.
type wealth struct {
	by    []float64
	start []float64
}

// idle is the part of the player who does not bet, and share what is divided again at each refresh.
const (
	idle  = 0.2
	share = 0.005
)

// newWealth divides 1 over the idle player and n others.
func newWealth(n int) wealth {
	start := make([]float64, n+1)
	start[0] = idle
	for i := range n {
		start[i+1] = (1 - idle) / float64(n)
	}
	return wealth{by: slices.Clone(start), start: start}
}

// multiply settles one bet: factors are one for each player but the idle one.
func (w *wealth) multiply(factors []float64) {
	by := w.by[1:][:len(factors)]
	for i, f := range factors {
		by[i] *= f
	}
}

func (w *wealth) total() float64 {
	var sum float64
	for _, v := range w.by {
		sum += v
	}
	return sum
}

// divide spreads a small share of the wealth as it was at the start.
func (w *wealth) divide() {
	total := w.total()
	for i, v := range w.by {
		w.by[i] = (1-share)*v + share*total*w.start[i]
	}
}
