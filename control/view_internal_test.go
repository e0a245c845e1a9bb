package control

import (
	"encoding/json"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// FuzzStored reads whatever may stand in the store: an error is fine, a panic is not.
func FuzzStored(f *testing.F) {
	scope := maru.Scope{Project: "p", Environment: "e", App: "a"}
	id := scope.Service("web")
	for _, o := range []struct {
		key   maru.Key
		value any
	}{
		{AppKey(scope), maru.App{Name: "a"}},
		{ServiceKey(id), maru.ServiceState{Service: id, Release: 1}},
		{ReleaseKey(id, 1), maru.Release{Service: id, Number: 1}},
		{RolloutKey(scope, 1), maru.Rollout{Scope: scope, Number: 1}},
	} {
		f.Add(o.key.Kind, o.key.Name, string(maru.Raw(o.value)))
	}
	f.Add(KindRelease, "p/e/a/web", "{}")
	f.Add(KindRollout, "p/e", "null")
	f.Fuzz(func(t *testing.T, kind, name, data string) {
		v := newView(func(maru.Scope) {}, func(maru.ServiceID) {})
		key := maru.Key{Kind: kind, Name: name}
		if json.Valid([]byte(data)) {
			_ = v.follow(maru.StoreEvent{Revision: 1, Key: key, Data: json.RawMessage(data)})
		}
		for scope := range v.apps {
			_ = v.look(scope)
			_, _, _ = v.await(scope)
		}
		_ = v.follow(maru.StoreEvent{Revision: 2, Key: key})
	})
}

func TestKeys(t *testing.T) {
	scope := maru.Scope{Project: "p", Environment: "e", App: "a"}
	key := ReleaseKey(scope.Service("web.x"), 12)
	got, rest, ok := scopeOf(key.Name)
	service, number, isRelease := releaseName(rest)
	if !ok || got != scope || !isRelease || service != "web.x" || number != 12 {
		t.Errorf("%s: %v %q %d", key.Name, got, service, number)
	}
	if RolloutKey(scope, 9).Name >= RolloutKey(scope, 10).Name {
		t.Error("names of rollouts don't sort as their numbers")
	}
	a := maru.Event{Scope: scope, Type: "x", Message: "one"}
	b := a
	b.Message = "two"
	same := a
	if EventKey(a) != EventKey(same) || EventKey(a) == EventKey(b) {
		t.Error("names of events")
	}
}

func TestPlus(t *testing.T) {
	r := maru.DefaultRanges()
	for n, want := range map[int]string{0: "10.211.0.0", 2: "10.211.0.2", 256: "10.211.1.0", 65534: "10.211.255.254"} {
		if got := plus(r.VirtualV4.Addr(), n).String(); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
	if got := plus(r.VirtualV6.Addr(), 65534).String(); got != "fd6d:6172:7500:2::fffe" {
		t.Errorf("v6: %s", got)
	}
}

// TestRemovalOfWhatWentMeanwhile: between a decision to remove a workload and its effect the engine may
// tell that it is gone; nothing may wait for its end then.
func TestRemovalOfWhatWentMeanwhile(t *testing.T) {
	v := newView(func(maru.Scope) {}, func(maru.ServiceID) {})
	id := maru.Scope{Project: "p", Environment: "e", App: "a"}.Service("web").Workload("1")
	v.replay(map[maru.WorkloadID]maru.Observation{id: {Workload: id}})
	if !v.asking(id, plan.Removed) {
		t.Error("what is there is not removed")
	}
	v.observe(maru.Observation{Workload: id, Gone: true})
	if v.asking(id, plan.Removed) {
		t.Error("what is gone is removed")
	}
	if asked := v.look(id.Scope).Asked; len(asked) > 0 {
		t.Errorf("still asked: %v", asked)
	}
	if !v.asking(id, 1) || !v.asking(id, plan.Removed) {
		t.Error("what was asked for a moment ago is not removed")
	}
}
