package judge

// stakes are the alternatives of the players: how much of his wealth each one puts on a request of the
// canary. A small stake suits frequent failures, a high one rare ones.
var stakes = [...]float64{0.1, 0.3, 0.6, 0.92}

// A marginGame asks whether the canary is within a margin. Its null hypothesis: of the canary's
// requests at least the share of the old release's times ratio, plus margin, is bad. Each request of
// the canary gives stake·(margin-bad), each of the old release stake·ratio·w/(1-w)·bad: under the null
// hypothesis their mean is at most 0.
type marginGame struct {
	wealth
	margins []margin
	good    []float64 // of the canary
	bad     bets
	shown   bool
}

type margin struct{ ratio, plus float64 }

func newMarginGame(margins ...margin) marginGame {
	n := len(margins) * len(stakes)
	g := marginGame{wealth: newWealth(n), margins: margins, good: make([]float64, n), bad: newBets(n)}
	for i, m := range margins {
		for j, stake := range stakes {
			k := i*len(stakes) + j
			g.good[k] = 1 + stake*m.plus
			g.bad.canary[k] = 1 + stake*(m.plus-1)
		}
	}
	return g
}

func (g *marginGame) prepare(w float64) {
	for i, m := range g.margins {
		for j, stake := range stakes {
			g.bad.stable[i*len(stakes)+j] = 1 + stake*m.ratio*w/(1-w)
		}
	}
}

func (g *marginGame) observe(canary, bad bool) {
	switch {
	case g.shown:
	case bad:
		g.multiply(g.bad.of(canary))
	case canary:
		g.multiply(g.good)
	}
}

// look remembers that the margin was once shown to hold.
func (g *marginGame) look() bool {
	g.shown = g.shown || g.total() >= 1/equalLevel
	return g.shown
}

// quantileGame is a marginGame on one quantile of the latency: bad are the old release's requests at
// the quantile's bucket or above, and the canary's that would be there without the margin.
type quantileGame struct {
	marginGame
	q  float64
	at int // the quantile's bucket
}

func newQuantileGame(q float64) quantileGame {
	return quantileGame{marginGame: newMarginGame(margin{ratio: 1}), q: q, at: numBuckets}
}

func (g *quantileGame) prepare(w float64, old *histogram) {
	g.marginGame.prepare(w)
	if old.n > 0 {
		g.at = old.quantile(g.q)
	}
}
