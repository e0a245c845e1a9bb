package plan

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Defaults of a restart policy and of stopping, and the limits of the backoff.
const (
	DefaultRestartDelay  = time.Second
	DefaultRestartWindow = time.Minute
	DefaultGrace         = 10 * time.Second
	DefaultDrain         = 30 * time.Second
	MaxRestartDelay      = time.Minute
	killAgain            = 5 * time.Second // a process that outlived SIGKILL is sent it again
)

// InstancesWanted is what is wanted of one workload.
type InstancesWanted struct {
	Kind     maru.ServiceKind
	Replicas int
	Removed  bool
	Restart  maru.Restart
	Stop     maru.Stop
}

// InstanceState is what is physically there of an instance.
type InstanceState string

// The states of an instance.
const (
	InstanceNew     InstanceState = "new"     // nothing ran yet
	InstanceRunning InstanceState = "running" // its process lives
	InstanceEnded   InstanceState = "ended"   // its process ended, or could not be started
)

// InstanceFacts is what is known of one instance.
type InstanceFacts struct {
	ID        string
	State     InstanceState
	Busy      bool // an action on it is under way
	Created   time.Time
	Ready     bool
	WasReady  bool      // some time in this attempt
	Unhealthy bool      // its liveness probe failed
	Blocked   bool      // something that it needs to start is held by another
	Draining  time.Time // since when it is to go; zero: it stays
	Drained   bool      // nothing uses it any more
	Signaled  time.Time // this attempt got its stop signal
	Killed    time.Time // this attempt got SIGKILL
	Ended     time.Time // of this attempt, in state ended
	Failed    bool      // this attempt ended otherwise than with exit code 0
	Ends      int       // in a row without running for the restart window, see CountEnds
}

// InstanceOp is a kind of action.
type InstanceOp string

// The actions on instances.
const (
	CreateInstance InstanceOp = "create" // one more; the shell names it
	StartInstance  InstanceOp = "start"  // a container for its first or next attempt
	DrainInstance  InstanceOp = "drain"  // it is to go: no new requests
	StopInstance   InstanceOp = "stop"   // its stop signal
	KillInstance   InstanceOp = "kill"   // SIGKILL
	DeleteInstance InstanceOp = "delete" // all that is left of it
)

// InstanceAction is one thing to do now.
type InstanceAction struct {
	Op       InstanceOp
	Instance string // empty to create
}

// InstanceOutlook is what the decision says of one instance that is there.
type InstanceOutlook struct {
	ID        string
	Phase     maru.Phase
	NextStart time.Time // in phase backoff
}

// InstancesPlan is what to do now about a workload's instances.
type InstancesPlan struct {
	Actions []InstanceAction  // sorted by instance, those to create last
	Outlook []InstanceOutlook // sorted by ID
	Next    time.Time         // when to decide again if nothing happens before; zero: never
}

// Instances decides what keeps the wanted number of instances alive. An instance that ends is started
// again at once the first time, then after a delay that doubles, with a jitter drawn from seed; one
// that is to go is drained, signaled and killed in turn, and then deleted. Ends of jobs, and of what
// its policy does not restart, are final and count as alive: they are not replaced.
func Instances(now time.Time, want InstancesWanted, have []InstanceFacts, seed uint64) InstancesPlan {
	have = slices.Clone(have)
	slices.SortFunc(have, func(a, b InstanceFacts) int { return strings.Compare(a.ID, b.ID) })
	replicas := max(want.Replicas, 0)
	if want.Removed {
		replicas = 0
	}
	d := instanceDecider{now: now, want: want, seed: seed}
	staying := 0
	for _, f := range have {
		if f.Draining.IsZero() {
			staying++
		}
	}
	surplus := leastWorth(have, want, staying-replicas)
	for _, f := range have {
		d.decide(f, surplus[f.ID])
	}
	for range replicas - staying {
		d.plan.Actions = append(d.plan.Actions, InstanceAction{Op: CreateInstance})
	}
	return d.plan
}

// CountEnds gives InstanceFacts.Ends after one more end, of an attempt that ran for so long.
func CountEnds(restart maru.Restart, before int, ran time.Duration) int {
	if ran >= orDefault(restart.Window, DefaultRestartWindow) {
		return 1
	}
	return before + 1
}

// RestartDelay is how long after its end an instance is started again, having ended so often in a row.
func RestartDelay(restart maru.Restart, instance string, ends int, seed uint64) time.Duration {
	if ends <= 1 {
		return 0
	}
	base := orDefault(restart.Delay, DefaultRestartDelay)
	limit := max(base, MaxRestartDelay)
	delay := limit
	if doublings := ends - 2; doublings < 32 && base<<doublings>>doublings == base {
		delay = min(base<<doublings, limit)
	}
	hash := fnv.New64a()
	_ = binary.Write(hash, binary.LittleEndian, seed)
	_ = binary.Write(hash, binary.LittleEndian, int64(ends))
	_, _ = hash.Write([]byte(instance))
	const spread = 0.2
	part := float64(hash.Sum64()) / math.MaxUint64 // of 0 to 1
	return time.Duration(float64(delay) * (1 - spread + 2*spread*part))
}

// RestartsAfter tells whether the policy starts an instance again after such an end.
func RestartsAfter(kind maru.ServiceKind, restart maru.Restart, failed bool, ends int) bool {
	policy := restartPolicy(kind, restart)
	if policy == maru.RestartNever || policy == maru.RestartOnFailure && !failed {
		return false
	}
	return restart.Attempts <= 0 || ends <= restart.Attempts
}

