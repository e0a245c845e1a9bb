package plan_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// chronicle makes deliveries of one app. Times are minutes after its begin, a Monday.
type chronicle struct {
	begin time.Time
	all   []maru.Delivery
}

func newChronicle() *chronicle { return &chronicle{begin: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)} }

func (p *chronicle) at(minute int) time.Time { return p.begin.Add(time.Duration(minute) * time.Minute) }

// add makes one that began at a minute, reached users 2 later, served 4 later and ended 5 later.
func (p *chronicle) add(minute int, change ...func(*maru.Delivery)) *chronicle {
	d := maru.Delivery{
		Scope: maru.Scope{Project: "default", Environment: "production", App: "shop"}, Number: len(p.all) + 1, Phase: maru.Succeeded, Cause: plan.CauseDeploy,
		Started: p.at(minute), Exposed: p.at(minute + 2), Served: p.at(minute + 4), Ended: p.at(minute + 5),
	}
	for _, c := range change {
		c(&d)
	}
	p.all = append(p.all, d)
	return p
}

// commits are what the deployment brings, each with the minute it was written.
func (p *chronicle) commits(pairs ...any) func(*maru.Delivery) {
	return func(d *maru.Delivery) {
		d.Origin = &maru.Origin{Branch: "main"}
		for i := 0; i < len(pairs); i += 2 {
			id, _ := pairs[i].(string)
			minute, _ := pairs[i+1].(int)
			d.Origin.Commits = append(d.Origin.Commits, maru.Commit{ID: id, Time: p.at(minute)})
			d.Origin.Commit = id
		}
	}
}

func reverting(ids ...string) func(*maru.Delivery) {
	return func(d *maru.Delivery) { d.Origin.Commits[0].Reverts = ids }
}

func rollbackTo(n int) func(*maru.Delivery) {
	return func(d *maru.Delivery) { d.Cause, d.Of = plan.CauseRollback, n }
}

func unserved(phase maru.RolloutPhase) func(*maru.Delivery) {
	return func(d *maru.Delivery) { d.Phase, d.Served = phase, time.Time{} }
}

func unexposed(phase maru.RolloutPhase) func(*maru.Delivery) {
	return func(d *maru.Delivery) { d.Phase, d.Exposed, d.Served = phase, time.Time{}, time.Time{} }
}

func (p *chronicle) dora(q maru.DoraQuestion) maru.Dora {
	if q.Until.IsZero() {
		q.Until = p.begin.AddDate(0, 0, 10)
	}
	if q.Since.IsZero() {
		q.Since = p.begin
	}
	return plan.Dora(p.all, q)
}

const day = 24 * time.Hour

func minutes(n int) time.Duration { return time.Duration(n) * time.Minute }

