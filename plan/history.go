package plan

import (
	"slices"

	"github.com/marucloud/maru"
)

// Surplus is what of an app's history can be forgotten.
type Surplus struct {
	Rollouts []int
	Releases map[string][]int // by service
}

// Trim finds what of the history is not among the newest rollouts, nor what any of those, a service
// or a workload needs: so that each rollout that is kept can be gone back to.
func Trim(s AppState, keep int) Surplus {
	var out Surplus
	numbers := sortedKeys(s.History)
	slices.Reverse(numbers)
	used := map[string]map[int]bool{}
	use := func(service string, release int) {
		if used[service] == nil {
			used[service] = map[int]bool{}
		}
		used[service][release] = true
	}
	good := false
	for k, n := range numbers {
		r := s.History[n]
		lastGood := r.Phase == maru.Succeeded && !good
		good = good || lastGood
		if k >= keep && !lastGood && r.Phase.Final() {
			out.Rollouts = append(out.Rollouts, n)
			continue
		}
		for name, release := range r.After {
			use(name, release)
		}
		for name, e := range r.Services {
			use(name, e.From)
			use(name, e.To)
		}
	}
	for name, st := range s.Services {
		use(name, st.Release)
		for _, w := range st.Serving {
			use(name, w.Release)
		}
		if st.Warm != nil {
			use(name, st.Warm.Release)
		}
	}
	for id := range s.Observed {
		release, _ := ReleaseOf(id.Name)
		use(id.Service, release)
	}
	for name, releases := range s.Releases {
		for _, n := range sortedKeys(releases) {
			if !used[name][n] {
				put(&out.Releases, name, append(out.Releases[name], n))
			}
		}
	}
	slices.Sort(out.Rollouts)
	return out
}
