package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

func TestWhy(t *testing.T) {
	in := maru.Container{Resources: maru.Resources{Memory: 256 << 20}}
	for _, c := range []struct {
		name string
		i    maru.Instance
		want string
	}{
		{"ready", maru.Instance{Phase: maru.PhaseRunning, Ready: true}, ""},
		{"done", maru.Instance{Phase: maru.PhaseDone}, ""},
		{"not ready", maru.Instance{Phase: maru.PhaseRunning, Message: "GET /healthz: status 500: out of coffee"},
			"runs but is not ready: GET /healthz: status 500: out of coffee"},
		{"waits", maru.Instance{Phase: maru.PhasePending, Message: "waits for volume data, held by db-1-abcde"}, "pending: waits for volume data, held by db-1-abcde"},
		{"exit", maru.Instance{Phase: maru.PhaseFailed, Attempt: 3, LastExit: &maru.Exit{Code: 1, LastLines: []string{"a", "", "panic: no database", "goroutine 1"}}},
			"exited with code 1 after 3 attempts; its last words: panic: no database | goroutine 1"},
		{"not found", maru.Instance{Phase: maru.PhaseFailed, Attempt: 1, LastExit: &maru.Exit{Code: 127}}, "exited with code 127 (its command was not found)"},
		{"signal", maru.Instance{Phase: maru.PhaseFailed, LastExit: &maru.Exit{Code: 139, Signal: "SIGSEGV"}}, "was ended by signal SIGSEGV"},
		{"memory", maru.Instance{Phase: maru.PhaseBackoff, Attempt: 2, NextStart: epoch.Add(4 * time.Second), LastExit: &maru.Exit{Code: 137, OutOfMemory: true}},
			"was killed for using more memory than its limit of 256 MiB, starts again in 4s (attempt 3)"},
		{"liveness", maru.Instance{Phase: maru.PhaseFailed, LastExit: &maru.Exit{Code: 143, Probe: "TCP 8080: connection refused"}},
			"was stopped because its liveness probe failed: TCP 8080: connection refused"},
		{"never started", maru.Instance{Phase: maru.PhaseBackoff, Message: "no such user: app"}, "could not be started: no such user: app"},
		{"again", maru.Instance{Phase: maru.PhaseRunning, LastExit: &maru.Exit{Code: 2}}, "runs but is not ready; before, it exited with code 2"},
	} {
		if got := plan.Why(epoch, c.i, in); got != c.want {
			t.Errorf("%s: %q\nwant %q", c.name, got, c.want)
		}
	}
	loop := maru.Instance{Phase: maru.PhaseBackoff, Attempt: 8, LastExit: &maru.Exit{}}
	if why := plan.Why(epoch, loop, maru.Container{Restart: maru.Restart{Policy: maru.RestartAlways}}); !strings.Contains(why, "is started again whenever it ends (restart: on-failure lets it be done)") {
		t.Errorf("of a program that ends well and is always restarted: %q", why)
	}
	long := plan.Why(epoch, maru.Instance{Phase: maru.PhaseFailed, LastExit: &maru.Exit{Code: 1, LastLines: []string{strings.Repeat("é", 5000)}}}, in)
	if len(long) > 300 || !strings.HasSuffix(long, "…") {
		t.Errorf("a long line made %d bytes", len(long))
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 256 << 20: "256 MiB", 3 << 40: "3 TiB"} {
		if got := plan.Bytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	s := newSim(t)
	look := func() map[string]maru.ServiceStatus {
		out := map[string]maru.ServiceStatus{}
		for _, st := range plan.Status(s.now, s.observe()).Services {
			out[st.Name] = st
		}
		return out
	}
	want := func(service string, state maru.State, message string) {
		t.Helper()
		if st := look()[service]; st.State != state || !strings.Contains(st.Message, message) || message == "" && st.Message != "" {
			t.Errorf("%s is %s: %q, want %s: %q", service, st.State, st.Message, state, message)
		}
	}
	s.deploy(app(map[string]maru.Service{"web": web("web:1", after("db", maru.Healthy)), "db": database("db:1"), "init": job("init:1")}))
	s.plan()
	want("web", maru.StateStarting, "waits for db to be ready")
	want("db", maru.StateStarting, "release 1: 0 of 1 instances ready")
	want("init", maru.StateStarting, "creating")
	s.settle(time.Minute)
	want("web", maru.StateRunning, "")
	want("init", maru.StateDone, "")
	if st := plan.Status(s.now, s.observe()); st.State != maru.StateRunning {
		t.Errorf("the app is %s", st.State)
	}
	w := s.engine[shop.Service("web").Workload("1")]
	w.instances[0].Ready, w.instances[0].Message = false, "status 500"
	want("web", maru.StateDegraded, "2 of 3 instances ready: web-1-")
	s.sick["web:2@sha256:web:2"] = "never-ready"
	s.deploy(app(map[string]maru.Service{"web": web("web:2", after("db", maru.Healthy)), "db": database("db:1"), "init": job("init:1")}))
	for range 3 {
		s.plan()
		for _, id := range s.ids() {
			s.step(id)
		}
	}
	want("web", maru.StateUpdating, "release 2: 0 of 3 instances ready")
	s.submit(plan.Stop(s.now, s.observe(), []string{"web"}, "ann"))
	s.settle(time.Minute)
	want("web", maru.StateStopped, "stopped")
	if sum := plan.Summary(s.now, s.observe()); sum.Services != 3 || sum.Wanted != 2 || sum.State != maru.StateRunning {
		t.Errorf("summary %+v", sum)
	}
}
