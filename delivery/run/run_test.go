package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

func TestWhatFailsItsTestsIsNotDeployed(t *testing.T) {
	r := begin(t)
	r.verify = func(context.Context, Check) error { return maru.Errorf(maru.Invalid, "the tests failed: job unit") }
	shown, err := r.push("main", "c1")
	if err == nil || !strings.Contains(shown, "error: the tests failed: job unit") || strings.Contains(shown, "building c1") {
		t.Errorf("%v\n%s", err, shown)
	}
	all, err := r.runs.Runs(t.Context(), maru.Scope{})
	if err != nil || len(all) != 1 || all[0].Phase != maru.RunFailed || len(r.deployed) != 0 {
		t.Errorf("%+v, %v, deployed %q", all, err, r.deployed)
	}
}

func TestPushBecomesARun(t *testing.T) {
	r := begin(t)
	shown, err := r.push("main", "c1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"run 1 of shop is queued", "run 1 of shop: c1 of main goes to production, by ann", "note: a submodule is missing", "unit | testing c1", "web | building c1", "rollout 1", "serving"} {
		if !strings.Contains(shown, want) {
			t.Errorf("it does not show %q:\n%s", want, shown)
		}
	}
	all, err := r.runs.Runs(t.Context(), maru.Scope{})
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if run := all[0]; run.Phase != maru.RunSucceeded || run.Message != "subject of c1" || run.By != "ann" || run.Rollout != 1 || run.Ended.IsZero() || run.Branch != "main" {
		t.Errorf("the run is %+v", run)
	}
	if shown, err := r.push("fix", "c2"); err != nil || !strings.Contains(shown, "fix is kept. It is deployed nowhere") {
		t.Errorf("%q, %v", shown, err)
	}
	if shown, err := r.push("main", "c3", "skip"); err != nil || !strings.Contains(shown, "nothing follows from it") {
		t.Errorf("%q, %v", shown, err)
	}
	if _, err := r.admit("main", "c4", ann, "speed=high"); maru.KindOf(err) != maru.Invalid {
		t.Errorf("an option that is unknown: %v", err)
	}
	if r.phases() != "succeeded" {
		t.Errorf("the runs are %s", r.phases())
	}
	// A repository that was made anew, as after a restore, has nothing that was seen.
	delete(r.branches, "main")
	delete(r.branches, "fix")
	if _, err := r.push("main", "c3"); err != nil {
		t.Error(err)
	}
	if r.phases() != "succeeded succeeded" {
		t.Errorf("the runs are %s", r.phases())
	}
	if events, _, err := r.store.List(t.Context(), "event", production.String()+"/"); err != nil || len(events) != 2 || !strings.Contains(string(events[0].Data), "run 1 (c1 of main): succeeded") {
		t.Errorf("the events are %v %v", events, err)
	}
	if left, _, err := r.store.List(t.Context(), kindPush, ""); err != nil || len(left) != 0 {
		t.Errorf("pushes are kept: %v %v", left, err)
	}
}

func TestHowRunsEnd(t *testing.T) {
	r := begin(t)
	r.world.load = maru.WithHint(maru.Errorf(maru.Invalid, "compose.yaml:3:5: there is no key imaje\ncompose.yaml:4:5: nor this"), "write image")
	shown, err := r.push("main", "c1")
	if maru.KindOf(err) != maru.Conflict || !strings.Contains(err.Error(), "run 1 of shop failed") || maru.HintOf(err) != "write image" {
		t.Errorf("%v", err)
	}
	if !strings.Contains(shown, "error: compose.yaml:3:5: there is no key imaje\nerror: compose.yaml:4:5: nor this") {
		t.Errorf("it shows %s", shown)
	}
	r.world.load = nil
	r.follow = func(context.Context, maru.Run) error { return maru.Errorf(maru.RolledBack, "web is not ready") }
	if _, err := r.push("main", "c2"); maru.KindOf(err) != maru.RolledBack {
		t.Errorf("%v", err)
	}
	r.follow = nil
	if run, err := r.runs.Retry(t.Context(), production, 1, false, "bob"); err != nil || run.Number != 3 || run.Of != 1 || run.By != "bob" || run.Commit != "c1" {
		t.Errorf("%+v, %v", run, err)
	}
	r.until("failed rolled-back succeeded")
	if _, err := r.runs.Approve(t.Context(), production, 0, "bob"); maru.KindOf(err) != maru.Conflict {
		t.Errorf("approve what is over: %v", err)
	}
	if _, err := r.runs.Cancel(t.Context(), production, 0, "bob"); maru.KindOf(err) != maru.Conflict {
		t.Errorf("cancel what is over: %v", err)
	}
	if _, err := r.runs.Retry(t.Context(), production, 99, false, "bob"); maru.KindOf(err) != maru.NotFound {
		t.Errorf("retry what is not there: %v", err)
	}
}

