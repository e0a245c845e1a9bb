package control_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/control"
	enginememory "github.com/marucloud/maru/engine/memory"
)

var ctx = context.Background()

// TestInForce: what status tells has been published by then.
func TestInForce(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1")}))
		for status, err := range w.Watch(ctx, shop) {
			if err != nil {
				t.Fatal(err)
			}
			if status.Rollout != nil && status.Rollout.Phase == maru.Succeeded {
				break
			}
		}
		if err := w.InForce(ctx); err != nil || w.plane.ready("web") != 3 {
			t.Errorf("%d instances are published: %v", w.plane.ready("web"), err)
		}
	})
}

// slowly has instances take their time, and images whose names say so fail.
func slowly(w maru.Workload, _ string, _ int) enginememory.Behaviour {
	b := enginememory.Behaviour{Start: 50 * time.Millisecond, Ready: 100 * time.Millisecond, Stop: 20 * time.Millisecond,
		Protocols: map[uint16]string{8080: "http"}}
	switch {
	case w.Kind == maru.Job:
		b.Exit = &enginememory.Exit{After: time.Second}
	case strings.Contains(w.Image, "never"):
		b.Ready, b.Message = -1, "nothing listens on port 8080"
	case strings.Contains(w.Image, "crash"):
		b.Exit = &enginememory.Exit{Code: 3, Lines: []string{"cannot go on"}}
	}
	return b
}

var slow = enginememory.Config{Behave: slowly}

func TestDeploy(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		r := w.deploy(app(map[string]maru.Service{"web": web("web:1"), "db": db("db:1")}))
		if r.Number != 1 {
			t.Errorf("rollout %+v", r)
		}
		after(time.Minute)
		w.wantPhase(maru.Succeeded)
		traffic := w.plane.of("web")
		if w.plane.ready("web") != 3 || traffic.Ports[0].App != "http" || traffic.Empty != "" {
			t.Errorf("traffic %s", maru.Raw(traffic))
		}
		other := w.plane.of("db").VirtualAddress
		if a := traffic.VirtualAddress; !a.V4.IsValid() || !a.V6.IsValid() || a == other || a.V4 == maru.DefaultRanges().Host().V4 {
			t.Errorf("virtual addresses %v and %v", a, other)
		}
		if s := w.status(); s.State != maru.StateRunning || w.service("web").Ready != 3 {
			t.Errorf("status %s", maru.Raw(s))
		}
		calls := w.engine.calls()
		if _, changed, err := w.Deploy(ctx, deployment(app(map[string]maru.Service{"web": web("web:1"), "db": db("db:1")}))); changed || err != nil {
			t.Errorf("again: %v %v", changed, err)
		}
		after(time.Minute)
		if n := w.engine.calls() - calls; n > 0 {
			t.Errorf("a deploy without changes asked the engine %d times", n)
		}
	})
}

func TestUpdateServesAllTheTime(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1")}))
		after(time.Minute)
		w.plane.check = func(s maru.ServiceTraffic) {
			ready := 0
			for _, e := range s.Endpoints {
				if e.Ready {
					ready++
				}
			}
			if ready < 3 {
				t.Errorf("%d endpoints: %s", ready, maru.Raw(s))
			}
		}
		for v := 2; v < 5; v++ {
			w.deploy(app(map[string]maru.Service{"web": web(fmt.Sprintf("web:%d", v), func(s *maru.Service) { s.Update.Parallel = v - 2 })}))
			after(time.Minute)
			w.wantPhase(maru.Succeeded)
		}
		if r, _, err := w.Rollback(ctx, shop, 2, "ann"); err != nil || r.Of != 2 {
			t.Fatalf("rollback: %+v %v", r, err)
		}
		after(time.Minute)
		w.wantPhase(maru.Succeeded)
		if got := w.service("web").Image; !strings.HasPrefix(got, "web:2@") {
			t.Errorf("%s serves", got)
		}
	})
}

func TestFailedDeployGoesBackAndSaysWhy(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1"), "other": web("other:1")}))
		after(time.Minute)
		before := w.instances()
		w.deploy(app(map[string]maru.Service{"web": web("crash:2"), "other": web("other:2"), "new": web("new:1")}))
		after(time.Hour)
		w.wantPhase(maru.RolledBackPhase)
		if reason := w.status().Rollout.Reason; !strings.Contains(reason, "exited with code 3") || !strings.Contains(reason, "cannot go on") {
			t.Errorf("reason %q", reason)
		}
		if s := w.status(); s.State != maru.StateRunning || len(s.Services) != 2 {
			t.Errorf("status %s", maru.Raw(s))
		}
		for id := range before {
			if _, there := w.instances()[id]; !there && strings.HasPrefix(id, "web-") {
				t.Errorf("%s was replaced", id)
			}
		}
	})
}

func TestTheServerRestarts(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1"), "db": db("db:1"), "init": web("init:1", func(s *maru.Service) { s.Kind, s.Replicas = maru.Job, 1 })}))
		after(time.Minute)
		before, calls := w.instances(), w.engine.calls()
		published := maps.Clone(w.plane.services)
		w.stop()
		after(time.Hour)
		w.plane.synced = false
		w.plane.services = map[maru.ServiceID]maru.ServiceTraffic{}
		w.start()
		after(time.Minute)
		if n := w.engine.calls() - calls; n > 0 {
			t.Errorf("asked the engine %d times: %v", n, w.engine.applied)
		}
		if now := w.instances(); string(maru.Raw(now)) != string(maru.Raw(before)) {
			t.Errorf("instances %s, before %s", maru.Raw(now), maru.Raw(before))
		}
		if string(maru.Raw(w.plane.services)) != string(maru.Raw(published)) || !w.plane.synced {
			t.Errorf("published %s, before %s", maru.Raw(w.plane.services), maru.Raw(published))
		}
	})
}

