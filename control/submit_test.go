package control_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/control"
)

func TestRemove(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1"), "db": db("db:1")}))
		after(time.Minute)
		var last maru.AppStatus
		var end error
		done := make(chan struct{})
		go func() {
			defer close(done)
			for s, err := range w.Watch(ctx, shop) {
				if end = err; err == nil {
					last = s
				}
			}
		}()
		r, err := w.Controller.Remove(ctx, shop, "ann")
		if err != nil || r.Cause != "remove" {
			t.Fatalf("remove: %+v %v", r, err)
		}
		after(time.Minute)
		<-done
		if maru.KindOf(end) != maru.NotFound || last.Rollout.Phase != maru.Succeeded || last.Rollout.Number != r.Number {
			t.Errorf("the watch ended with %v, %s", end, maru.Raw(last))
		}
		if _, err := w.Status(ctx, shop); maru.KindOf(err) != maru.NotFound {
			t.Errorf("status of a removed app: %v", err)
		}
		if n := len(w.instances()); n > 0 || len(w.plane.services) > 0 {
			t.Errorf("left: %d instances, %v", n, w.plane.services)
		}
		for _, kind := range []string{control.KindApp, control.KindService, control.KindRelease} {
			if left, _, _ := w.store.List(ctx, kind, ""); len(left) > 0 {
				t.Errorf("%d objects of kind %s are left", len(left), kind)
			}
		}
		rollouts, err := w.Rollouts(ctx, shop)
		if err != nil || rollouts[0].Number != 2 {
			t.Errorf("rollouts %+v, %v", rollouts, err)
		}
		if r := w.deploy(app(map[string]maru.Service{"web": web("web:1")})); r.Number != 3 {
			t.Errorf("deployed again as %d", r.Number)
		}
		after(time.Minute)
		w.wantPhase(maru.Succeeded)
	})
}

func TestAllocation(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		published := func(s *maru.Service) {
			s.Publish = []maru.PublishedPort{{Target: maru.Port{Port: 8080, Protocol: maru.TCP}}, {HostPort: 5432, Target: maru.Port{Port: 5432, Protocol: maru.TCP}}}
			s.Routes = []maru.Route{{Host: "Shop.example.com", Path: "/api/"}}
		}
		w.deploy(app(map[string]maru.Service{"web": web("web:1", published)}))
		after(time.Minute)
		publish := w.plane.of("web").Publish
		picked := publish[0].HostPort
		if picked < 20000 || picked > 29999 || publish[1].HostPort != 5432 {
			t.Errorf("published %+v", publish)
		}
		if port := w.plane.of("web").Routes[0].Port; port != 8080 {
			t.Errorf("the route leads to port %d", port)
		}
		address := w.plane.of("web").VirtualAddress
		for what, change := range map[string]func(*maru.Service){
			"host port": func(s *maru.Service) {
				s.Publish = []maru.PublishedPort{{HostIP: "127.0.0.1", HostPort: 5432, Target: maru.Port{Port: 1, Protocol: maru.TCP}}}
			},
			"route": func(s *maru.Service) { s.Routes = []maru.Route{{Host: "shop.example.com", Path: "api"}} },
		} {
			d := deployment(app(map[string]maru.Service{"web": web("web:1", change)}))
			d.Scope.App = "other"
			if _, refusal, err := w.Plan(ctx, d); err != nil || maru.KindOf(refusal) != maru.Conflict || maru.HintOf(refusal) == "" {
				t.Errorf("%s: a plan tells of %v, %v", what, refusal, err)
			}
			if _, _, err := w.Deploy(ctx, d); maru.KindOf(err) != maru.Conflict || maru.HintOf(err) == "" {
				t.Errorf("the same %s in another app: %v", what, err)
			}
		}
		d := deployment(app(map[string]maru.Service{"web": web("web:1", func(s *maru.Service) {
			s.Publish = []maru.PublishedPort{{HostPort: 5432, Target: maru.Port{Port: 1, Protocol: maru.UDP}}}
			s.Routes = []maru.Route{{Host: "shop.example.com", Path: "/apis"}}
		})}))
		d.Scope.App = "other"
		if _, _, err := w.Deploy(ctx, d); err != nil {
			t.Errorf("what only looks alike: %v", err)
		}
		w.deploy(app(map[string]maru.Service{"web": web("web:2", published)}))
		after(time.Minute)
		if now := w.plane.of("web"); now.VirtualAddress != address || now.Publish[0].HostPort != picked {
			t.Errorf("a new release moved to %v, port %d", now.VirtualAddress, now.Publish[0].HostPort)
		}
	})
}