func TestOneAfterTheOther(t *testing.T) {
	r := begin(t)
	var g gate
	r.release = g.wait
	var ends []func(context.Context, func(string)) error
	for i := range 4 {
		follow, err := r.received("main", fmt.Sprint("c", i))
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, follow)
		if i == 0 {
			r.until("building")
		}
	}
	r.until("building superseded superseded queued")
	if err := ends[1](t.Context(), func(string) {}); maru.KindOf(err) != maru.Conflict || !strings.Contains(err.Error(), "run 2 of shop was given up: run 3 is newer") {
		t.Errorf("one that was given up: %v", err)
	}
	if _, err := r.runs.Cancel(t.Context(), production, 4, "bob"); err != nil {
		t.Error(err)
	}
	if _, err := r.runs.Cancel(t.Context(), production, 1, "bob"); err != nil {
		t.Error(err)
	}
	r.until("cancelled superseded superseded cancelled")
	if err := ends[0](t.Context(), func(string) {}); maru.KindOf(err) != maru.Conflict || !strings.Contains(err.Error(), "was cancelled: by bob") {
		t.Errorf("one that was cancelled: %v", err)
	}
	close(g.at("c9"))
	if _, err := r.push("main", "c9"); err != nil {
		t.Error(err)
	}
	if !slices.Equal(r.deployed, []string{"c9"}) {
		t.Errorf("deployed %v", r.deployed)
	}
	for i := 10; i < 15; i++ {
		close(g.at(fmt.Sprint("c", i)))
		if _, err := r.push("main", fmt.Sprint("c", i)); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Fields(r.phases()); len(got) > 6 {
		t.Errorf("%d runs are kept", len(got))
	}
}

func TestApproval(t *testing.T) {
	r := begin(t)
	r.policy = map[string]maru.EnvironmentPolicy{"production": {Branch: "main", Deploy: "manual"}, "staging": {Branch: "develop"}}
	shown, err := r.push("main", "c1")
	if err != nil || !strings.Contains(shown, "unit | testing c1") || !strings.Contains(shown, "waits for approval: maru approve 1 --env production") {
		t.Errorf("%q, %v", shown, err)
	}
	r.until("waiting")
	if len(r.deployed) != 0 {
		t.Errorf("%q is deployed without approval", r.deployed)
	}
	r.stop()
	r.verify = func(context.Context, Check) error { return errors.New("it was tested before") }
	r.start()
	run, err := r.runs.Approve(t.Context(), production, 0, "bob")
	if err != nil || run.ApprovedBy != "bob" || run.Approved.IsZero() {
		t.Errorf("%+v, %v", run, err)
	}
	r.until("succeeded")
	r.verify = nil
	staging := maru.Token{Name: "stage", Role: maru.RoleDeploy, Scope: shop.In("staging")}
	if _, err := r.admit("main", "c2", staging); maru.KindOf(err) != maru.Denied {
		t.Errorf("a token for another environment: %v", err)
	}
	if _, err := r.admit("develop", "c2", staging, "environment=production"); maru.KindOf(err) != maru.Denied {
		t.Errorf("a token that asks for another environment: %v", err)
	}
	if _, err := r.admit("develop", "c2", staging); err != nil {
		t.Errorf("a token for this environment: %v", err)
	}
	// A file that can't be read leaves the policy as it was.
	r.world.load = errors.New("no such key")
	if _, err := r.push("main", "c3"); err == nil || !r.runsOf()[0].Manual {
		t.Errorf("%v, the run is %+v", err, r.runsOf()[0])
	}
}

