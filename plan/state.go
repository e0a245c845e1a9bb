package plan

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// AppState is all that is known of one app in one environment. Nothing in it is written to.
type AppState struct {
	Scope    maru.Scope
	Spec     *maru.App                            // as last deployed; nil: removed, or never deployed
	Services map[string]maru.ServiceState         // by service
	Releases map[string]map[int]maru.Release      // by service and number
	Rollout  *maru.Rollout                        // the newest, final or not; nil: none yet
	History  map[int]maru.Rollout                 // by number: those still kept, the newest among them
	Observed map[maru.WorkloadID]maru.Observation // the app's workloads; what is gone is not in it
	Asked    map[maru.WorkloadID]int              // what the engine accepted and has not yet shown gone: replicas, or Removed
	Refused  map[maru.WorkloadID]string           // what the engine refuses for good, and why
	Verdicts map[string]maru.Verdict              // of the judge, by service
}

// Removed in [AppState.Asked] says that the engine was asked to remove the workload.
const Removed = -1

// Plan is what to do now, in this order: the stored objects in one commit, then the engine.
type Plan struct {
	Actions []Action
	Wake    time.Time // plan again then, even if nothing changed; zero: no need
}

// Empty tells whether there is nothing to do now.
func (p Plan) Empty() bool { return len(p.Actions) == 0 }

// Action is one thing to do. All actions are idempotent.
type Action interface{ action() }

// PutService stores a service's state.
type PutService struct{ State maru.ServiceState }

// DeleteService forgets a service's state: nothing of it is left on the engine.
type DeleteService struct{ Service maru.ServiceID }

// PutRollout stores a rollout.
type PutRollout struct{ Rollout maru.Rollout }

// ForgetApp deletes the app's file and releases: it was removed, and nothing of it is left on the
// engine. Its rollouts stay, so that numbers go on.
type ForgetApp struct{ Scope maru.Scope }

// PutApp stores the file as deployed.
type PutApp struct {
	Scope maru.Scope
	App   maru.App
}

// PutRelease stores a new release.
type PutRelease struct{ Release maru.Release }

// Record stores an event.
type Record struct{ Event maru.Event }

// ApplyWorkload makes Replicas of Release wanted under the ID. Step says which of the release's one-off
// steps it is; "": what serves.
type ApplyWorkload struct {
	Workload maru.WorkloadID
	Release  int
	Replicas int
	Step     Step
}

// RemoveWorkload makes the workload unwanted.
type RemoveWorkload struct{ Workload maru.WorkloadID }

func (PutService) action()     {}
func (DeleteService) action()  {}
func (PutRollout) action()     {}
func (ForgetApp) action()      {}
func (PutApp) action()         {}
func (PutRelease) action()     {}
func (Record) action()         {}
func (ApplyWorkload) action()  {}
func (RemoveWorkload) action() {}

// Defaults that a file's zero values mean.
const (
	DefaultDeadline    = 5 * time.Minute  // for the instances of a release to become ready
	DefaultJobDeadline = time.Hour        // for a job to complete
	DefaultStepTimeout = 10 * time.Minute // for a release step
	runKept            = time.Hour        // how long a one-off that ended stays to be looked at
)

// Step is a one-off that a release runs in its image.
type Step string

// The steps.
const (
	ReleaseStep Step = "release" // before it takes traffic
	SeedStep    Step = "seed"    // once in an environment, after the release step
	AfterStep   Step = "after"   // once its rollout has succeeded
)

const runPrefix = "run."

// baselineOf gives the number of the release that a workload is the baseline of; 0: it is none.
func baselineOf(name string) int {
	release, newer, is := strings.Cut(name, maru.BaselineOf)
	n, err := strconv.Atoi(release)
	m, bad := strconv.Atoi(newer)
	if !is || err != nil || bad != nil || n <= 0 || m <= 0 {
		return 0
	}
	return n
}

// StepName names the workload of a release's step.
func StepName(release int, step Step) string { return strconv.Itoa(release) + "." + string(step) }

// spec is what the file says of a step.
func (s Step) spec(of maru.Service) *maru.ReleaseStep {
	switch s {
	case ReleaseStep:
		return of.Release
	case SeedStep:
		return of.Seed
	case AfterStep:
		return of.After
	}
	return nil
}

// ReleaseOf gives the number of the release that a workload's name belongs to; 0 for one-offs.
// Serving tells whether it is the workload that serves, not a step of the release or a baseline.
func ReleaseOf(name string) (release int, serving bool) {
	if n := baselineOf(name); n != 0 {
		return n, false
	}
	number, step, isStep := strings.Cut(name, ".")
	n, err := strconv.Atoi(number)
	if err != nil || n <= 0 {
		return 0, false
	}
	if isStep && !slices.Contains([]Step{ReleaseStep, SeedStep, AfterStep}, Step(step)) {
		return 0, false
	}
	return n, !isStep
}

// stepOf tells whether the name is that of a step of the release.
func stepOf(name string, release int) bool {
	n, serving := ReleaseOf(name)
	return n == release && !serving
}
