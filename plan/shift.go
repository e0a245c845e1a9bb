package plan

import (
	"cmp"
	"fmt"
	"time"

	"github.com/marucloud/maru"
)

// What a shift has where its file says nothing.
const (
	DefaultStepTime     = time.Minute
	DefaultStepRequests = 100
	DefaultPatience     = 30 * time.Minute
	crashesOfShift      = 3 // of one instance of the new release that is given traffic already
)

// DefaultSteps are those of a canary whose file names none.
func DefaultSteps() []maru.ShiftStep {
	return []maru.ShiftStep{{Weight: 5}, {Weight: 25}, {Weight: 50}}
}

// Reasons for which a shift does not go on by itself.
const (
	HeldPaused   = "paused"
	HeldGate     = "waits for maru promote"
	HeldEvidence = "not enough evidence"
)

// shiftOf is how a release that is brought by canary or blue-green gets its traffic.
func shiftOf(r maru.Release) maru.Shift {
	var s maru.Shift
	if r.Spec.Update.Shift != nil {
		s = *r.Spec.Update.Shift
	}
	if len(s.Steps) == 0 && r.Spec.Update.Strategy == maru.Canary {
		s.Steps = DefaultSteps()
	}
	return s
}

func shifts(r maru.Release) bool {
	return r.Spec.Update.Strategy == maru.Canary || r.Spec.Update.Strategy == maru.BlueGreen
}

// gradual tells whether traffic moves to the release step by step: as its file says, if something serves
// that is another program, and that it can run beside. To go back to what served before takes no steps.
func (m mover) gradual() bool {
	from, known := m.releases[m.entry.From]
	return shifts(m.to) && known && m.entry.From != m.entry.To && m.state.Release != m.entry.To && !m.entry.Stopped &&
		m.rollout.Cause != CauseRollback && m.to.Spec.Kind != maru.Job && from.Spec.Kind != maru.Job &&
		m.replicas() > 0 && m.replicasBefore(*m.entry) > 0 && !m.contended(m.to, []string{maru.Itoa(from.Number)}) && !Same(from, m.to)
}

// approach brings as many instances of the release up as its first share needs. What serves stays whole.
func (m mover) approach() {
	n := m.instances(1)
	if !m.whole() {
		m.keep[maru.Itoa(m.to.Number)] = true
	} else {
		m.apply(m.entry.From, m.state.Replicas)
		m.apply(m.to.Number, n)
		if m.beside(n) && m.up(m.service, m.to.Number) >= n {
			m.entry.Phase, m.entry.Step, m.entry.Stepped = maru.Shifting, 0, m.now
			if mirror := shiftOf(m.to).Mirror; mirror != nil {
				m.setShare(0, true)
				m.record("rollout-step", m.service, m.to.Number,
					fmt.Sprintf("release %d gets copies of %d%% of the safe requests", m.to.Number, mirror.Percent))
			}
			return
		}
	}
	if why := first(m.trouble(n), m.noBaseline(m.entry.Since)); why != "" {
		m.fail(why)
	}
}

// Compared tells whether fresh instances of the release before are what the new one is compared with. What writes to a
// volume can't have any.
func Compared(from, to maru.Release) bool {
	s := shiftOf(to)
	return s.Baseline && s.Judge != nil && len(writable(from)) == 0
}

// beside runs as many fresh instances of the release before as the new one has, and tells whether they are up.
func (m mover) beside(n int) bool {
	from := m.releases[m.entry.From]
	if !Compared(from, m.to) {
		return true
	}
	m.applyBaseline(from.Number, m.to.Number, n)
	return m.upOf(from, m.observed[maru.BaselineName(from.Number, m.to.Number)]) >= n
}

// noBaseline tells why the fresh instances of the release before, which are awaited since a moment, can't be waited
// for any longer.
func (m mover) noBaseline(since time.Time) string {
	from := m.releases[m.entry.From]
	if !Compared(from, m.to) {
		return ""
	}
	name := maru.BaselineName(from.Number, m.to.Number)
	if why, refused := m.in.Refused[m.id.Workload(name)]; refused {
		return fmt.Sprintf("the baseline of release %d can't be run: %s", from.Number, why)
	}
	o := m.observed[name]
	if limit := deadlineOf(m.to); m.upOf(from, o) < m.want[name].Replicas && m.at(since.Add(limit)) {
		return fmt.Sprintf("the baseline of release %d did not become ready within %s%s", from.Number, words(limit), after(": ", worst(m.now, o, from)))
	}
	return ""
}

// whole tells whether the release before serves alone and whole, and brings it there.
func (m mover) whole() bool {
	if m.state.Release == m.entry.From && len(m.state.Serving) == 0 {
		return true
	}
	old := mover{planner: m.planner, service: m.service, entry: m.entry, to: m.releases[m.entry.From]}
	n := m.replicasBefore(*m.entry)
	return old.rolling(n, max(n, 1))
}

