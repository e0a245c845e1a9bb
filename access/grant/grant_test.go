package grant

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/store/memory"
)

var shop = maru.Scope{Project: "default", Environment: "production", App: "shop"}

func wantKind(t *testing.T, what string, err error, want maru.Kind) {
	t.Helper()
	if maru.KindOf(err) != want {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

func TestGrants(t *testing.T) {
	store := memory.New()
	grants, ctx := New(store), t.Context()
	wide := maru.Grant{Scope: maru.Scope{Project: "default"}, Ability: "bind:/srv/"}
	for range 2 {
		wantKind(t, "add", grants.AddGrant(ctx, "ann", wide), "")
	}
	wantKind(t, "add another", grants.AddGrant(ctx, "ann", maru.Grant{Scope: shop, Ability: "cap:cap_net_admin"}), "")
	wantKind(t, "add what does not exist", grants.AddGrant(ctx, "ann", maru.Grant{Scope: shop, Ability: "moon"}), maru.Invalid)
	all, err := grants.Grants(ctx)
	if err != nil || len(all) != 2 || all[0].Ability != "bind:/srv" || all[0].Scope != wide.Scope || all[0].By != "ann" ||
		all[1].Ability != "cap:NET_ADMIN" || all[1].Created.IsZero() {
		t.Errorf("granted %+v, %v", all, err)
	}
	wantKind(t, "remove for another scope", grants.RemoveGrant(ctx, "bob", shop, "bind:/srv"), maru.NotFound)
	wantKind(t, "remove", grants.RemoveGrant(ctx, "bob", wide.Scope, "bind:/srv/"), "")
	wantKind(t, "remove again", grants.RemoveGrant(ctx, "bob", wide.Scope, "bind:/srv"), maru.NotFound)
	wantKind(t, "remove what does not exist", grants.RemoveGrant(ctx, "bob", shop, "moon"), maru.Invalid)
	events, _, err := store.List(ctx, "event", "default//")
	if err != nil || len(events) != 2 || !strings.Contains(string(events[1].Data), `"by":"bob"`) {
		t.Errorf("recorded %v, %v", events, err)
	}
}

func TestCheck(t *testing.T) {
	grants, ctx := New(memory.New()), t.Context()
	services := map[string]maru.Service{
		"web": {Container: maru.Container{
			Mounts: []maru.Mount{{Kind: maru.BindMount, Source: "/srv/my data"}},
			Host:   maru.HostAccess{CapAdd: []string{"NET_ADMIN"}},
		}},
		"vpn": {Container: maru.Container{Host: maru.HostAccess{CapAdd: []string{"NET_ADMIN"}}}},
	}
	err := grants.Check(ctx, shop, services)
	wantKind(t, "nothing granted", err, maru.Denied)
	if want := "vpn needs cap:NET_ADMIN, web needs bind:/srv/my data, web needs cap:NET_ADMIN"; !strings.HasSuffix(err.Error(), want) {
		t.Errorf("message %q", err)
	}
	if want := "maru grant 'bind:/srv/my data' cap:NET_ADMIN --project default --env production --app shop"; !strings.HasSuffix(maru.HintOf(err), want) {
		t.Errorf("hint %q", maru.HintOf(err))
	}
	for _, a := range []string{"bind:/srv", "cap:NET_ADMIN"} {
		wantKind(t, "grant", grants.AddGrant(ctx, "ann", maru.Grant{Scope: shop, Ability: a}), "")
	}
	wantKind(t, "all granted", grants.Check(ctx, shop, services), "")
	other := shop
	other.App = "other"
	wantKind(t, "another app", grants.Check(ctx, other, services), maru.Denied)
	wantKind(t, "another app that needs nothing", grants.Check(ctx, other, map[string]maru.Service{"a": {}}), "")
	wantKind(t, "grant everything", grants.AddGrant(ctx, "ann", maru.Grant{Ability: "host"}), "")
	wantKind(t, "everything", grants.Check(ctx, other, services), "")
}

func TestFromMany(t *testing.T) {
	grants := New(memory.New())
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			wantKind(t, "add", grants.AddGrant(t.Context(), "ann", maru.Grant{Ability: fmt.Sprint("bind:/", i%3)}), "")
		})
	}
	all.Wait()
	if listed, err := grants.Grants(t.Context()); err != nil || len(listed) != 3 {
		t.Errorf("granted %v, %v", listed, err)
	}
}
