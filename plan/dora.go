package plan

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/marucloud/maru"
)

// Dora computes the DORA figures of an app in an environment from all its deliveries that are kept; docs/dora.md
// has what they mean.
//
// A deployment is a delivery of cause deploy that reached users. It failed when its rollout did, when a rollback
// went behind it, or when a later deployment reverts one of its commits. It is made up for once what served
// before serves again: by its own rollout's end, by that rollback or revert, or, where it was to stay as it
// failed, by whatever serves next.
func Dora(deliveries []maru.Delivery, q maru.DoraQuestion) maru.Dora {
	deliveries = slices.Clone(deliveries)
	slices.SortFunc(deliveries, func(a, b maru.Delivery) int { return a.Number - b.Number })
	out := maru.Dora{Since: q.Since, Until: q.Until}
	if len(deliveries) == 0 {
		return out
	}
	first := deliveries[0]
	out.Scope = first.Scope
	if first.Started.After(q.Since) {
		out.Since, out.Incomplete = first.Started, first.Number > 1
	}
	for k := range len(deliveries) - 1 {
		if a, b := deliveries[k], deliveries[k+1]; b.Number != a.Number+1 && b.Started.After(q.Since) && !b.Started.Before(out.Since) {
			out.Since, out.Incomplete = b.Started, true // some between are not known
		}
	}
	all := history(deliveries)
	out.Total = figures(all, out.Since, out.Until)
	out.Bands = bands(out.Total)
	for start := periodStart(out.Since, q); q.By != "" && start.Before(out.Until); start = nextPeriod(start, q) {
		from, to := start, nextPeriod(start, q)
		if from.Before(out.Since) {
			from = out.Since
		}
		if to.After(out.Until) {
			to = out.Until
		}
		out.Periods = append(out.Periods, maru.DoraPeriod{Start: start, DoraFigures: figures(all, from, to)})
	}
	return out
}

// deployment is a delivery as the figures see it.
type deployment struct {
	maru.Delivery
	at       time.Time // when it counts
	leads    []time.Duration
	undated  int
	failed   bool
	restored time.Time // when it was made up for; zero: not yet
	stopped  bool      // before it reached anybody
}

// history follows the deliveries, sorted by number, and gives the deployments with what became of them.
func history(deliveries []maru.Delivery) []*deployment {
	var all []*deployment
	seen := map[string]bool{}           // commits that have served
	brought := map[string]*deployment{} // by commit
	reverts := map[string]bool{}        // commits that are reverts themselves
	for _, d := range deliveries {
		served := !d.Served.IsZero() && (d.Phase == maru.Succeeded || d.Phase == maru.Superseded)
		if d.Cause == CauseRollback && !d.Served.IsZero() && d.Phase != maru.RolledBackPhase {
			for _, old := range all {
				if old.Number > d.Of {
					old.fail(d.Served)
				}
			}
		}
		if served && (d.Cause == CauseDeploy || d.Cause == CauseRollback) {
			for _, old := range all {
				if old.failed && old.restored.IsZero() {
					old.restored = d.Served
				}
			}
		}
		if d.Cause != CauseDeploy {
			continue
		}
		one := &deployment{Delivery: d, at: cmp.Or(d.Served, d.Exposed)}
		switch {
		case !d.Phase.Final() && !served: // not over: what it will be is not known
			continue
		case d.Exposed.IsZero() && (d.Phase == maru.Superseded || d.Phase == maru.Succeeded): // or stopped by somebody
			continue
		case d.Exposed.IsZero():
			one.stopped, one.at = true, d.Ended
		case d.Phase == maru.RolledBackPhase:
			one.at = d.Exposed
			one.fail(d.Ended)
		case d.Phase == maru.Failed:
			one.failed = true
		}
		all = append(all, one)
		if d.Origin == nil || !served {
			continue
		}
		one.undated = d.Origin.More
		for _, c := range d.Origin.Commits {
			if seen[c.ID] {
				continue
			}
			seen[c.ID], brought[c.ID], reverts[c.ID] = true, one, len(c.Reverts) > 0
			if lead := d.Served.Sub(c.Time); lead >= 0 {
				one.leads = append(one.leads, lead)
			} else {
				one.undated++
			}
		}
		for _, c := range d.Origin.Commits {
			for _, id := range c.Reverts {
				// Taking a revert back is no sign against the deployment that brought it.
				if old := brought[id]; old != nil && old != one && !reverts[id] {
					old.fail(d.Served)
				}
			}
		}
	}
	return all
}

