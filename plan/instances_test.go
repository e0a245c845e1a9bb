package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func past(d time.Duration) time.Time { return began.Add(d) }

// running gives a ready instance, changed.
func lives(id string, change ...func(*plan.InstanceFacts)) plan.InstanceFacts {
	f := plan.InstanceFacts{ID: id, State: plan.InstanceRunning, Ready: true, WasReady: true, Created: began.Add(-time.Hour)}
	for _, c := range change {
		c(&f)
	}
	return f
}

func over(id string, ends int, failed bool, at time.Time) plan.InstanceFacts {
	return plan.InstanceFacts{ID: id, State: plan.InstanceEnded, Ends: ends, Failed: failed, Ended: at, Created: began.Add(-time.Hour)}
}

func actions(p plan.InstancesPlan) string {
	var all []string
	for _, a := range p.Actions {
		all = append(all, strings.TrimSpace(string(a.Op)+" "+a.Instance))
	}
	return strings.Join(all, ", ")
}

func phases(p plan.InstancesPlan) string {
	var all []string
	for _, o := range p.Outlook {
		all = append(all, o.ID+" "+string(o.Phase))
	}
	return strings.Join(all, ", ")
}

func TestInstances(t *testing.T) {
	service := func(n int) plan.InstancesWanted { return plan.InstancesWanted{Kind: maru.LongRunning, Replicas: n} }
	removed := plan.InstancesWanted{Kind: maru.LongRunning, Replicas: 3, Removed: true}
	policy := func(p maru.RestartPolicy) plan.InstancesWanted {
		w := service(1)
		w.Restart.Policy = p
		return w
	}
	job := plan.InstancesWanted{Kind: maru.Job, Replicas: 1}
	onFailure := plan.InstancesWanted{Kind: maru.Job, Replicas: 1, Restart: maru.Restart{Policy: maru.RestartOnFailure, Attempts: 2}}
	draining := func(f *plan.InstanceFacts) { f.Draining, f.Ready = began, false }
	signaled := func(f *plan.InstanceFacts) { f.Signaled = began }
	killed := func(f *plan.InstanceFacts) { f.Killed = began }
	busy := func(f *plan.InstanceFacts) { f.Busy = true }
	newer := func(f *plan.InstanceFacts) { f.Created = began }
	unready := func(f *plan.InstanceFacts) { f.Ready, f.WasReady = false, false }

	for _, c := range []struct {
		name    string
		now     time.Time
		want    plan.InstancesWanted
		have    []plan.InstanceFacts
		actions string
		phases  string
		next    time.Time
	}{
		{name: "nothing wanted", want: service(0)},
		{name: "from nothing", want: service(2), actions: "create, create"},
		{name: "negative is none", want: service(-1), have: []plan.InstanceFacts{lives("a")}, actions: "drain a", phases: "a draining"},
		{name: "as wanted", want: service(1), have: []plan.InstanceFacts{lives("a")}, phases: "a running"},
		{
			name: "new ones are started", want: service(2),
			have:    []plan.InstanceFacts{{ID: "b", State: plan.InstanceNew}, {ID: "a", State: plan.InstanceNew}},
			actions: "start a, start b", phases: "a creating, b creating",
		},
		{
			name: "being started", want: service(1), have: []plan.InstanceFacts{{ID: "a", State: plan.InstanceNew, Busy: true}}, phases: "a creating",
		},
		{
			name: "waits for what another holds", want: service(1), have: []plan.InstanceFacts{{ID: "a", State: plan.InstanceNew, Blocked: true}},
			phases: "a pending",
		},
		{
			name: "the first end restarts at once", now: began, want: service(1), have: []plan.InstanceFacts{over("a", 1, true, began)},
			actions: "start a", phases: "a creating",
		},
		{
			name: "always restarts success too", now: began, want: service(1), have: []plan.InstanceFacts{over("a", 1, false, began)},
			actions: "start a", phases: "a creating",
		},
		{
			name: "the second waits", now: past(100 * time.Millisecond), want: service(1), have: []plan.InstanceFacts{over("a", 2, true, began)},
			phases: "a backoff", next: past(plan.RestartDelay(maru.Restart{}, "a", 2, 7)),
		},
		{
			name: "and is over", now: past(2 * time.Second), want: service(1), have: []plan.InstanceFacts{over("a", 2, true, began)},
			actions: "start a", phases: "a creating",
		},
		{
			name: "its volume was taken meanwhile", now: past(2 * time.Second), want: service(1),
			have:   []plan.InstanceFacts{{ID: "a", State: plan.InstanceEnded, Ends: 2, Failed: true, Ended: began, Blocked: true}},
			phases: "a pending",
		},
		{name: "never", want: policy(maru.RestartNever), have: []plan.InstanceFacts{over("a", 1, true, began)}, phases: "a failed"},
		{name: "never after success", want: policy(maru.RestartNever), have: []plan.InstanceFacts{over("a", 1, false, began)}, phases: "a done"},
		{name: "on failure after success", want: policy(maru.RestartOnFailure), have: []plan.InstanceFacts{over("a", 1, false, began)}, phases: "a done"},
		{
			name: "on failure", now: began, want: policy(maru.RestartOnFailure), have: []plan.InstanceFacts{over("a", 1, true, began)},
			actions: "start a", phases: "a creating",
		},
		{name: "a job ends well", want: job, have: []plan.InstanceFacts{over("a", 1, false, began)}, phases: "a done"},
		{name: "a job ends badly", want: job, have: []plan.InstanceFacts{over("a", 1, true, began)}, phases: "a failed"},
		{
			name: "a job tries again", now: began, want: onFailure, have: []plan.InstanceFacts{over("a", 1, true, began)},
			actions: "start a", phases: "a creating",
		},
		{name: "and gives up", now: past(time.Hour), want: onFailure, have: []plan.InstanceFacts{over("a", 3, true, began)}, phases: "a failed"},
		{
			name: "the newest of what serves goes last", want: service(2),
			have:    []plan.InstanceFacts{lives("a"), lives("b", newer), over("c", 2, true, began), lives("d", unready)},
			actions: "drain c, drain d", phases: "a running, b running, c draining, d draining",
		},
		{
			name: "scaled down", want: service(1), have: []plan.InstanceFacts{lives("a"), lives("b", newer)},
			actions: "drain b", phases: "a running, b draining",
		},
		{
			name: "those that go are replaced", want: service(1), have: []plan.InstanceFacts{lives("a", draining)}, now: began,
			actions: "create", phases: "a draining", next: past(plan.DefaultDrain),
		},
		{
			name: "drained", want: removed, now: began, have: []plan.InstanceFacts{lives("a", draining, func(f *plan.InstanceFacts) { f.Drained = true })},
			actions: "stop a", phases: "a stopping",
		},
		{
			name: "drain time is up", want: removed, now: past(plan.DefaultDrain), have: []plan.InstanceFacts{lives("a", draining)},
			actions: "stop a", phases: "a stopping",
		},
		{
			name: "never ready needs no draining", want: removed, now: began, have: []plan.InstanceFacts{lives("a", draining, unready)},
			actions: "stop a", phases: "a stopping",
		},
		{
			name: "signaled", want: removed, now: began, have: []plan.InstanceFacts{lives("a", draining, signaled)},
			phases: "a stopping", next: past(plan.DefaultGrace),
		},
		{
			name: "grace is over", want: removed, now: past(plan.DefaultGrace), have: []plan.InstanceFacts{lives("a", draining, signaled)},
			actions: "kill a", phases: "a stopping",
		},
		{
			name: "killed", want: removed, now: began, have: []plan.InstanceFacts{lives("a", draining, signaled, killed)},
			phases: "a stopping", next: past(5 * time.Second),
		},
		{
			name: "killed in vain", want: removed, now: past(5 * time.Second), have: []plan.InstanceFacts{lives("a", draining, signaled, killed)},
			actions: "kill a", phases: "a stopping",
		},
		{
			name: "being signaled", want: removed, now: past(time.Hour), have: []plan.InstanceFacts{lives("a", draining, signaled, busy)}, phases: "a stopping",
		},
		{
			name: "ended while going", want: removed, have: []plan.InstanceFacts{func() plan.InstanceFacts {
				f := over("a", 1, true, began)
				f.Draining = began
				return f
			}()}, actions: "delete a", phases: "a stopping",
		},
		{
			name: "unhealthy", want: service(1), now: began, have: []plan.InstanceFacts{lives("a", func(f *plan.InstanceFacts) { f.Unhealthy = true })},
			actions: "stop a", phases: "a stopping",
		},
		{
			name: "unhealthy and signaled", want: service(1), now: past(plan.DefaultGrace),
			have:    []plan.InstanceFacts{lives("a", signaled, func(f *plan.InstanceFacts) { f.Unhealthy = true })},
			actions: "kill a", phases: "a stopping",
		},
		{
			name: "unhealthy, and nobody would began it again", want: policy(maru.RestartNever),
			have: []plan.InstanceFacts{lives("a", func(f *plan.InstanceFacts) { f.Unhealthy = true })}, phases: "a running",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.now.IsZero() {
				c.now = past(time.Second)
			}
			p := plan.Instances(c.now, c.want, c.have, 7)
			if diff := cmp.Diff([]string{c.actions, c.phases, c.next.String()}, []string{actions(p), phases(p), p.Next.String()}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRestartDelay(t *testing.T) {
	restart := maru.Restart{Delay: time.Second}
	if d := plan.RestartDelay(restart, "a", 1, 7); d != 0 {
		t.Errorf("the first restart waits %s", d)
	}
	for ends, nominal := range map[int]time.Duration{2: time.Second, 3: 2 * time.Second, 4: 4 * time.Second, 8: time.Minute, 1000: time.Minute} {
		d := plan.RestartDelay(restart, "a", ends, 7)
		if d < nominal*8/10 || d > nominal*12/10 {
			t.Errorf("after %d ends: %s, want about %s", ends, d, nominal)
		}
		if again := plan.RestartDelay(restart, "a", ends, 7); again != d {
			t.Errorf("after %d ends: %s, and then %s", ends, d, again)
		}
	}
	spread := make(map[time.Duration]bool)
	for i := range 20 {
		spread[plan.RestartDelay(restart, fmt.Sprint(i), 5, 7)] = true
	}
	if len(spread) < 10 {
		t.Errorf("20 instances restart at %d moments", len(spread))
	}
	if d := plan.RestartDelay(maru.Restart{Delay: time.Hour}, "a", 3, 7); d < 48*time.Minute {
		t.Errorf("a delay that was asked for is cut to %s", d)
	}
}

func TestCountEnds(t *testing.T) {
	if n := plan.CountEnds(maru.Restart{}, 3, time.Second); n != 4 {
		t.Errorf("after a short run: %d", n)
	}
	if n := plan.CountEnds(maru.Restart{}, 3, plan.DefaultRestartWindow); n != 1 {
		t.Errorf("after a long run: %d", n)
	}
}

// bench is what a plan is carried out on: actions take effect, processes end, time goes by.
type bench struct {
	now  time.Time
	want plan.InstancesWanted
	have map[string]plan.InstanceFacts
	made int
}

func (m *bench) plan() plan.InstancesPlan {
	have := make([]plan.InstanceFacts, 0, len(m.have))
	for _, f := range m.have {
		have = append(have, f)
	}
	return plan.Instances(m.now, m.want, have, 7)
}

func (m *bench) do(a plan.InstanceAction) {
	f := m.have[a.Instance]
	switch a.Op {
	case plan.CreateInstance:
		m.made++
		f = plan.InstanceFacts{ID: fmt.Sprintf("i%03d", m.made), State: plan.InstanceNew, Created: m.now}
	case plan.StartInstance:
		f.State, f.Ended, f.Signaled, f.Killed = plan.InstanceRunning, time.Time{}, time.Time{}, time.Time{}
		f.Ready, f.WasReady, f.Unhealthy = true, true, false
	case plan.DrainInstance:
		f.Draining, f.Ready = m.now, false
	case plan.StopInstance:
		f.Signaled = m.now
	case plan.KillInstance:
		f.Killed, f.State, f.Ended, f.Failed, f.Ends = m.now, plan.InstanceEnded, m.now, true, f.Ends+1
	case plan.DeleteInstance:
		delete(m.have, a.Instance)
		return
	}
	m.have[f.ID] = f
}

// TestInstancesConverge draws any facts and any wish, carries plans out until there is nothing to do
// and nothing to wait for, and looks whether what was wanted is there.
func TestInstancesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &bench{now: began, have: make(map[string]plan.InstanceFacts)}
		m.want = plan.InstancesWanted{
			Kind:     rapid.SampledFrom([]maru.ServiceKind{maru.LongRunning, maru.Job}).Draw(t, "kind"),
			Replicas: rapid.IntRange(0, 4).Draw(t, "replicas"),
			Removed:  rapid.Bool().Draw(t, "removed"),
			Restart: maru.Restart{
				Policy:   rapid.SampledFrom([]maru.RestartPolicy{"", maru.RestartAlways, maru.RestartOnFailure, maru.RestartNever}).Draw(t, "policy"),
				Attempts: rapid.IntRange(0, 2).Draw(t, "attempts"),
			},
		}
		for i := range rapid.IntRange(0, 6).Draw(t, "instances") {
			f := drawFacts(t, fmt.Sprintf("h%d", i))
			m.have[f.ID] = f
		}
		steps := 0
		for {
			p := m.plan()
			if len(p.Actions) == 0 && p.Next.IsZero() {
				break
			}
			if steps++; steps > 200 {
				t.Fatalf("no end: %+v", m.have)
			}
			if len(p.Actions) == 0 {
				if !p.Next.After(m.now) {
					t.Fatalf("it asks to be called again at %s, which is past", p.Next)
				}
				m.now = p.Next
			}
			for _, a := range p.Actions {
				m.do(a)
			}
		}
		wanted := m.want.Replicas
		if m.want.Removed {
			wanted = 0
		}
		if len(m.have) != wanted {
			t.Fatalf("%d instances, want %d: %+v", len(m.have), wanted, m.have)
		}
		if again := m.plan(); len(again.Actions) > 0 {
			t.Fatalf("it does something when there is nothing to do: %v", again.Actions)
		}
	})
}

func drawFacts(t *rapid.T, id string) plan.InstanceFacts {
	moment := func(name string) time.Time {
		if rapid.Bool().Draw(t, name) {
			return time.Time{}
		}
		return began.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, name+" ago")) * time.Second)
	}
	f := plan.InstanceFacts{
		ID: id, Created: began.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "age")) * time.Second),
		State:    rapid.SampledFrom([]plan.InstanceState{plan.InstanceNew, plan.InstanceRunning, plan.InstanceEnded}).Draw(t, "state"),
		Draining: moment("draining"), Drained: rapid.Bool().Draw(t, "drained"),
	}
	switch f.State {
	case plan.InstanceRunning:
		f.Ready, f.WasReady = rapid.Bool().Draw(t, "ready"), rapid.Bool().Draw(t, "was ready")
		f.Unhealthy, f.Signaled = rapid.Bool().Draw(t, "unhealthy"), moment("signaled")
	case plan.InstanceEnded:
		f.Ended, f.Failed, f.Ends = began, rapid.Bool().Draw(t, "failed"), rapid.IntRange(1, 10).Draw(t, "ends")
	}
	return f
}

// TestInstancesIsPure has the order of what is there make no difference.
func TestInstancesIsPure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var have []plan.InstanceFacts
		for i := range rapid.IntRange(0, 6).Draw(t, "instances") {
			have = append(have, drawFacts(t, fmt.Sprintf("h%d", i)))
		}
		want := plan.InstancesWanted{Kind: maru.LongRunning, Replicas: rapid.IntRange(0, 6).Draw(t, "replicas")}
		shuffled := rapid.Permutation(have).Draw(t, "shuffled")
		before := slices.Clone(shuffled)
		if diff := cmp.Diff(plan.Instances(began, want, have, 7), plan.Instances(began, want, shuffled, 7)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(before, shuffled); diff != "" {
			t.Fatalf("it changes its argument: %s", diff)
		}
	})
}