func TestHistory(t *testing.T) {
	inBubble(t, control.Config{History: 5}, slow, func(w *world) {
		steady := web("steady:1")
		for v := range 12 {
			w.deploy(app(map[string]maru.Service{"web": web(fmt.Sprintf("web:%d", v)), "steady": steady}))
			after(time.Minute)
		}
		rollouts, err := w.Rollouts(ctx, shop)
		if err != nil || len(rollouts) != 5 || rollouts[0].Number != 12 {
			t.Errorf("%d rollouts, %v", len(rollouts), err)
		}
		releases, err := w.Releases(ctx, shop, "web")
		if err != nil || len(releases) > 7 || len(releases) < 5 || releases[0].Number != 12 {
			t.Errorf("%d releases, %v", len(releases), err)
		}
		if images, err := w.Images(ctx); err != nil || len(images) != len(releases)+1 {
			t.Errorf("%d images, %v", len(images), err)
		}
		if _, _, err := w.Rollback(ctx, shop, 2, "ann"); maru.KindOf(err) != maru.NotFound {
			t.Errorf("back to what is not kept: %v", err)
		}
		if _, changed, err := w.Rollback(ctx, shop, 8, "ann"); err != nil || !changed {
			t.Fatalf("back to 8: %v %v", changed, err)
		}
		after(time.Minute)
		w.wantPhase(maru.Succeeded)
		if got := w.service("web"); got.Release != 8 || w.service("steady").Release != 1 {
			t.Errorf("release %d serves", got.Release)
		}
	})
}

func TestSecrets(t *testing.T) {
	values := map[string][]byte{"token/1": []byte("hush")}
	cfg := control.Config{Secrets: func(_ context.Context, _ maru.Scope, name string, version int) ([]byte, error) {
		v, ok := values[fmt.Sprintf("%s/%d", name, version)]
		if !ok {
			return nil, maru.Errorf(maru.NotFound, "secret %s has no version %d", name, version)
		}
		return v, nil
	}}
	inBubble(t, cfg, slow, func(w *world) {
		a := app(map[string]maru.Service{"web": web("web:1", func(s *maru.Service) {
			s.Secrets = []maru.FileMount{{Source: "api", Target: "/run/secrets/api", Mode: 0o400}}
		})})
		a.Secrets = map[string]maru.SecretRef{"api": {Name: "token"}}
		w.deploy(a)
		after(time.Minute)
		w.wantPhase(maru.Succeeded)
		got, _ := w.engine.Workload(shop.Service("web").Workload("1"))
		if len(got.Files) != 1 || string(got.Files[0].Data) != "hush" || !got.Files[0].Secret {
			t.Errorf("files %+v", got.Files)
		}
		if used, err := w.SecretsInUse(ctx, shop); err != nil || !slices.Equal(used, []maru.SecretVersion{{Name: "token", Version: 1}}) {
			t.Errorf("in use %v, %v", used, err)
		}
		d := deployment(a)
		d.Secrets["api"] = maru.SecretVersion{Name: "token", Version: 2}
		if _, changed, err := w.Deploy(ctx, d); err != nil || !changed {
			t.Fatalf("another version: %v %v", changed, err)
		}
		after(time.Minute)
		w.wantPhase(maru.RolledBackPhase)
		if reason := w.status().Rollout.Reason; !strings.Contains(reason, "has no version 2") {
			t.Errorf("reason %q", reason)
		}
		if run, err := w.Workload(ctx, shop.Service("web"), 0, "abc", []string{"sh"}); err != nil || run.ID.Name != "run.abc" || string(run.Files[0].Data) != "hush" {
			t.Errorf("one-off %+v, %v", run, err)
		}
	})
}

// TestAuthSecrets: data planes are told what a route's secret comes to, and nothing that lets anybody in.
func TestAuthSecrets(t *testing.T) {
	cfg := control.Config{Secrets: func(_ context.Context, _ maru.Scope, name string, version int) ([]byte, error) {
		if name == "client" && version == 1 {
			return []byte("of the client"), nil
		}
		if name != "users" || version != 1 {
			return nil, maru.Errorf(maru.NotFound, "secret %s has no version %d", name, version)
		}
		return []byte("ada key-of-ada-123456"), nil
	}}
	inBubble(t, cfg, slow, func(w *world) {
		a := app(map[string]maru.Service{"web": web("web:1", func(s *maru.Service) {
			s.Routes = []maru.Route{{Host: "a.test", Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.KeyAuth, Secret: "who"}}},
				{Host: "b.test", Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.LoginAuth, Secret: "login"}}}}
		})})
		a.Secrets = map[string]maru.SecretRef{"who": {Name: "users"}, "login": {Name: "client"}}
		w.deploy(a)
		after(time.Minute)
		w.wantPhase(maru.Succeeded)
		told := w.plane.of("web")
		if c := told.Routes[0].Policy.Auth.Credentials; len(c) != 1 || c[0].User != "ada" || len(c[0].Hash) != 64 {
			t.Errorf("told %+v", c)
		}
		if !maps.Equal(told.Secrets, map[string]string{"login": "of the client"}) {
			t.Errorf("told secrets %v", told.Secrets)
		}
		if strings.Contains(string(maru.Raw(told)), "key-of-ada") {
			t.Error("the key is told")
		}
		if got, _ := w.engine.Workload(shop.Service("web").Workload("1")); len(got.Files) != 0 {
			t.Errorf("the instance has %+v", got.Files)
		}
		if used, err := w.SecretsInUse(ctx, shop); err != nil || !slices.Equal(used, []maru.SecretVersion{{Name: "client", Version: 1}, {Name: "users", Version: 1}}) {
			t.Errorf("in use %v, %v", used, err)
		}
	})
}