// TestRetry: what succeeded is not done again, unless all is to be.
func TestRetry(t *testing.T) {
	r := begin(t)
	good := errors.New("the tests failed")
	var seen []Tests
	r.verify = func(_ context.Context, check Check) error {
		r.mu.Lock()
		seen = append(seen, check.Tests)
		r.mu.Unlock()
		check.Ended("w.yml", "a", JobResult{Outputs: map[string]string{"o": "1"}})
		check.Ended("w.yml", "big", JobResult{Outputs: map[string]string{"o": strings.Repeat("x", maxOutputs)}})
		return good
	}
	if _, err := r.push("main", "c1"); err == nil {
		t.Error("it succeeded")
	}
	for _, all := range []bool{false, true} {
		if _, err := r.runs.Retry(t.Context(), production, 0, all, "ann"); err != nil {
			t.Fatal(err)
		}
		r.until(strings.TrimSpace(strings.Repeat("failed ", len(r.runsOf()))))
	}
	if len(seen) != 3 || seen[0].Origin != 1 || seen[0].Attempt != 1 || seen[0].Kept != nil {
		t.Fatalf("%+v", seen)
	}
	if s := seen[1]; s.Origin != 1 || s.Attempt != 2 || len(s.Kept["w.yml"]) != 1 || s.Kept["w.yml"]["a"].Outputs["o"] != "1" {
		t.Errorf("the retry has %+v", s)
	}
	if s := seen[2]; s.Origin != 3 || s.Attempt != 3 || s.Kept != nil {
		t.Errorf("the retry of all has %+v", s)
	}
}

// TestBuildsAhead: images are made while the tests run; those of tests that succeed are waited for, and others given up.
func TestBuildsAhead(t *testing.T) {
	for _, fails := range []bool{false, true} {
		r := begin(t)
		began, ended := make(chan struct{}), make(chan error, 1)
		release := make(chan struct{})
		r.build = func(ctx context.Context) error {
			close(began)
			select {
			case <-release:
			case <-ctx.Done():
			}
			ended <- ctx.Err()
			return ctx.Err()
		}
		r.verify = func(_ context.Context, check Check) error {
			check.Build()
			<-began
			if fails {
				return errors.New("the tests failed")
			}
			close(release)
			return nil
		}
		_, err := r.push("main", "c1")
		if (err != nil) != fails {
			t.Errorf("the push: %v", err)
		}
		if err := <-ended; (err != nil) != fails {
			t.Errorf("the build: %v", err)
		}
	}
}

