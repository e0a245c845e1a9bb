package plan

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/marucloud/maru"
)

// mover takes one service through its part of a rollout.
type mover struct {
	*planner
	*service
	entry *maru.ServiceRollout
	to    maru.Release
}

func (m mover) move() {
	if m.entry.Phase == maru.RollingBack {
		m.back()
		return
	}
	if m.to.Number == 0 {
		m.fail(fmt.Sprintf("release %d is not there any more", m.entry.To))
		return
	}
	switch m.entry.Phase {
	case maru.Pending:
		m.wait()
	case maru.Releasing:
		m.step(ReleaseStep)
	case maru.Seeding:
		m.step(SeedStep)
	case maru.Starting:
		m.start()
	case maru.Shifting:
		m.shift()
	case maru.Draining:
		m.drain()
	}
}

func (m mover) fail(reason string) {
	m.planner.failure = &failure{m.id.Service, reason}
}

// replicas is how many instances the release is to have.
func (m mover) replicas() int {
	switch {
	case m.to.Spec.Kind == maru.Job:
		return max(m.to.Spec.Replicas, 1)
	case m.state.Scaled, m.state.Release == m.to.Number, m.entry.From == m.entry.To:
		return m.state.Replicas
	}
	return m.to.Spec.Replicas
}

// wait holds the service until what it depends on is as it asks for.
func (m mover) wait() {
	m.holdBefore()
	waits, theirs := m.blockers(m.to)
	if len(waits) == 0 {
		m.entry.Phase = m.prepared()
		if m.entry.Fresh && m.to.Spec.Release != nil && m.to.Spec.Kind != maru.Job {
			m.entry.Phase = maru.Releasing
		}
		return
	}
	if deadline := deadlineOf(m.to); !theirs && m.at(m.entry.Since.Add(deadline)) {
		m.fail(fmt.Sprintf("waited %s: %s", words(deadline), join(waits)))
	}
}

// holdBefore keeps what serves before the rollout comes to this service, and what already runs of
// the new release.
func (m mover) holdBefore() {
	m.hold(m.service)
	name := maru.Itoa(m.state.Release)
	if m.entry.Stopped && !m.present(name) {
		delete(m.want, name)
	}
	if m.entry.To != m.state.Release {
		m.keep[maru.Itoa(m.entry.To)] = true
	}
}

// prepared is the phase that follows the release step.
func (m mover) prepared() maru.RolloutPhase {
	if m.to.Spec.Seed != nil && !m.state.Seeded && m.to.Spec.Kind != maru.Job {
		return maru.Seeding
	}
	return maru.Starting
}

// step runs a step that comes before traffic. What serves goes on serving, unless the step needs a volume that
// it writes to.
func (m mover) step(step Step) {
	name := StepName(m.to.Number, step)
	if m.shares(m.to) {
		others := slices.DeleteFunc(m.rivals(m.to.Number), func(other string) bool { return stepOf(other, m.to.Number) })
		if len(others) > 0 || m.present(maru.Itoa(m.to.Number)) {
			return
		}
	} else {
		m.holdBefore()
	}
	if m.otherSteps(name) {
		return
	}
	m.applyStep(m.to.Number, step)
	done, why := m.stepEnd(name, m.to, step, m.entry.Since)
	switch {
	case why != "":
		m.fail(why)
	case done && step == ReleaseStep:
		m.entry.Fresh = false
		m.entry.Phase = m.prepared()
		m.record("release-step-done", m.service, m.to.Number, stepWords(step, m.to.Number)+" is done")
	case done:
		m.state.Seeded, m.changed = true, true
		m.entry.Phase = maru.Starting
		m.record("seed-done", m.service, m.to.Number, stepWords(step, m.to.Number)+" is done")
	}
}

// otherSteps tells whether another step than the named one is there.
func (s *service) otherSteps(name string) bool {
	return slices.ContainsFunc(s.names(), func(other string) bool {
		n, serving := ReleaseOf(other)
		return n != 0 && !serving && other != name && baselineOf(other) == 0
	})
}

// stepWords names a step.
func stepWords(step Step, release int) string {
	switch step {
	case SeedStep:
		return fmt.Sprintf("the seed of release %d", release)
	case AfterStep:
		return fmt.Sprintf("the step after release %d", release)
	}
	return fmt.Sprintf("the release step of release %d", release)
}

// stepEnd tells whether a step that is applied since a moment is done, or why it failed.
func (p *planner) stepEnd(name string, r maru.Release, step Step, since time.Time) (done bool, failed string) {
	if why, refused := p.in.Refused[r.Service.Workload(name)]; refused {
		return false, stepWords(step, r.Number) + " can't be run: " + why
	}
	done, worst := outcome(p.service(r.Service.Service).observed[name], 1)
	limit := DefaultStepTimeout
	if spec := step.spec(r.Spec); spec != nil && spec.Timeout > 0 {
		limit = spec.Timeout
	}
	switch {
	case worst != nil:
		return false, stepWords(step, r.Number) + " failed: " + Why(p.now, *worst, r.Spec.Container)
	case !done && p.at(since.Add(limit)):
		return false, fmt.Sprintf("%s was not done after %s", stepWords(step, r.Number), words(limit))
	}
	return done, ""
}

// outcome tells whether n instances of a job are done, or one has failed for good.
func outcome(o maru.Observation, n int) (done bool, failed *maru.Instance) {
	ended := 0
	for i := range o.Instances {
		switch o.Instances[i].Phase {
		case maru.PhaseDone:
			ended++
		case maru.PhaseFailed:
			return false, &o.Instances[i]
		}
	}
	return ended >= n, nil
}

