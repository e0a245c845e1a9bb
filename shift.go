package maru

import "time"

// Shift is how a canary or blue-green rollout moves a service's traffic to its new release.
type Shift struct {
	Steps    []ShiftStep   `json:"steps,omitempty"`    // in their order; after the last one all traffic moves
	Match    []ShiftMatch  `json:"match,omitempty"`    // requests that go to one of the releases whatever the shares are
	Sticky   time.Duration `json:"sticky,omitempty"`   // a client stays with its release for so long; 0: each request is drawn
	Mirror   *Mirror       `json:"mirror,omitempty"`   // before the first step
	Replay   int           `json:"replay,omitempty"`   // safe requests of before that are sent again in each second, for the judge; 0: none
	Judge    *JudgeLimits  `json:"judge,omitempty"`    // nil: nobody compares, and time alone counts
	Warmup   time.Duration `json:"warmup,omitempty"`   // after each step, in which latencies do not count yet; 0: 10 seconds, negative: none
	Baseline bool          `json:"baseline,omitempty"` // fresh instances of the old release are what the new one is compared with
	Patience time.Duration `json:"patience,omitempty"` // a step that has not the evidence to go on after so long is held; 0: 30 minutes
	Keep     time.Duration `json:"keep,omitempty"`     // of blue-green: how long the old instances stay ready afterwards
}

// MostReplay bounds Shift.Replay.
const MostReplay = 100

// Validate tells what of the shift can't be done, as Invalid.
func (s *Shift) Validate() error {
	last := -1
	for _, step := range s.Steps {
		switch {
		case step.Weight < 0 || step.Weight > 99:
			return Errorf(Invalid, "a step has %d%% of the traffic: it must be from 0 to 99", step.Weight)
		case step.Weight <= last:
			return Errorf(Invalid, "the steps' shares don't grow: %d%% follows %d%%", step.Weight, last)
		case step.Weight == 0 && len(s.Match) == 0:
			return Errorf(Invalid, "a step shares nothing out, and no requests are matched for it")
		case step.Replicas < 0, step.Requests < 0, step.For < 0:
			return Errorf(Invalid, "a step has a negative number")
		}
		last = step.Weight
	}
	if m := s.Mirror; m != nil && (m.Percent < 1 || m.Percent > 100) {
		return Errorf(Invalid, "%d%% of the requests can't be mirrored", m.Percent)
	}
	if s.Baseline && s.Mirror != nil {
		return Errorf(Invalid, "copies of requests can't be compared with a fresh baseline")
	}
	if s.Replay < 0 || s.Replay > MostReplay {
		return Errorf(Invalid, "%d requests can't be replayed in a second: it must be from 0 to %d", s.Replay, MostReplay)
	}
	if j := s.Judge; j != nil && (j.Errors < 0 || j.Errors >= 1 || j.ErrorMargin < 0 || j.ErrorMargin >= 1 ||
		min(j.ErrorRatioMargin, j.LatencyMargin) < 0 || min(j.P50, j.P95, j.P99) < 0) {
		return Errorf(Invalid, "a limit of the judge is out of range")
	}
	return nil
}

// ShiftStep is one share of the traffic that the new release gets.
type ShiftStep struct {
	Weight   int           `json:"weight"`             // percent
	For      time.Duration `json:"for,omitempty"`      // at least
	Requests int           `json:"requests,omitempty"` // to the new release, at least, that were judged
	Replicas int           `json:"replicas,omitempty"` // of the new release; 0: its share of all, and one at least
	Pause    bool          `json:"pause,omitempty"`    // until a person lets it go on
}

// ShiftMatch is a kind of requests: those with all of the fields and cookies.
type ShiftMatch struct {
	Headers map[string]string `json:"headers,omitempty"` // by name, in any case, with exact values
	Cookies map[string]string `json:"cookies,omitempty"`
	Old     bool              `json:"old,omitempty"` // they go to the old release; else to the new one
}

