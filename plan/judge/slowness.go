package judge

import "math"

// A slower gives, for the share s of the old release's requests that are slower than some latency, the
// share of the canary's: concave, from (0, 0) to (1, 1), so that the slower the latency, the more of
// the canary's requests there are beside the old one's.
type slower func(s float64) float64

// all are slower: for exponential latencies exactly h times.
func all(h float64) slower {
	return func(s float64) float64 { return math.Pow(s, 1/h) }
}

// some of the requests, the given part, are among the slowest of the old release.
func some(part, slowest float64) slower {
	return func(s float64) float64 { return (1-part)*s + part*min(1, s/slowest) }
}

// slownesses are the alternatives of the players.
var slownesses = [...]slower{
	all(1.3), all(1.7), all(2.5), all(5),
	some(0.2, 0.5), some(0.6, 0.5),
	some(0.1, 0.2), some(0.4, 0.2),
	some(0.05, 0.05), some(0.2, 0.05),
	some(0.02, 0.012), some(0.08, 0.012),
	some(0.01, 0.003), some(0.05, 0.003),
}

// ranks are where the cells of latencies are divided: at these shares of slower requests.
var ranks = [...]float64{0.001, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1}

// latencyGame asks whether the canary is slower.
type latencyGame struct {
	wealth
	cell  [numBuckets]uint8 // of each bucket
	cells [len(ranks) + 1]bets
}

func newLatencyGame() latencyGame {
	g := latencyGame{wealth: newWealth(len(slownesses))}
	for i := range g.cells {
		g.cells[i] = newBets(len(slownesses))
	}
	return g
}

// prepare divides the buckets into cells by the old release's latencies so far, and sets the bets for
// each. A latency above all of them has the rank 1/(n+1), as the next of n+1 equal ones would.
func (g *latencyGame) prepare(w float64, old *histogram) {
	total, sum := float64(old.n+1), 1.0
	cell, rank, from := 0, 0, 0.0
	for b := numBuckets - 1; b >= 0; b-- {
		count := float64(old.buckets[b])
		if s := sum / total; count > 0 && s >= ranks[rank] {
			g.set(cell, w, from, s)
			for s >= ranks[rank] {
				rank++
			}
			cell, from = cell+1, s
		}
		sum += count
		g.cell[b] = uint8(cell)
	}
	g.set(cell, w, from, 1)
}

// set gives the bets for a cell that holds the old release's latencies between two ranks.
func (g *latencyGame) set(cell int, w, from, to float64) {
	for i, slower := range slownesses {
		r := 1.0
		if to > from {
			r = (slower(to) - slower(from)) / (to - from)
		}
		g.cells[cell].set(i, w, r, 1)
	}
}

func (g *latencyGame) observe(canary bool, bucket int) {
	g.multiply(g.cells[g.cell[bucket]].of(canary))
}