func TestDora(t *testing.T) {
	for _, c := range []struct {
		name string
		past func(*chronicle)
		want maru.DoraFigures // without rates
	}{
		{"nothing", func(*chronicle) {}, maru.DoraFigures{}},
		{
			"several commits in a push have a lead time each",
			func(p *chronicle) { p.add(100, p.commits("c", 90, "b", 54, "a", 4)) },
			maru.DoraFigures{Deployments: 1, LeadTime: maru.Spread{Count: 3, Median: minutes(50), P90: minutes(90)}},
		},
		{
			"what is not from Git counts, and has no lead time",
			func(p *chronicle) { p.add(0).add(10, p.commits("a", 4)) },
			maru.DoraFigures{Deployments: 2, WithoutCommit: 1, LeadTime: maru.Spread{Count: 1, Median: minutes(10), P90: minutes(10)}},
		},
		{
			"restarts, removals and rollbacks are no deployments",
			func(p *chronicle) {
				p.add(0, p.commits("a", 0)).
					add(10, func(d *maru.Delivery) { d.Cause = plan.CauseRestart }).
					add(20, func(d *maru.Delivery) { d.Cause = plan.CauseRemove })
			},
			maru.DoraFigures{Deployments: 1, LeadTime: maru.Spread{Count: 1, Median: minutes(4), P90: minutes(4)}},
		},
		{
			"a commit counts once, when it first served: a retry and a rollback bring none",
			func(p *chronicle) {
				p.add(0, p.commits("a", 0)).add(10, p.commits("b", 4)).add(20, rollbackTo(1)).add(30, p.commits("b", 4)).add(40, p.commits("c", 34, "b", 4))
			},
			maru.DoraFigures{
				Deployments: 4, LeadTime: maru.Spread{Count: 3, Median: minutes(10), P90: minutes(10)},
				Failed: 1, Restore: maru.Spread{Count: 1, Median: minutes(12), P90: minutes(12)},
			},
		},
		{
			"one that was taken back brings its commits later",
			func(p *chronicle) {
				p.add(0, p.commits("a", 0)).add(10, p.commits("b", 4), unserved(maru.RolledBackPhase)).add(20, p.commits("c", 14, "b", 4))
			},
			maru.DoraFigures{
				Deployments: 3, LeadTime: maru.Spread{Count: 3, Median: minutes(10), P90: minutes(18)},
				Failed: 1, Restore: maru.Spread{Count: 1, Median: minutes(3), P90: minutes(3)},
			},
		},
		{
			"what failed before it reached anybody is none",
			func(p *chronicle) {
				p.add(0).add(10, unexposed(maru.RolledBackPhase)).add(20, unexposed(maru.Superseded))
			},
			maru.DoraFigures{Deployments: 1, WithoutCommit: 1, Stopped: 1},
		},
		{
			"one that stays as it failed is made up for by the next that serves",
			func(p *chronicle) {
				p.add(0).add(10, unserved(maru.Failed)).add(15, unexposed(maru.RolledBackPhase)).
					add(17, func(d *maru.Delivery) { d.Cause = plan.CauseRestart }).add(20)
			},
			maru.DoraFigures{Deployments: 3, WithoutCommit: 3, Stopped: 1, Failed: 1, Restore: maru.Spread{Count: 1, Median: minutes(12), P90: minutes(12)}},
		},
		{
			"and is open until then",
			func(p *chronicle) { p.add(0).add(10, unserved(maru.Failed)) },
			maru.DoraFigures{Deployments: 2, WithoutCommit: 2, Failed: 1, Open: 1},
		},
		{
			"failures that overlap have a time each",
			func(p *chronicle) { p.add(0).add(10).add(20).add(30, rollbackTo(1)) },
			maru.DoraFigures{Deployments: 3, WithoutCommit: 3, Failed: 2, Restore: maru.Spread{Count: 2, Median: minutes(17), P90: minutes(21)}},
		},
		{
			"a rollback that did not come up takes nothing back, and the next one does",
			func(p *chronicle) {
				p.add(0).add(10).add(20, rollbackTo(1), unserved(maru.RolledBackPhase)).add(30, rollbackTo(1))
			},
			maru.DoraFigures{Deployments: 2, WithoutCommit: 2, Failed: 1, Restore: maru.Spread{Count: 1, Median: minutes(22), P90: minutes(22)}},
		},
		{
			"one that a rollback cut short failed, one that a deploy did not",
			func(p *chronicle) {
				p.add(0).add(10, unserved(maru.Superseded)).add(12, rollbackTo(1)).add(20, unserved(maru.Superseded)).add(23)
			},
			maru.DoraFigures{Deployments: 4, WithoutCommit: 4, Failed: 1, Restore: maru.Spread{Count: 1, Median: minutes(4), P90: minutes(4)}},
		},
		{
			"going forward again takes nothing back",
			func(p *chronicle) { p.add(0).add(10).add(20, rollbackTo(1)).add(30, rollbackTo(2)) },
			maru.DoraFigures{Deployments: 2, WithoutCommit: 2, Failed: 1, Restore: maru.Spread{Count: 1, Median: minutes(12), P90: minutes(12)}},
		},
		{
			"a deployment that reverts a commit is the hotfix of the one that brought it, and taking that back is none",
			func(p *chronicle) {
				p.add(0, p.commits("a", 0)).add(10, p.commits("b", 10)).add(20, p.commits("r", 20), reverting("b")).add(30, p.commits("rr", 30), reverting("r"))
			},
			maru.DoraFigures{
				Deployments: 4, LeadTime: maru.Spread{Count: 4, Median: minutes(4), P90: minutes(4)},
				Failed: 1, Restore: maru.Spread{Count: 1, Median: minutes(12), P90: minutes(12)},
			},
		},
		{
			"commits of the future, and those left out, are said",
			func(p *chronicle) {
				p.add(0, p.commits("a", 1000, "b", 0), func(d *maru.Delivery) { d.Origin.More = 7 })
			},
			maru.DoraFigures{Deployments: 1, Undated: 8, LeadTime: maru.Spread{Count: 1, Median: minutes(4), P90: minutes(4)}},
		},
		{
			"what is under way is not counted yet",
			func(p *chronicle) {
				p.add(0).add(10, func(d *maru.Delivery) {
					d.Phase, d.Exposed, d.Served, d.Ended = maru.Pending, time.Time{}, time.Time{}, time.Time{}
				})
			},
			maru.DoraFigures{Deployments: 1, WithoutCommit: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newChronicle()
			c.past(p)
			got := p.dora(maru.DoraQuestion{})
			if rate := float64(c.want.Failed) / math.Max(1, float64(c.want.Deployments)); got.Total.FailureRate != rate {
				t.Errorf("the failure rate is %v, not %v", got.Total.FailureRate, rate)
			}
			got.Total.FailureRate, got.Total.PerDay = 0, 0
			if diff := cmp.Diff(c.want, got.Total); diff != "" {
				t.Error(diff)
			}
			if got.Incomplete {
				t.Error("it is incomplete")
			}
		})
	}
}