// TestImagesAreHandedOver: what jobs hand over is deployed in the place of what the file builds, also when that waited
// for approval meanwhile.
func TestImagesAreHandedOver(t *testing.T) {
	r := begin(t)
	build := &maru.Build{Context: "/web"}
	r.services = map[string]maru.Service{"web": {Build: build, Image: "shop/web"}, "worker": {Image: "shop/web"}, "db": {Image: "postgres:17"}}
	r.policy = map[string]maru.EnvironmentPolicy{"production": {Branch: "main", Deploy: "manual"}}
	r.handedOver = map[string]string{"web": "example.com/web@sha256:1"}
	if _, err := r.push("main", "c1"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.runs.Approve(t.Context(), production, 0, "bob"); err != nil {
		t.Fatal(err)
	}
	r.until("succeeded")
	want := map[string]string{"web": "example.com/web@sha256:1", "worker": "example.com/web@sha256:1", "db": "postgres:17"}
	for name, service := range r.released.Services {
		if service.Image != want[name] || service.Build != nil {
			t.Errorf("%s runs %s, built by %v", name, service.Image, service.Build)
		}
	}
	if r.services["web"].Build != build {
		t.Error("what was read of the file changed")
	}
	r.handedOver = map[string]string{"wbe": "example.com/web@sha256:1"}
	if _, err := r.push("main", "c2"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.runs.Approve(t.Context(), production, 0, "bob"); err != nil {
		t.Fatal(err)
	}
	r.until("succeeded failed")
	if why := r.runsOf()[0].Reason; !strings.Contains(why, "wbe") {
		t.Errorf("it failed for %q", why)
	}
}

func (r *rig) runsOf() []maru.Run {
	r.t.Helper()
	all, err := r.runs.Runs(r.t.Context(), production)
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// TestSupersede: a push ends the run before it that is tested, if its workflows say so.
func TestSupersede(t *testing.T) {
	for _, late := range []bool{false, true} {
		r := begin(t)
		began, told := make(chan struct{}, 2), make(chan struct{})
		r.verify = func(ctx context.Context, check Check) error {
			if check.Run.Commit != "c1" {
				return nil
			}
			began <- struct{}{}
			if late { // known only when the next push is there
				<-told
			}
			check.Supersedable()
			if !late {
				close(told)
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		first, err := r.received("main", "c1")
		if err != nil {
			t.Fatal(err)
		}
		<-began
		if !late {
			<-told
		}
		second, err := r.received("main", "c2")
		if err != nil {
			t.Fatal(err)
		}
		if late {
			close(told)
		}
		if err := first(t.Context(), func(string) {}); err == nil || !strings.Contains(err.Error(), "run 2 is newer") {
			t.Errorf("the first: %v", err)
		}
		if err := second(t.Context(), func(string) {}); err != nil {
			t.Errorf("the second: %v", err)
		}
		r.until("superseded succeeded")
	}
}

// TestLives ends the process at each point of a run, and looks that the next one goes on.
func TestLives(t *testing.T) {
	for name, c := range map[string]func(r *rig){
		"admitted, and git has not moved the ref": func(r *rig) {
			if _, err := r.admit("main", "c0", ann); err != nil {
				r.t.Fatal(err)
			}
			r.stop()
			r.start()
			if r.phases() != "" {
				r.t.Errorf("the runs are %s", r.phases())
			}
			if _, err := r.push("main", "c1"); err != nil {
				r.t.Error(err)
			}
		},
		"moved, and not recorded": func(r *rig) {
			if _, err := r.admit("main", "c1", ann); err != nil {
				r.t.Fatal(err)
			}
			r.stop()
			r.move("main", "c1")
			r.start()
		},
		"recorded, and not begun": func(r *rig) {
			r.stop()
			if _, err := r.received("main", "c1"); err != nil {
				r.t.Fatal(err)
			}
			r.start()
		},
		"testing": func(r *rig) {
			kept := make(chan Tests, 2)
			r.verify = func(ctx context.Context, check Check) error {
				kept <- check.Tests
				if len(check.Tests.Kept) > 0 {
					return nil
				}
				check.Ended("w.yml", "a", JobResult{})
				<-ctx.Done()
				return context.Cause(ctx)
			}
			if _, err := r.received("main", "c1"); err != nil {
				r.t.Fatal(err)
			}
			r.until("testing")
			<-kept
			for { // until what the job gave is stored
				if tests, _, err := load[Tests](r.t.Context(), r.store, testsKey(production, 1)); err != nil || len(tests.Kept) > 0 {
					break
				}
			}
			r.stop()
			r.start()
			if again := <-kept; len(again.Kept["w.yml"]) != 1 || again.Attempt != 1 {
				r.t.Errorf("after the restart there is %+v", again)
			}
		},
		"building": func(r *rig) {
			var g gate
			r.release = g.wait
			follow, err := r.received("main", "c1")
			if err != nil {
				r.t.Fatal(err)
			}
			r.until("building")
			r.stop()
			if err := follow(r.t.Context(), func(string) {}); maru.KindOf(err) != maru.Unavailable {
				r.t.Errorf("who follows is told %v", err)
			}
			r.release = nil
			r.start()
		},
		"deploying": func(r *rig) {
			var g gate
			r.follow = g.wait
			if _, err := r.received("main", "c1"); err != nil {
				r.t.Fatal(err)
			}
			r.until("deploying")
			if _, err := r.runs.Cancel(r.t.Context(), production, 1, "bob"); maru.KindOf(err) != maru.Conflict {
				r.t.Errorf("cancel what is deploying: %v", err)
			}
			r.stop()
			r.follow = nil
			r.start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := begin(t)
			c(r)
			r.until("succeeded")
			if !slices.Equal(r.deployed, []string{"c1"}) {
				t.Errorf("deployed %v", r.deployed)
			}
			all, err := r.runs.Runs(t.Context(), production)
			if err != nil || len(all) != 1 || all[0].By != "ann" {
				t.Errorf("the runs are %+v, %v", all, err)
			}
		})
	}
}

func FuzzDecodeLine(f *testing.F) {
	f.Add(`{"time":"2026-11-30T00:00:00Z","service":"web","output":true,"text":"a"}`)
	f.Add(`{"time":"2026-11-30T00:0`)
	f.Fuzz(func(t *testing.T, text string) {
		if line, ok := decodeLine([]byte(text)); ok && line.Time.IsZero() {
			t.Error("a line without a time")
		}
	})
}
