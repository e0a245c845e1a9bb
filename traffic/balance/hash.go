package balance

// Key makes a key of what a request is told apart by: FNV-1a, the same in every process.
func Key(v string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(v) {
		h = (h ^ uint64(v[i])) * 0x100000001b3
	}
	return mix(h)
}

// Score is how much a key is drawn to an endpoint, whose name has a key, too: it goes to the one with the
// highest score. So each key keeps its endpoint while others come and go, and those of one that goes are
// spread over all that are left: rendezvous hashing (Thaler and Ravishankar, 1998).
func Score(key, endpoint uint64) uint64 { return mix(key ^ endpoint) }

// Bound is how many requests an endpoint may have at most for one more to be led there by its key, when n
// endpoints have so many together: a quarter above the average (Mirrokni et al., "Consistent hashing with
// bounded loads", 2016), and never so few that a handful at once would leave their endpoint.
func Bound(inFlight, n int) int {
	return max(leastBound, (5*(inFlight+1)+4*n-1)/(4*n))
}

const leastBound = 8
