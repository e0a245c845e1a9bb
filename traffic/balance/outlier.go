package balance

import "time"

const (
	rowOut   = 5   // failures in a row that are too many
	shareOut = 0.5 // share of failures that is too much, and by how much it must be above the others'
	// firstOut is how long an endpoint is passed over the first time.
	firstOut   = 5 * time.Second
	longestOut = 5 * time.Minute
	// mostOut is which part of the endpoints may be passed over at once: one of so many, though always one
	// if there are two.
	mostOut = 3
)

// Suspect tells whether it is worth to look whether an endpoint is an outlier.
func Suspect(row int, failing float64) bool { return row >= rowOut || row > 1 && failing >= shareOut }

// Outlier tells whether an endpoint is to be passed over for its failures: so many in a row, or so large a
// share of its answers, while the others do better. Failing are shares of failures, its own and the
// average of the others; out of them of are passed over already.
func Outlier(row int, failing, others float64, out, of int) bool {
	if !Suspect(row, failing) || of < 2 || out >= max(1, of/mostOut) {
		return false
	}
	return row >= rowOut && others < shareOut || failing-others >= shareOut
}

// Ejection is how long an endpoint is passed over the nth time, from 1 on: twice as long each time.
func Ejection(n int) time.Duration {
	return min(firstOut<<min(n-1, 10), longestOut)
}
