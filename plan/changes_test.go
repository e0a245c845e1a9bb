package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

func TestChanges(t *testing.T) {
	s := newSim(t)
	s.deploy(app(map[string]maru.Service{"web": web("web:1"), "db": database("db:1"), "same": web("same:1"), "more": web("more:1"), "gone": web("gone:1"), "built": web("built:1")}))
	s.settle(time.Hour)
	next := deployment(app(map[string]maru.Service{
		"web": web("web:1", func(s *maru.Service) {
			s.Container.Env = map[string]string{"MODE": "fast", "API_TOKEN": "hush"}
			s.Replicas = 5
		}),
		"db": database("db:2"), "same": web("same:1"), "new": web("new:1"), "built": web("built:1"),
		"more": web("more:1", func(s *maru.Service) { s.Replicas = 4 }),
	}))
	delete(next.Images, "built")
	got, _, err := plan.Changes(s.now, s.observe(), next)
	if err != nil {
		t.Fatal(err)
	}
	want := []maru.ServiceChange{
		{Service: "built", Action: maru.ChangeNone, Note: "unless its image turns out to be another"},
		{Service: "db", Action: maru.ChangeUpdate, Strategy: maru.Recreate, Note: "stops, then starts anew: it is away meanwhile",
			Differences: []maru.Difference{{Path: "image", From: "sha256:db:1", To: "sha256:db:2"}}},
		{Service: "gone", Action: maru.ChangeRemove, Note: "its volumes stay"},
		{Service: "more", Action: maru.ChangeScale, Note: "instances that stay are not touched",
			Differences: []maru.Difference{{Path: "replicas", From: "3", To: "4"}}},
		{Service: "new", Action: maru.ChangeCreate, Note: "starts 3 instances"},
		{Service: "same", Action: maru.ChangeNone},
		{Service: "web", Action: maru.ChangeUpdate, Strategy: maru.Rolling, Note: "is replaced while it serves",
			Differences: []maru.Difference{{Path: "container.env.API_TOKEN", To: "•••"}, {Path: "container.env.MODE", To: "fast"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDeployRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*maru.Deployment)
		kind   maru.Kind
		text   string
	}{
		{"unknown service", func(d *maru.Deployment) { d.Services = []string{"nope"} }, maru.Invalid, `no service "nope"`},
		{"no image", func(d *maru.Deployment) { delete(d.Images, "web") }, maru.NotFound, "no image"},
		{"bad name", func(d *maru.Deployment) { d.App.Services["Web"] = web("x") }, maru.Invalid, "not allowed"},
		{"negative", func(d *maru.Deployment) {
			d.App.Services["web"] = web("x", func(s *maru.Service) { s.Replicas = -1 })
		}, maru.Invalid, "-1 instances"},
		{"circle", func(d *maru.Deployment) {
			d.App.Services["web"] = web("x", after("db", maru.Started))
			d.App.Services["db"] = web("x", after("web", maru.Started))
		}, maru.Invalid, "circle: db → web → db"},
		{"network", func(d *maru.Deployment) { d.App.Networks = nil }, maru.Invalid, `network "default"`},
		{"secret", func(d *maru.Deployment) {
			d.App.Services["web"] = web("x", func(s *maru.Service) { s.Secrets = []maru.FileMount{{Source: "key"}} })
		}, maru.NotFound, `secret "key" has no value`},
	} {
		s := newSim(t)
		d := deployment(app(map[string]maru.Service{"web": web("web:1")}))
		c.change(&d)
		_, err := plan.Deploy(s.now, s.observe(), d)
		if maru.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTrim(t *testing.T) {
	s := newSim(t)
	for v := range 6 {
		s.deploy(app(map[string]maru.Service{"web": web("web:" + maru.Itoa(v)), "old": web("old:1")}))
		s.settle(time.Hour)
	}
	got := plan.Trim(s.observe(), 3)
	want := plan.Surplus{Rollouts: []int{1, 2, 3}, Releases: map[string][]int{"web": {1, 2}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.sick["web:bad@sha256:web:bad"] = "crash"
	for range 4 {
		s.deploy(app(map[string]maru.Service{"web": web("web:bad"), "old": web("old:1")}))
		s.settle(time.Hour)
	}
	if got := plan.Trim(s.observe(), 3); len(got.Rollouts) != 6 || got.Rollouts[5] != 7 || got.Rollouts[4] != 5 {
		t.Errorf("the last good one is not kept: %+v", got)
	}
}
