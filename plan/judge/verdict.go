package judge

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Verdict is the outcome with its reason in one sentence, and the figures.
type Verdict struct {
	Outcome Outcome
	Why     string
	Figures Figures
}

// Verdict explains the outcome so far.
func (j *Judge) Verdict() Verdict {
	f := j.Figures()
	return Verdict{Outcome: j.outcome, Why: j.why(f), Figures: f}
}

func (j *Judge) why(f Figures) string {
	switch j.outcome {
	case Equivalent:
		text := "as good as the old release: " + errorsOf(f)
		if !j.anyLatency {
			text += "; " + latenciesOf(f)
		}
		return text + "; within the margins with 99% certainty"
	case Regressed:
		return j.whyRegressed(f)
	}
	return j.whyContinue(f)
}

func (j *Judge) whyRegressed(f Figures) string {
	switch j.reason {
	case moreFailures:
		return fmt.Sprintf("fails more often than the old release at the same time: %s; %s", errorsOf(f), chance(f.Errors))
	case overLimit:
		l := j.exceeded()
		return fmt.Sprintf("above %s, which the old release keeps at the same time: %s; %s", l, l.figures(f), chance(l.chance()))
	}
	return fmt.Sprintf("slower than the old release at the same time: %s, in %s requests against %s; %s",
		latenciesOf(f), grouped(f.Canary.Requests), grouped(f.Stable.Requests), chance(f.Latency))
}

func (j *Judge) whyContinue(f Figures) string {
	for _, l := range j.ceilings {
		if canary, old := l.over(); canary && old && min(l.canary.failures, l.old.failures) >= enough {
			return fmt.Sprintf("both releases are above %s lately, so the new one is neither taken back nor promoted: %s against %s%s",
				l, percent(l.lately[1].ratio()), percent(l.lately[0].ratio()), l.unit())
		}
	}
	if j.same() {
		return fmt.Sprintf("as good as the old release, but not under the limits: %s; %s", errorsOf(f), latenciesOf(f))
	}
	if f.Canary.Requests == 0 || f.Stable.Requests == 0 {
		return fmt.Sprintf("not enough evidence yet: %s requests to the new release and %s to the old one", grouped(f.Canary.Requests), grouped(f.Stable.Requests))
	}
	text := "not enough evidence yet: " + errorsOf(f)
	if f.Canary.P50 > 0 && f.Stable.P50 > 0 {
		text += "; " + latenciesOf(f)
	}
	return text
}

// enough bad requests to say that a release is above a limit, where nothing is decided by it.
const enough = 5

// String reads: the limit of 1% errors, the limit of 300ms for p99.
func (l *limit) String() string {
	if l.quantile == 0 {
		return fmt.Sprintf("the limit of %s errors", percent(l.share))
	}
	return fmt.Sprintf("the limit of %s for p%g", l.latency, l.quantile*100)
}

// unit says what a share of bad requests is a share of, where it is not of errors.
func (l *limit) unit() string {
	if l.quantile == 0 {
		return ""
	}
	return " took longer"
}

// figures reads: errors …, or: 3.1% (12 of 388) took longer against 0.2% (9 of 4,507).
func (l *limit) figures(f Figures) string {
	if l.quantile == 0 {
		return errorsOf(f)
	}
	return part(l.canary) + " took longer against " + part(l.old)
}

// errorsOf reads: errors 5.2% (13 of 250) against 1.0% (48 of 4,750).
func errorsOf(f Figures) string {
	return "errors " + part(f.Canary.counts()) + " against " + part(f.Stable.counts())
}

// part reads: 5.2% (13 of 250).
func part(c counts) string {
	return fmt.Sprintf("%s (%s of %s)", percent(c.ratio()), grouped(c.failures), grouped(c.requests))
}

func (s Side) counts() counts {
	return counts{requests: s.Requests, failures: s.Failures}
}

// latenciesOf reads: p50 212ms against 104ms, p99 1.2s against 480ms.
func latenciesOf(f Figures) string {
	if f.Canary.P50 == 0 || f.Stable.P50 == 0 {
		return "no latencies to compare"
	}
	return fmt.Sprintf("p50 %s against %s, p95 %s against %s, p99 %s against %s",
		short(f.Canary.P50), short(f.Stable.P50), short(f.Canary.P95), short(f.Stable.P95), short(f.Canary.P99), short(f.Stable.P99))
}

// chance reads a p-value: equal releases come to this at most once in 412 rollouts.
func chance(p float64) string {
	if p < 1e-9 {
		return "equal releases come to this less than once in a billion rollouts"
	}
	return fmt.Sprintf("equal releases come to this at most once in %s rollouts", grouped(int64(math.Floor(1/p))))
}

func percent(ratio float64) string {
	digits := 1
	if ratio > 0 && ratio < 0.001 {
		digits = 2
	}
	return strings.TrimSuffix(strconv.FormatFloat(ratio*100, 'f', digits, 64), ".0") + "%"
}

// grouped writes thousands with commas.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// short rounds to two figures, as exact as a quantile is known.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 100 {
		unit *= 10
	}
	return d.Round(unit).String()
}