// TestDoraReach looks that what is not known any more is not counted as nothing.
func TestDoraReach(t *testing.T) {
	p := newChronicle()
	for n := range 8 {
		p.add(n * 24 * 60)
	}
	until := p.begin.Add(8 * day)
	all := p.all
	for _, c := range []struct {
		name       string
		kept       []maru.Delivery
		since      time.Time
		perDay     float64
		from       time.Time
		incomplete bool
	}{
		{"all of it", all, p.begin, 1, p.begin, false},
		{"asked for longer than the app is there", all, p.begin.AddDate(0, -1, 0), 1, p.begin, false},
		{"the first ones are forgotten", all[4:], p.begin, 1, p.at(4 * 24 * 60), true},
		{"the first ones are forgotten, and not asked for", all[2:], p.begin.Add(4 * day), 1, p.begin.Add(4 * day), false},
		{"some are missing", append(append([]maru.Delivery{}, all[:2]...), all[6:]...), p.begin, 1, p.at(6 * 24 * 60), true},
		{"an hour of life is no day of deployments", all[7:], p.begin, 1, p.at(7 * 24 * 60), true},
	} {
		got := plan.Dora(c.kept, maru.DoraQuestion{Since: c.since, Until: until})
		if got.Total.PerDay != c.perDay || !got.Since.Equal(c.from) || got.Incomplete != c.incomplete {
			t.Errorf("%s: %v a day since %s, incomplete %v", c.name, got.Total.PerDay, got.Since, got.Incomplete)
		}
	}
}

// TestDoraPeriods has the days and weeks of a place whose clocks go forward on 29 March 2026.
func TestDoraPeriods(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here: ", err)
	}
	p := newChronicle()
	p.begin = time.Date(2026, 3, 28, 22, 30, 0, 0, time.UTC) // Saturday 23:30
	p.add(0).add(60).add(23 * 60).add(24 * 60)
	q := maru.DoraQuestion{By: maru.DoraDay, Location: berlin, Until: p.begin.Add(49 * time.Hour)}
	var got []int
	for _, period := range p.dora(q).Periods {
		if hour, minute, _ := period.Start.Clock(); hour+minute != 0 {
			t.Errorf("a day begins at %s", period.Start)
		}
		got = append(got, period.Deployments)
	}
	// At 23:34 on Saturday, 00:34 and 23:34 on Sunday, 00:34 on Monday: Sunday has 23 hours.
	if diff := cmp.Diff([]int{1, 2, 1, 0}, got); diff != "" {
		t.Error(diff)
	}
	q.By = maru.DoraWeek
	got = nil
	for _, period := range p.dora(q).Periods {
		if period.Start.Weekday() != time.Monday {
			t.Errorf("a week begins on %s", period.Start)
		}
		got = append(got, period.Deployments)
	}
	if diff := cmp.Diff([]int{3, 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDoraBands(t *testing.T) {
	p := newChronicle()
	for n := range 30 {
		p.add(n*8*60, p.commits(string(rune('a'+n)), n*8*60-30))
	}
	p.add(30*8*60, rollbackTo(29))
	got := p.dora(maru.DoraQuestion{Until: p.begin.Add(10 * day)}).Bands
	want := maru.DoraBands{Frequency: maru.DoraElite, LeadTime: maru.DoraElite, FailureRate: maru.DoraElite, Restore: maru.DoraHigh}
	if got != want {
		t.Errorf("%+v", got)
	}
	if got := newChronicle().dora(maru.DoraQuestion{}).Bands; got != (maru.DoraBands{}) {
		t.Errorf("of nothing: %+v", got)
	}
}