// fail notes that the deployment failed and was made up for.
func (d *deployment) fail(restored time.Time) {
	if d.stopped {
		return
	}
	d.failed = true
	if d.restored.IsZero() {
		d.restored = restored
	}
}

// figures counts what happened from since on and before until.
func figures(all []*deployment, since, until time.Time) maru.DoraFigures {
	var f maru.DoraFigures
	var leads, restores []time.Duration
	for _, d := range all {
		if d.at.Before(since) || !d.at.Before(until) {
			continue
		}
		if d.stopped {
			f.Stopped++
			continue
		}
		f.Deployments++
		if d.Origin == nil {
			f.WithoutCommit++
		}
		leads = append(leads, d.leads...)
		f.Undated += d.undated
		switch {
		case d.failed && d.restored.IsZero():
			f.Failed++
			f.Open++
		case d.failed:
			f.Failed++
			restores = append(restores, d.restored.Sub(d.Exposed))
		}
	}
	days := max(until.Sub(since).Hours()/24, 1)
	f.PerDay = float64(f.Deployments) / days
	if f.Deployments > 0 {
		f.FailureRate = float64(f.Failed) / float64(f.Deployments)
	}
	f.LeadTime, f.Restore = spread(leads), spread(restores)
	return f
}

// spread sums durations up. Between two values it interpolates, as spreadsheets do.
func spread(all []time.Duration) maru.Spread {
	if len(all) == 0 {
		return maru.Spread{}
	}
	slices.Sort(all)
	at := func(q float64) time.Duration {
		rank := q * float64(len(all)-1)
		low := int(rank)
		high := min(low+1, len(all)-1)
		return all[low] + time.Duration(math.Round((rank-float64(low))*float64(all[high]-all[low])))
	}
	return maru.Spread{Count: len(all), Median: at(0.5), P90: at(0.9)}
}

// bands are those of the Accelerate State of DevOps report of 2023, the last whose four figures rank alike.
func bands(f maru.DoraFigures) maru.DoraBands {
	const day = 24 * time.Hour
	var b maru.DoraBands
	if f.Deployments == 0 {
		return b
	}
	b.Frequency = band(f.PerDay <= 1, f.PerDay < 1.0/7, f.PerDay < 1.0/30)
	b.FailureRate = band(f.FailureRate > 0.05, f.FailureRate > 0.10, f.FailureRate > 0.15)
	if f.LeadTime.Count > 0 {
		t := f.LeadTime.Median
		b.LeadTime = band(t >= day, t >= 7*day, t >= 30*day)
	}
	if f.Restore.Count > 0 {
		t := f.Restore.Median
		b.Restore = band(t >= time.Hour, t >= day, t >= 7*day)
	}
	return b
}

func band(notElite, notHigh, notMedium bool) maru.DoraBand {
	switch {
	case notMedium:
		return maru.DoraLow
	case notHigh:
		return maru.DoraMedium
	case notElite:
		return maru.DoraHigh
	}
	return maru.DoraElite
}

// periodStart is when the day or week of a time begins. Days are as long as the clocks there say.
func periodStart(at time.Time, q maru.DoraQuestion) time.Time {
	location := q.Location
	if location == nil {
		location = time.UTC
	}
	at = at.In(location)
	day := at.Day()
	if q.By == maru.DoraWeek {
		day -= (int(at.Weekday()) + 6) % 7
	}
	return time.Date(at.Year(), at.Month(), day, 0, 0, 0, 0, location)
}

func nextPeriod(start time.Time, q maru.DoraQuestion) time.Time {
	days := 1
	if q.By == maru.DoraWeek {
		days = 7
	}
	return start.AddDate(0, 0, days)
}
