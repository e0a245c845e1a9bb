package main

import (
	"math"
	"math/rand/v2"
)

// Each of these makes the weather of one rollout.

// bursts come every 20 s on average, last 2 s, and bring ten times the traffic, which makes requests
// three times as slow and 1% of them fail.
func bursts(r *rand.Rand) weather {
	return spells(r, 20, 2, conditions{traffic: 10, slower: 3, errors: 0.01})
}

// incidents hit every instance, every 5 minutes on average, for 20 s: five times as slow, and 30%
// fail.
func incidents(r *rand.Rand) weather {
	return spells(r, 300, 20, conditions{traffic: 1, slower: 5, errors: 0.3})
}

// spells alternate with quiet; both last as long as they do on average, at random.
func spells(r *rand.Rand, gap, length float64, spell conditions) weather {
	end, bad := r.ExpFloat64()*gap, false
	return func(at float64, _ bool, _ int) conditions {
		for at > end {
			if bad = !bad; bad {
				end += r.ExpFloat64() * length
			} else {
				end += r.ExpFloat64() * gap
			}
		}
		if bad {
			return spell
		}
		return quiet
	}
}

// days swing from a fifth to 1.8 times the traffic, with latency and errors following.
func days(r *rand.Rand) weather {
	begin := r.Float64()
	return func(at float64, _ bool, _ int) conditions {
		wave := math.Sin(2 * math.Pi * (begin + at/86400))
		return conditions{traffic: 1 + 0.8*wave, slower: 1 + 0.5*wave, errors: 0.001 * (1 + wave)}
	}
}

// warmth is that of an instance: five times as slow when it starts, e times nearer to normal each
// minute. The old release's instances are warm unless they are as fresh as the canary's.
func warmth(fresh bool) func(*rand.Rand) weather {
	return func(*rand.Rand) weather {
		return func(at float64, canary bool, _ int) conditions {
			if !canary && !fresh {
				return quiet
			}
			return conditions{traffic: 1, slower: 1 + 4*math.Exp(-at/60)}
		}
	}
}

// accident hits one instance for 30 s within the first 5 minutes: half of its requests fail, the
// others take five times as long. The instance is one of the canary's with the given chance.
func accident(ofCanary float64, canaries, olds int) func(*rand.Rand) weather {
	return func(r *rand.Rand) weather {
		start, hitsCanary := 300*r.Float64(), r.Float64() < ofCanary
		hit := r.IntN(olds)
		if hitsCanary {
			hit = r.IntN(canaries)
		}
		return func(at float64, canary bool, instance int) conditions {
			if canary == hitsCanary && instance == hit && at >= start && at < start+30 {
				return conditions{traffic: 1, slower: 5, errors: 0.5}
			}
			return quiet
		}
	}
}