// instances is how many the release needs for a step's share.
func (m mover) instances(step int) int {
	n, s := m.replicas(), shiftOf(m.to)
	if m.to.Spec.Update.Strategy == maru.BlueGreen || step > len(s.Steps) {
		return n
	}
	at := s.Steps[max(step, 1)-1]
	if at.Replicas > 0 {
		return at.Replicas
	}
	return max(1, (n*at.Weight+99)/100)
}

// shift moves the release's share on from step to step. The release before stays whole, so that all of its
// traffic can go back at once.
func (m mover) shift() {
	if m.replicas() == 0 { // it was scaled to nothing meanwhile
		m.settleAll(maru.Shift{})
		return
	}
	m.apply(m.entry.From, m.state.Replicas)
	want := m.instances(m.entry.Step)
	m.apply(m.to.Number, want)
	m.beside(want)
	v := m.verdict()
	switch why := m.broken(); {
	case v.Outcome == maru.JudgedRegressed:
		m.entry.Verdict = &v
		m.fail(fmt.Sprintf("release %d %s", m.to.Number, v.Why))
		return
	case why != "":
		m.fail(why)
		return
	}
	if m.entry.Verdict == nil && v.Outcome != "" || m.entry.Verdict != nil && m.entry.Verdict.Outcome != v.Outcome {
		m.entry.Verdict = &v
	}
	m.goOn()
	if m.entry.Next.IsZero() {
		return
	}
	want = max(want, m.instances(m.entry.Step+1))
	m.apply(m.to.Number, want)
	there := m.entry.Step == len(shiftOf(m.to).Steps) || m.beside(want) // all of the traffic is compared with nothing
	if there && m.up(m.service, m.to.Number) >= want {
		m.take(m.entry.Step + 1)
		return
	}
	if why := m.noBaseline(m.entry.Next); why != "" && !there {
		m.fail(why)
		return
	}
	if limit := deadlineOf(m.to); m.at(m.entry.Next.Add(limit)) {
		m.fail(fmt.Sprintf("release %d did not become ready within %s%s", m.to.Number, words(limit),
			after(": ", worst(m.now, m.observed[maru.Itoa(m.to.Number)], m.to))))
	}
}

// broken tells why the release can't have traffic any more.
func (m mover) broken() string {
	name := maru.Itoa(m.to.Number)
	if why, refused := m.in.Refused[m.id.Workload(name)]; refused {
		return fmt.Sprintf("release %d can't be run: %s", m.to.Number, why)
	}
	o := m.observed[name]
	if i := m.hopeless(o); i != nil {
		return fmt.Sprintf("release %d does not stay up: %s", m.to.Number, Why(m.now, *i, m.to.Spec.Container))
	}
	for _, i := range o.Instances {
		if i.LastExit != nil && i.Attempt > crashesOfShift {
			return fmt.Sprintf("release %d ended %d times: %s", m.to.Number, i.Attempt-1, Why(m.now, i, m.to.Spec.Container))
		}
	}
	return ""
}

// verdict is the judge's, or what it said before its evidence began anew.
func (m mover) verdict() maru.Verdict {
	seen, has := m.in.Verdicts[m.id.Service]
	has = has && seen.Release == m.entry.To && seen.Against == m.entry.From
	switch kept := m.entry.Verdict; {
	case has && (kept == nil || kept.Outcome != maru.JudgedEquivalent || seen.Outcome != maru.JudgedContinue || seen.Requests >= kept.Requests):
		return seen
	case kept != nil:
		return *kept
	}
	return maru.Verdict{}
}

// goOn decides whether the release is to have its next share, and notes what holds it if that lasts.
func (m mover) goOn() {
	if !m.entry.Next.IsZero() && !m.rollout.Paused {
		return
	}
	m.entry.Next = time.Time{}
	why, held := m.waits()
	switch {
	case why == "":
		m.entry.Next, m.entry.Held = m.now, ""
	case held && why != m.entry.Held:
		m.entry.Held = why
		if v := m.verdict(); v.Outcome != "" {
			m.entry.Verdict = &v
		}
		m.record("rollout-held", m.service, m.to.Number, m.heldText())
	case !held:
		m.entry.Held = ""
	}
}

// waits tells what the next step waits for, and whether that is for a person to know.
func (m mover) waits() (why string, held bool) {
	s, k := shiftOf(m.to), m.entry.Step
	var at maru.ShiftStep
	switch {
	case m.rollout.Paused:
		return HeldPaused, true
	case m.entry.Promoted > k, k == 0 && s.Mirror == nil:
		return "", false
	case k == 0:
		at.For = s.Mirror.For
	default:
		at = s.Steps[k-1]
	}
	switch {
	case at.Pause:
		return HeldGate, true
	case !m.at(m.entry.Stepped.Add(orDefault(at.For, DefaultStepTime))):
		return "its time is not over", false
	case m.proven(s, at):
		return "", false
	}
	return HeldEvidence, m.at(m.entry.Stepped.Add(orDefault(s.Patience, DefaultPatience)))
}