// Mirror has copies of safe requests without a body sent to the new release, whose answers nobody gets.
type Mirror struct {
	Percent int           `json:"percent"` // of those requests
	For     time.Duration `json:"for"`     // at least
}

// JudgeLimits are what a new release is judged by, beside the old one at the same time. What is 0 is as
// [github.com/marucloud/maru/plan/judge.Limits] says.
type JudgeLimits struct {
	Errors           float64       `json:"errors,omitempty"` // highest ratio of failed requests
	P50              time.Duration `json:"p50,omitempty"`    // highest latencies
	P95              time.Duration `json:"p95,omitempty"`
	P99              time.Duration `json:"p99,omitempty"`
	ErrorMargin      float64       `json:"errorMargin,omitempty"`
	ErrorRatioMargin float64       `json:"errorRatioMargin,omitempty"`
	LatencyMargin    float64       `json:"latencyMargin,omitempty"`
	AnyLatency       bool          `json:"anyLatency,omitempty"` // latencies are not compared
}

// Verdict is what a judge says of a new release.
type Verdict struct {
	Outcome  string    `json:"outcome"` // continue, equivalent, regressed
	Why      string    `json:"why"`
	Release  int       `json:"release"`
	Against  int       `json:"against"` // the release that it was compared with
	Requests int64     `json:"requests"`
	Weight   int       `json:"weight"`   // percent, of the newest request
	AtWeight int64     `json:"atWeight"` // requests to the new release since it has that weight
	At       time.Time `json:"at,omitzero"`
}

// Outcomes of a verdict.
const (
	JudgedContinue   = "continue"   // not enough evidence yet
	JudgedEquivalent = "equivalent" // as good as the old release
	JudgedRegressed  = "regressed"  // worse
)

// Split shares a service's requests out between two releases while a rollout shifts its traffic.
// [ServiceTraffic.Serving] has their weights in percent.
type Split struct {
	Old    int           `json:"old"`
	New    int           `json:"new"`
	Match  []ShiftMatch  `json:"match,omitempty"`
	Sticky time.Duration `json:"sticky,omitempty"`
	Mirror int           `json:"mirror,omitempty"` // percent of safe requests that are sent to New too
	Judged bool          `json:"judged,omitempty"` // how drawn requests went is told to the control plane
	// Baseline says that endpoints of that kind get [BaselineWeight] of Old's part, and that requests to these and
	// to New are all that is judged.
	Baseline bool `json:"baseline,omitempty"`
}

// BaselineWeight is the percent of the traffic that a baseline gets beside a new release: as much as that, if the old
// release has so much.
func BaselineWeight(fresh int) int { return min(fresh, 100-fresh) }

// Weight gives the new release's percent.
func (t ServiceTraffic) Weight() int {
	for _, w := range t.Serving {
		if t.Split != nil && w.Release == t.Split.New {
			return w.Weight
		}
	}
	return 0
}

// Evidence is how requests went that were drawn between two releases of a service.
type Evidence struct {
	Service ServiceID        `json:"service"`
	Old     int              `json:"old"`
	New     int              `json:"new"`
	Records []EvidenceRecord `json:"records"` // in the order in which the requests ended
	Lost    int              `json:"lost,omitempty"`
}

// EvidenceRecord is one request.
type EvidenceRecord struct {
	New     bool          `json:"n,omitempty"`
	Failed  bool          `json:"f,omitempty"`
	Latency time.Duration `json:"l,omitempty"` // of one that did not fail, until the answer began
	At      time.Time     `json:"t"`           // when it ended
	Weight  float64       `json:"w"`           // the chance with which New was drawn: its share of all
	// Baseline is one that went to New or to the baseline, as each had its share of all.
	Baseline bool `json:"b,omitempty"`
	// Replayed is one that was sent again for the judge: the chance was one half, and Weight is the share that New
	// has of the others.
	Replayed bool `json:"r,omitempty"`
}