func TestTheEngineIsAway(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1")}))
		after(time.Minute)
		before, version := w.instances(), w.plane.version
		w.engine.Away()
		after(time.Hour)
		if err := w.Scale(ctx, shop, map[string]int{"web": 5}, "ann"); err != nil {
			t.Fatalf("scale while the engine is away: %v", err)
		}
		after(time.Hour)
		if w.plane.ready("web") != 3 || w.plane.version != version {
			t.Errorf("published %s", maru.Raw(w.plane.of("web")))
		}
		w.engine.Back()
		after(time.Minute)
		if w.plane.ready("web") != 5 {
			t.Errorf("after it came back: %s", maru.Raw(w.plane.of("web")))
		}
		for id := range before {
			if i := w.instances()[id]; i.Attempt != 1 {
				t.Errorf("%s did not outlive it: %+v", id, i)
			}
		}
	})
}

func TestTheEngineLoses(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1")}))
		after(time.Minute)
		w.engine.Lose(shop.Service("web").Workload("1"))
		stray := maru.Workload{ID: shop.Service("stray").Workload("7"), Kind: maru.LongRunning, Image: "x", Replicas: 1}
		if err := w.engine.Engine.Apply(ctx, stray); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		if n := len(w.instances()); n != 3 || w.plane.ready("web") != 3 {
			t.Errorf("%d instances: %v", n, slices.Sorted(maps.Keys(w.instances())))
		}
	})
}

func TestCrashedInstance(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1", func(s *maru.Service) { s.Container.Resources.Memory = 256 << 20 })}))
		after(time.Minute)
		id := slices.Sorted(maps.Keys(w.instances()))[0]
		w.engine.Crash(id, maru.Exit{Code: 137, OutOfMemory: true})
		after(time.Millisecond)
		if w.plane.ready("web") != 2 {
			t.Errorf("%d ready at once after a crash", w.plane.ready("web"))
		}
		after(time.Minute)
		if w.plane.ready("web") != 3 {
			t.Errorf("%d ready later", w.plane.ready("web"))
		}
		events := w.events("instance-crashed")
		if len(events) != 1 || events[0].Instance != id || !strings.Contains(events[0].Message, "limit of 256 MiB") {
			t.Errorf("events %s", maru.Raw(events))
		}
	})
}

func (w *world) events(kind string) []maru.Event {
	w.t.Helper()
	all, _, err := w.store.List(ctx, control.KindEvent, shop.String()+"/")
	if err != nil {
		w.t.Fatal(err)
	}
	var out []maru.Event
	for _, o := range all {
		e, err := control.Decode[maru.Event](o.Key, o.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		if kind == "" || e.Type == kind {
			out = append(out, e)
		}
	}
	return out
}

// TestRefusalsAreNotRepeated has an engine lose its image: the service is tried again, with patience.
func TestRefusalsAreNotRepeated(t *testing.T) {
	var missing atomic.Value
	missing.Store("")
	inBubble(t, control.Config{}, enginememory.Config{Behave: slowly, HasImage: func(ref string) bool { return ref != missing.Load() }}, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1")}))
		after(time.Minute)
		missing.Store("web:1@sha256:web:1")
		w.engine.Lose(shop.Service("web").Workload("1"))
		calls := w.engine.calls()
		after(10 * time.Minute)
		if n := w.engine.calls() - calls; n < 10 || n > 60 {
			t.Errorf("tried %d times in ten minutes", n)
		}
		if s := w.service("web"); s.State != maru.StateFailed || !strings.Contains(s.Message, "image web:1@sha256:web:1 is not there") {
			t.Errorf("status %s %q", s.State, s.Message)
		}
		missing.Store("")
		after(time.Minute)
		if s := w.service("web"); s.State != maru.StateRunning {
			t.Errorf("once it is there: %s %q", s.State, s.Message)
		}
	})
}

func TestEventsAreForgotten(t *testing.T) {
	inBubble(t, control.Config{EventAge: 24 * time.Hour, EventCount: 10}, slow, func(w *world) {
		for v := range 5 {
			w.deploy(app(map[string]maru.Service{"web": web(fmt.Sprintf("web:%d", v))}))
			after(time.Minute)
		}
		if n := len(w.events("")); n <= 10 {
			t.Fatalf("only %d events", n)
		}
		after(2 * time.Hour)
		if n := len(w.events("")); n != 10 {
			t.Errorf("%d events after cleaning", n)
		}
		after(48 * time.Hour)
		if n := len(w.events("")); n != 0 {
			t.Errorf("%d events after two days", n)
		}
	})
}

func TestInstanceByPrefix(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1")}))
		after(time.Minute)
		id := slices.Sorted(maps.Keys(w.instances()))[0]
		if found, i, err := w.Instance(ctx, shop, id[:len(id)-1]); err != nil || i.ID != id || found.Service != "web" {
			t.Errorf("%s: %v %v %v", id, found, i, err)
		}
		if _, _, err := w.Instance(ctx, shop, "web-1"); maru.KindOf(err) != maru.Invalid {
			t.Errorf("what fits three: %v", err)
		}
		if _, _, err := w.Instance(ctx, maru.Scope{Project: "other"}, id); maru.KindOf(err) != maru.NotFound {
			t.Errorf("in another project: %v", err)
		}
	})
}
