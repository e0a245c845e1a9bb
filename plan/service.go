package plan

import (
	"maps"
	"slices"
	"time"

	"github.com/marucloud/maru"
)

func (s *service) reset() {
	s.want, s.keep = map[string]ApplyWorkload{}, map[string]bool{}
}

func (s *service) apply(release, replicas int) {
	if replicas > 0 {
		name := maru.Itoa(release)
		s.want[name] = ApplyWorkload{Workload: s.id.Workload(name), Release: release, Replicas: replicas}
	}
}

// applyBaseline has fresh instances of a release run beside a newer one.
func (s *service) applyBaseline(release, newer, replicas int) {
	name := maru.BaselineName(release, newer)
	s.want[name] = ApplyWorkload{Workload: s.id.Workload(name), Release: release, Replicas: replicas}
}

func (s *service) applyStep(release int, step Step) {
	name := StepName(release, step)
	s.want[name] = ApplyWorkload{Workload: s.id.Workload(name), Release: release, Replicas: 1, Step: step}
}

// names are those of the workloads that are there, or may be, sorted.
func (s *service) names() []string {
	all := slices.Collect(maps.Keys(s.observed))
	for name := range s.asked {
		if _, seen := s.observed[name]; !seen {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func (s *service) present(name string) bool {
	if _, seen := s.observed[name]; seen {
		return true
	}
	_, asked := s.asked[name]
	return asked
}

// wanted is the number of replicas that the engine knows of; 0 when there is no such workload or it
// is being removed.
func (s *service) wanted(release int) int {
	name := maru.Itoa(release)
	if n, asked := s.asked[name]; asked {
		return max(n, 0)
	}
	return s.observed[name].Wanted
}

// rivals are the workloads of other releases and of release steps that are there, sorted.
func (s *service) rivals(release int) []string {
	return slices.DeleteFunc(s.names(), func(name string) bool {
		n, serving := ReleaseOf(name)
		return n == 0 || serving && n == release
	})
}

// ready counts the instances of a release that take traffic.
func (s *service) ready(release int) int {
	n := 0
	for _, i := range s.observed[maru.Itoa(release)].Instances {
		if takesTraffic(i) {
			n++
		}
	}
	return n
}

func takesTraffic(i maru.Instance) bool { return i.Ready && i.Phase == maru.PhaseRunning }

// ended tells whether an instance ran to its end as it may: its program is not one that is kept running.
func ended(i maru.Instance, r maru.Release) bool {
	return i.Phase == maru.PhaseDone && r.Spec.Container.Restart.Policy != maru.RestartAlways && r.Spec.Container.Restart.Policy != ""
}

// proven is how long an instance that nobody can ask has to run until it counts as ready.
const proven = 2 * time.Second

// up counts the instances of a release that are as they should be: ready, or ended well.
func (p *planner) up(s *service, release int) int {
	return p.upOf(s.releases[release], s.observed[maru.Itoa(release)])
}

// upOf counts those of a workload.
func (p *planner) upOf(r maru.Release, o maru.Observation) int {
	asked := r.Spec.Container.Probes.Ready != nil || slices.ContainsFunc(Ports(r.Spec), func(p maru.Port) bool { return p.Protocol == maru.TCP })
	n := 0
	for _, i := range o.Instances {
		if ended(i, r) || takesTraffic(i) && (asked || p.at(i.ReadySince.Add(proven))) {
			n++
		}
	}
	return n
}

// difference tells what the engine has yet to be asked.
func (s *service) difference() (apply, remove []Action) {
	for _, name := range slices.Sorted(maps.Keys(s.want)) {
		a := s.want[name]
		asked, was := s.asked[name]
		seen, is := s.observed[name]
		if was && asked == a.Replicas || !was && is && seen.Wanted == a.Replicas {
			continue
		}
		apply = append(apply, a)
	}
	for _, name := range s.names() {
		if _, wanted := s.want[name]; wanted || s.keep[name] {
			continue
		}
		if n, was := s.asked[name]; was && n == Removed {
			continue
		}
		remove = append(remove, RemoveWorkload{s.id.Workload(name)})
	}
	return apply, remove
}

// serve moves all traffic to a release.
func (s *service) serve(release, replicas int) {
	if s.state.Release == release && len(s.state.Serving) == 0 && s.state.Replicas == replicas && s.state.Shifting == 0 {
		return
	}
	if s.state.Release != release {
		s.state.Protocols, s.state.Warm = nil, nil
	}
	s.state = unshifted(s.state)
	s.state.Release, s.state.Serving, s.state.Replicas = release, nil, replicas
	s.changed = true
	s.recognize()
}

// setServing shares traffic among releases.
func (s *service) setServing(weights []maru.Weight) {
	if !slices.Equal(weights, s.state.Serving) {
		s.state.Serving = weights
		s.changed = true
	}
}

// recognize keeps what the first ready instance speaks on ports that the file says nothing of.
func (s *service) recognize() {
	release, known := s.releases[s.state.Release]
	if !known {
		return
	}
	for _, port := range Ports(release.Spec) {
		if port.App != "" || port.Protocol != maru.TCP || s.state.Protocols[port.Port] != "" {
			continue
		}
		for _, i := range s.observed[maru.Itoa(release.Number)].Instances {
			if app := i.Protocols[port.Port]; app != "" && takesTraffic(i) {
				s.state.Protocols = maps.Clone(s.state.Protocols)
				if s.state.Protocols == nil {
					s.state.Protocols = map[uint16]string{}
				}
				s.state.Protocols[port.Port] = app
				s.changed = true
				break
			}
		}
	}
}

// exclusive tells whether the release may only start when all others of its service are gone: the
// file says so, or one of them could write to a volume that this one writes to.
func (s *service) exclusive(to maru.Release) bool {
	return to.Spec.Update.Strategy == maru.Recreate || s.shares(to)
}

// shares tells whether what served before, or a workload that is there, could write to a volume that
// the release writes to. Its own steps do not count.
func (s *service) shares(to maru.Release) bool {
	others := slices.DeleteFunc(s.rivals(to.Number), func(name string) bool { return stepOf(name, to.Number) })
	if r := s.state.Release; r != 0 && r != to.Number {
		others = append(others, maru.Itoa(r))
	}
	return s.contended(to, others)
}

// contended tells whether one of the workloads could write to a volume that the release writes to.
func (s *service) contended(to maru.Release, workloads []string) bool {
	mine := writable(to)
	if len(mine) == 0 {
		return false
	}
	return slices.ContainsFunc(workloads, func(name string) bool {
		n, _ := ReleaseOf(name)
		other, known := s.releases[n]
		if !known {
			return true
		}
		for v := range writable(other) {
			if mine[v] {
				return true
			}
		}
		return false
	})
}
