package network

import (
	"net/netip"

	"github.com/marucloud/maru"
)

// maxSlots is how exactly shares are kept: to one in so many. With more endpoints than this there is
// a slot for each.
const maxSlots = 256

// balance gives the endpoints that take new connections, each as often as its share is.
func balance(s maru.ServiceTraffic, f family) []netip.Addr {
	shares := ready(s, f)
	slots, ok := exact(shares)
	if ok {
		return slots
	}
	sum := 0
	for _, sh := range shares {
		sum += sh.weight
	}
	for _, sh := range shares {
		for i := range max(maxSlots*sh.weight/sum, len(sh.addrs)) {
			slots = append(slots, sh.addrs[i%len(sh.addrs)])
		}
	}
	return slots
}

// exact gives each endpoint the smallest number of slots that keeps the shares exactly, unless that
// takes too many.
func exact(shares []share) ([]netip.Addr, bool) {
	if len(shares) == 1 {
		return shares[0].addrs, true
	}
	whole, common, total := 1, 0, 0
	for _, sh := range shares {
		if whole = lcm(whole, len(sh.addrs)); whole > maxSlots {
			return nil, false
		}
	}
	for _, sh := range shares {
		common = gcd(common, sh.weight*whole/len(sh.addrs))
	}
	for _, sh := range shares {
		if total += sh.weight * whole / common; total > maxSlots {
			return nil, false
		}
	}
	var slots []netip.Addr
	for _, sh := range shares {
		for range sh.weight * whole / len(sh.addrs) / common {
			slots = append(slots, sh.addrs...)
		}
	}
	return slots, true
}

// share is what a release gets of the traffic, spread over its endpoints.
type share struct {
	weight int
	addrs  []netip.Addr
}

// ready groups the ready endpoints by release. Without weights they all are one group.
func ready(s maru.ServiceTraffic, f family) []share {
	var shares []share
	index := map[int]int{}
	for _, w := range s.Serving {
		if _, twice := index[w.Release]; w.Weight > 0 && !twice {
			index[w.Release] = len(shares)
			shares = append(shares, share{weight: w.Weight})
		}
	}
	if len(s.Serving) == 0 {
		shares = []share{{weight: 1}}
	}
	for _, e := range s.Endpoints {
		addr := byFamily(e.Addresses, f)
		if !e.Ready || e.Draining || !addr.IsValid() {
			continue
		}
		i, ok := index[e.Release]
		if len(s.Serving) == 0 {
			i, ok = 0, true
		}
		if ok {
			shares[i].addrs = append(shares[i].addrs, addr)
		}
	}
	kept := shares[:0]
	for _, sh := range shares {
		if len(sh.addrs) > 0 {
			kept = append(kept, sh)
		}
	}
	return kept
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func lcm(a, b int) int { return a / gcd(a, b) * b }
