package judge

// odds are the alternatives of the players: how many times the old release's odds of failing.
var odds = [...]float64{1.5, 2.5, 5, 12, 40, 1000}

// bets holds what each player's wealth is multiplied by, by who had the request.
type bets struct {
	canary, stable []float64
}

func newBets(n int) bets {
	return bets{canary: make([]float64, n), stable: make([]float64, n)}
}

// of gives the factors for a record.
func (b *bets) of(canary bool) []float64 {
	if canary {
		return b.canary
	}
	return b.stable
}

// failureGame asks whether the canary fails more often.
type failureGame struct {
	wealth
	failed, succeeded bets
}

func newFailureGame() failureGame {
	return failureGame{wealth: newWealth(len(odds)), failed: newBets(len(odds)), succeeded: newBets(len(odds))}
}

// prepare sets the bets for a canary that is drawn with the chance w, beside an old release that so
// far failed in the given number of requests.
func (g *failureGame) prepare(w float64, old counts) {
	ratio := (float64(old.failures) + 0.5) / (float64(old.requests) + 10)
	forgiven := 1 / (1 + ratio*tolerance)
	for i, rho := range odds {
		r := 1 / (1 + ratio*(rho-1))
		g.failed.set(i, w, rho*r, (1+tolerance)*forgiven)
		g.succeeded.set(i, w, r, forgiven)
	}
}

// set gives player i's factors for an outcome that is r times as frequent in the canary by his
// alternative, against one where it is q times as frequent.
func (b *bets) set(i int, w, r, q float64) {
	b.stable[i] = (1 + w*(q-1)) / (1 + w*(r-1))
	b.canary[i] = b.stable[i] * r / q
}

func (g *failureGame) observe(canary, failed bool) {
	if failed {
		g.multiply(g.failed.of(canary))
		return
	}
	g.multiply(g.succeeded.of(canary))
}