// start brings the new release to where it takes all traffic.
func (m mover) start() {
	if m.otherSteps("") {
		if !m.shares(m.to) {
			m.holdBefore()
		}
		return
	}
	if m.gradual() {
		m.approach()
		return
	}
	n := m.replicas()
	var there bool
	switch {
	case m.to.Spec.Kind == maru.Job:
		there = m.job(n)
	case m.exclusive(m.to):
		there = m.recreate(n)
	default:
		there = m.rolling(n, m.batch(n))
	}
	if there {
		m.entry.Phase = maru.Draining
		m.record("release-serving", m.service, m.to.Number, m.served())
		return
	}
	if why := m.trouble(n); why != "" {
		m.fail(why)
	}
}

func (m mover) served() string {
	switch {
	case m.to.Spec.Kind == maru.Job && m.entry.Fresh:
		return fmt.Sprintf("the job of release %d is done", m.to.Number)
	case m.entry.From == 0 || m.entry.From == m.to.Number:
		return fmt.Sprintf("release %d serves", m.to.Number)
	}
	return fmt.Sprintf("release %d serves in place of %d", m.to.Number, m.entry.From)
}

// job runs the release to its end, alone.
func (m mover) job(n int) bool {
	name := maru.Itoa(m.to.Number)
	if m.entry.Fresh {
		if len(m.rivals(m.to.Number)) > 0 {
			m.keep[name] = true
			return false
		}
		m.apply(m.to.Number, n)
		if done, _ := outcome(m.observed[name], n); !done {
			return false
		}
	}
	m.keep[name] = true
	m.serve(m.to.Number, n)
	return true
}

// recreate starts the release when nothing of others is left.
func (m mover) recreate(n int) bool {
	if len(m.rivals(m.to.Number)) > 0 {
		m.keep[maru.Itoa(m.to.Number)] = true
		return false
	}
	m.serve(m.to.Number, n)
	m.apply(m.to.Number, n)
	return m.up(m.service, m.to.Number) >= n
}

// trouble tells why the release can't be waited for any longer.
func (m mover) trouble(n int) string {
	name := maru.Itoa(m.to.Number)
	if why, refused := m.in.Refused[m.id.Workload(name)]; refused {
		return fmt.Sprintf("release %d can't be run: %s", m.to.Number, why)
	}
	o := m.observed[name]
	if i := m.hopeless(o); i != nil {
		return fmt.Sprintf("release %d does not start: %s", m.to.Number, Why(m.now, *i, m.to.Spec.Container))
	}
	limit := deadlineOf(m.to)
	if p := m.to.Spec.Update.Parallel; p > 0 && n > p {
		limit += time.Duration((n-1)/p) * m.to.Spec.Update.Delay
	}
	if !m.at(m.entry.Since.Add(limit)) {
		return ""
	}
	verb := "become ready"
	if m.to.Spec.Kind == maru.Job {
		verb = "complete"
	}
	why := worst(m.now, o, m.to)
	if why == "" {
		why = m.waitsForOthers()
	}
	return fmt.Sprintf("release %d did not %s within %s%s", m.to.Number, verb, words(limit), after(": ", why))
}

func (m mover) waitsForOthers() string {
	if rivals := m.rivals(m.to.Number); len(rivals) > 0 {
		return "the instances before it are not gone"
	}
	return ""
}

// How often an instance may end in a row before its release counts as failed, ahead of the deadline.
const (
	crashesOfUpdate = 5 // something served before
	crashesOfFirst  = 8 // what it needs may be starting too
)

func (m mover) patience() int {
	switch m.entry.From {
	case 0:
		return crashesOfFirst
	case m.entry.To: // it ran before: what it counts is old
		return math.MaxInt
	}
	return crashesOfUpdate
}

// hopeless is an instance that will not come up.
func (m mover) hopeless(o maru.Observation) *maru.Instance {
	job := m.to.Spec.Kind == maru.Job
	for k := range o.Instances {
		i := &o.Instances[k]
		switch {
		case i.Phase == maru.PhaseFailed, i.Phase == maru.PhaseDone && !job && !ended(*i, m.to):
			return i
		case i.Phase == maru.PhaseBackoff && i.Attempt >= m.patience() && !job:
			return i
		}
	}
	return nil
}

// drain waits until what served before is gone, and over the time in which a crash still counts.
func (m mover) drain() {
	m.settle()
	monitor := m.to.Spec.Update.Monitor
	if monitor > 0 && m.to.Spec.Kind != maru.Job {
		for _, i := range m.observed[maru.Itoa(m.to.Number)].Instances {
			if i.LastExit != nil && i.LastExit.At.After(m.entry.Since) {
				m.fail(fmt.Sprintf("release %d became ready and crashed: %s", m.to.Number, Why(m.now, i, m.to.Spec.Container)))
				return
			}
		}
	}
	over := m.at(m.entry.Since.Add(monitor))
	if over && len(m.leftovers()) == 0 {
		m.entry.Phase = maru.Succeeded
	}
}

// settle keeps the release that serves alone.
func (m mover) settle() {
	m.recognize()
	if m.to.Spec.Kind == maru.Job {
		m.keep[maru.Itoa(m.to.Number)] = true
		return
	}
	m.apply(m.to.Number, m.state.Replicas)
	if w := m.state.Warm; w != nil {
		m.apply(w.Release, w.Replicas)
	}
}

// leftovers are the workloads of other releases that are there and are to go.
func (m mover) leftovers() []string {
	return slices.DeleteFunc(m.rivals(m.to.Number), func(name string) bool {
		return m.state.Warm != nil && name == maru.Itoa(m.state.Warm.Release)
	})
}