// restartPolicy fills in the default: always, and for jobs never, which nothing makes run twice once
// they succeeded.
func restartPolicy(kind maru.ServiceKind, restart maru.Restart) maru.RestartPolicy {
	switch {
	case kind == maru.Job && restart.Policy == "":
		return maru.RestartNever
	case kind == maru.Job && restart.Policy == maru.RestartAlways:
		return maru.RestartOnFailure
	case restart.Policy == "":
		return maru.RestartAlways
	}
	return restart.Policy
}

// leastWorth picks n of the instances that stay: those that do not serve first, then the newest.
func leastWorth(have []InstanceFacts, want InstancesWanted, n int) map[string]bool {
	if n <= 0 {
		return nil
	}
	worth := func(f InstanceFacts) int {
		switch {
		case f.State == InstanceRunning && f.Ready && !f.Unhealthy:
			return 3
		case f.State == InstanceRunning:
			return 2
		case f.State == InstanceEnded && !RestartsAfter(want.Kind, want.Restart, f.Failed, f.Ends):
			return 0
		}
		return 1
	}
	var staying []InstanceFacts
	for _, f := range have {
		if f.Draining.IsZero() {
			staying = append(staying, f)
		}
	}
	slices.SortFunc(staying, func(a, b InstanceFacts) int {
		if c := worth(a) - worth(b); c != 0 {
			return c
		}
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	picked := make(map[string]bool, n)
	for _, f := range staying[:min(n, len(staying))] {
		picked[f.ID] = true
	}
	return picked
}

type instanceDecider struct {
	now  time.Time
	want InstancesWanted
	seed uint64
	plan InstancesPlan
}

func (d *instanceDecider) act(op InstanceOp, f InstanceFacts) {
	d.plan.Actions = append(d.plan.Actions, InstanceAction{Op: op, Instance: f.ID})
}

// at tells whether the time has come, and has the decider called again when it has not.
func (d *instanceDecider) at(t time.Time) bool {
	if !t.After(d.now) {
		return true
	}
	if d.plan.Next.IsZero() || t.Before(d.plan.Next) {
		d.plan.Next = t
	}
	return false
}

func (d *instanceDecider) decide(f InstanceFacts, surplus bool) {
	outlook := InstanceOutlook{ID: f.ID}
	switch {
	case surplus:
		d.act(DrainInstance, f)
		outlook.Phase = maru.PhaseDraining
	case !f.Draining.IsZero():
		outlook.Phase = d.leave(f)
	case f.State == InstanceRunning:
		outlook.Phase = d.keep(f)
	default:
		outlook.Phase, outlook.NextStart = d.start(f)
	}
	d.plan.Outlook = append(d.plan.Outlook, outlook)
}

// leave ends an instance that is to go.
func (d *instanceDecider) leave(f InstanceFacts) maru.Phase {
	switch {
	case f.State != InstanceRunning:
		if !f.Busy {
			d.act(DeleteInstance, f)
		}
		return maru.PhaseStopping
	case f.Busy:
	case !f.Signaled.IsZero():
		d.stop(f)
	case d.want.Kind == maru.Job, f.Drained, !f.WasReady,
		d.at(f.Draining.Add(orDefault(d.want.Stop.Drain, DefaultDrain))):
		d.stop(f)
		return maru.PhaseStopping
	}
	if f.Signaled.IsZero() {
		return maru.PhaseDraining
	}
	return maru.PhaseStopping
}

// keep watches over an instance that runs and is to stay.
func (d *instanceDecider) keep(f InstanceFacts) maru.Phase {
	if f.Signaled.IsZero() && (!f.Unhealthy || restartPolicy(d.want.Kind, d.want.Restart) == maru.RestartNever) {
		return maru.PhaseRunning
	}
	if !f.Busy {
		d.stop(f)
	}
	return maru.PhaseStopping
}

// stop sends the signal, and SIGKILL when the grace time is over.
func (d *instanceDecider) stop(f InstanceFacts) {
	switch {
	case f.Signaled.IsZero():
		d.act(StopInstance, f)
	case f.Killed.IsZero():
		if d.at(f.Signaled.Add(orDefault(d.want.Stop.Grace, DefaultGrace))) {
			d.act(KillInstance, f)
		}
	case d.at(f.Killed.Add(killAgain)):
		d.act(KillInstance, f)
	}
}

// start begins the first or next attempt when its time has come.
func (d *instanceDecider) start(f InstanceFacts) (maru.Phase, time.Time) {
	if f.Busy {
		return maru.PhaseCreating, time.Time{}
	}
	if f.State == InstanceEnded {
		if !RestartsAfter(d.want.Kind, d.want.Restart, f.Failed, f.Ends) {
			if f.Failed {
				return maru.PhaseFailed, time.Time{}
			}
			return maru.PhaseDone, time.Time{}
		}
		if next := f.Ended.Add(RestartDelay(d.want.Restart, f.ID, f.Ends, d.seed)); !d.at(next) {
			return maru.PhaseBackoff, next
		}
	}
	if f.Blocked {
		return maru.PhasePending, time.Time{}
	}
	d.act(StartInstance, f)
	return maru.PhaseCreating, time.Time{}
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}
