package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/control"
)

// deliveries gives what is kept of rollouts, by number.
func (w *world) deliveries() []maru.Delivery {
	w.t.Helper()
	objects, _, err := w.store.List(ctx, control.KindDelivery, shop.String()+"/")
	if err != nil {
		w.t.Fatal(err)
	}
	var all []maru.Delivery
	for _, o := range objects {
		d, err := control.Decode[maru.Delivery](o.Key, o.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// TestDeliveries: what becomes of each rollout is kept, with when users had it, for longer than the rollout.
func TestDeliveries(t *testing.T) {
	inBubble(t, control.Config{History: 2, DeliveryAge: 30 * 24 * time.Hour}, slow, func(w *world) {
		begin := time.Now()
		push := func(image, commit string) {
			d := deployment(app(map[string]maru.Service{"web": web(image)}))
			d.Origin = &maru.Origin{Branch: "main", Commit: commit, Commits: []maru.Commit{{ID: commit, Time: time.Now().Add(-time.Hour)}}}
			if _, changed, err := w.Deploy(ctx, d); err != nil || !changed {
				t.Fatalf("%s: %v, %v", image, changed, err)
			}
		}
		push("web:1", "c1")
		if all := w.deliveries(); len(all) != 1 || all[0].Phase != maru.Pending || all[0].Origin == nil {
			t.Errorf("as it begins: %+v", all)
		}
		after(time.Minute)
		push("web:2", "c2")
		after(time.Minute)
		push("web:never", "c3") // reaches nobody
		after(10 * time.Minute)
		w.deploy(app(map[string]maru.Service{"web": web("web:4", func(s *maru.Service) { s.Update.Monitor = time.Hour })}))
		after(2 * time.Hour)
		if _, _, err := w.Rollback(ctx, shop, 2, "ann"); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		all := w.deliveries()
		if len(all) != 5 {
			t.Fatalf("%d are kept", len(all))
		}
		for k, want := range []struct {
			phase  maru.RolloutPhase
			served bool
		}{{maru.Succeeded, true}, {maru.Succeeded, true}, {maru.RolledBackPhase, false}, {maru.Succeeded, true}, {maru.Succeeded, true}} {
			d := all[k]
			if d.Phase != want.phase || d.Exposed.IsZero() == want.served || d.Served.IsZero() == want.served || d.Ended.Before(d.Served) || d.Served.Sub(d.Started) > time.Minute {
				t.Errorf("delivery %d is %s", k+1, maru.Raw(d))
			}
		}
		got, err := w.Dora(ctx, maru.Scope{}, maru.DoraQuestion{Since: begin.Add(-time.Hour), Until: time.Now()})
		if err != nil || len(got) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		f := got[0].Total
		if got[0].Scope != shop || got[0].Incomplete || f.Deployments != 3 || f.WithoutCommit != 1 || f.Stopped != 1 || f.Failed != 1 || f.LeadTime.Count != 2 ||
			f.LeadTime.Median < time.Hour || f.LeadTime.Median > time.Hour+time.Minute || f.Restore.Median < time.Hour {
			t.Errorf("the figures are %s", maru.Raw(got[0]))
		}
		if none, err := w.Dora(ctx, maru.Scope{App: "blog"}, maru.DoraQuestion{Until: time.Now()}); err != nil || len(none) != 0 {
			t.Errorf("of another app: %+v, %v", none, err)
		}
		after(31 * 24 * time.Hour)
		if all := w.deliveries(); len(all) != 0 {
			t.Errorf("%d are kept for ever", len(all))
		}
	})
}

func TestDoraOfPreviews(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		d := deployment(app(map[string]maru.Service{"web": web("web:1")}))
		d.Scope.Environment = "preview-fix"
		d.App.Environments = map[string]maru.EnvironmentPolicy{"preview": {Branch: "*"}}
		if _, _, err := w.Deploy(ctx, d); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		for environment, want := range map[string]int{"": 0, "preview-fix": 1, "production": 0} {
			got, err := w.Dora(ctx, maru.Scope{Environment: environment}, maru.DoraQuestion{Until: time.Now()})
			if err != nil || len(got) != want {
				t.Errorf("%q: %+v, %v", environment, got, err)
			}
		}
	})
}

// TestCrashLoop: that an instance ends again and again is told once.
func TestCrashLoop(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:crash", func(s *maru.Service) { s.Replicas = 1 })}))
		after(time.Hour)
		objects, _, err := w.store.List(ctx, control.KindEvent, shop.String()+"/")
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]int{}
		for _, o := range objects {
			e, err := control.Decode[maru.Event](o.Key, o.Data)
			if err != nil {
				t.Fatal(err)
			}
			kinds[e.Type]++
			if e.Type == "instance-crash-loop" && !strings.Contains(e.Message, "ends again and again: exited with code 3 after 5 attempts") {
				t.Errorf("it says %q", e.Message)
			}
		}
		if kinds["instance-crash-loop"] != 1 || kinds["instance-crashed"] < 5 {
			t.Errorf("the events are %v", kinds)
		}
	})
}