// proven tells whether the evidence is enough to go on. Each further share but the last needs some that does
// not speak against it: what is worse shows sooner in more requests. All of the traffic needs the proof that
// the release is as good as the one before.
func (m mover) proven(s maru.Shift, at maru.ShiftStep) bool {
	v := m.verdict()
	switch {
	case s.Judge == nil, at.Weight == 0, v.Outcome == maru.JudgedEquivalent:
		return true
	case m.entry.Step == len(s.Steps):
		return false
	}
	return v.Weight == at.Weight && v.AtWeight >= int64(cmp.Or(at.Requests, DefaultStepRequests))
}

// take gives the release the share of a step; behind the last one all.
func (m mover) take(step int) {
	s := shiftOf(m.to)
	m.entry.Next, m.entry.Held = time.Time{}, ""
	if v := m.verdict(); v.Outcome != "" {
		m.entry.Verdict = &v
	}
	if step > len(s.Steps) {
		m.settleAll(s)
		return
	}
	m.entry.Step, m.entry.Stepped = step, m.now
	weight := s.Steps[step-1].Weight
	m.setShare(weight, false)
	m.record("rollout-step", m.service, m.to.Number,
		fmt.Sprintf("release %d gets %d%% of the traffic: step %d of %d", m.to.Number, weight, step, len(s.Steps)))
}

// settleAll moves all traffic. The release before stays warm, if the file says so.
func (m mover) settleAll(s maru.Shift) {
	before := m.state.Replicas
	m.serve(m.to.Number, m.replicas())
	if m.to.Spec.Update.Strategy == maru.BlueGreen && s.Keep > 0 {
		m.state.Warm = &maru.Warm{Release: m.entry.From, Replicas: before, Until: m.now.Add(s.Keep)}
	}
	m.entry.Phase = maru.Draining
	m.record("release-serving", m.service, m.to.Number, m.served())
}

// setShare gives the release its percent of the traffic, and the one before the rest.
func (m mover) setShare(percent int, mirror bool) {
	m.setServing(m.shared(m.to.Number, percent, []maru.Weight{{Release: m.entry.From, Weight: 100 - percent}}))
	if m.state.Shifting != m.to.Number || m.state.Mirroring != mirror {
		m.state.Shifting, m.state.Mirroring = m.to.Number, mirror
		m.changed = true
	}
}

// unshift gives all traffic back to the release that serves, at once.
func (s *service) unshift() {
	if s.state.Shifting != 0 {
		s.state = unshifted(s.state)
		s.changed = true
	}
}

func unshifted(st maru.ServiceState) maru.ServiceState {
	if st.Shifting != 0 {
		st.Serving, st.Shifting, st.Mirroring = nil, 0, false
	}
	return st
}

// heldText says what a rollout that is held waits for.
func (m mover) heldText() string {
	text := fmt.Sprintf("release %d is held at %d%% of the traffic: %s", m.to.Number, m.percent(), m.entry.Held)
	if m.entry.Held == HeldEvidence {
		text += after("; ", m.verdict().Why)
		text += "; maru promote goes on all the same, maru abort goes back"
	}
	return text
}

// percent is the release's share of the traffic.
func (m mover) percent() int {
	for _, w := range m.state.Serving {
		if w.Release == m.to.Number {
			return w.Weight
		}
	}
	return 0
}

// shiftText says how far the release is.
func (m mover) shiftText() string {
	s, k := shiftOf(m.to), m.entry.Step
	var text string
	switch {
	case k == 0 && m.state.Mirroring:
		text = fmt.Sprintf("release %d gets copies of requests", m.to.Number)
	default:
		text = fmt.Sprintf("release %d has %d%% of the traffic, step %d of %d", m.to.Number, m.percent(), k, len(s.Steps))
	}
	if name := maru.BaselineName(m.entry.From, m.to.Number); Compared(m.releases[m.entry.From], m.to) {
		text += fmt.Sprintf(", compared with a baseline: %d fresh instances of release %d with %d%%",
			m.upOf(m.releases[m.entry.From], m.observed[name]), m.entry.From, maru.BaselineWeight(m.percent()))
	}
	if m.entry.Held != "" {
		text += ", held: " + m.entry.Held
	}
	if want := max(m.instances(k), 1); m.up(m.service, m.to.Number) < want {
		text += after(": ", worst(m.now, m.observed[maru.Itoa(m.to.Number)], m.to))
	}
	return text + after("; ", m.verdict().Why)
}
