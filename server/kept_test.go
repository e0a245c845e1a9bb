package server_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
)

func TestEnvironmentValues(t *testing.T) {
	r := start(t)
	all, own := &maruv1.Scope{}, &maruv1.Scope{App: "shop"}
	set := func(scope *maruv1.Scope, values map[string]string) error {
		_, err := r.local.Env.Set(t.Context(), &maruv1.EnvServiceSetRequest{Scope: scope, Values: values})
		return err
	}
	list := func(scope *maruv1.Scope, effective bool) map[string]string {
		t.Helper()
		res, err := r.local.Env.List(t.Context(), &maruv1.EnvServiceListRequest{Scope: scope, Effective: effective})
		wantNil(t, err)
		return res.Values
	}
	wantNil(t, set(all, map[string]string{"A": "shared", "B": "shared"}))
	wantNil(t, set(own, map[string]string{"B": "own", "C": "own"}))
	if got := list(own, false); !maps.Equal(got, map[string]string{"B": "own", "C": "own"}) {
		t.Errorf("own values %v", got)
	}
	if got := list(own, true); !maps.Equal(got, map[string]string{"A": "shared", "B": "own", "C": "own"}) {
		t.Errorf("values in force %v", got)
	}
	if got := list(&maruv1.Scope{App: "other"}, true); !maps.Equal(got, map[string]string{"A": "shared", "B": "shared"}) {
		t.Errorf("another app's %v", got)
	}
	for _, bad := range []map[string]string{{"1A": ""}, {"": ""}, {"A-B": ""}, {"A": "\x00"}} {
		wantKind(t, set(own, bad), maru.Invalid)
	}
	remove := func(names ...string) error {
		_, err := r.local.Env.Remove(t.Context(), &maruv1.EnvServiceRemoveRequest{Scope: own, Names: names})
		return err
	}
	wantKind(t, remove("B", "NOPE"), maru.NotFound)
	if len(list(own, false)) != 2 {
		t.Error("a removal that failed removed something")
	}
	wantNil(t, remove("B", "C"))
	if objects, _, err := r.store.List(t.Context(), "env", ""); err != nil || len(objects) != 1 {
		t.Errorf("%d objects are left, %v", len(objects), err)
	}
	var writers sync.WaitGroup
	for i := range 20 {
		writers.Go(func() {
			if err := set(own, map[string]string{fmt.Sprintf("V%d", i): "x"}); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	if got := list(own, false); len(got) != 20 {
		t.Errorf("of 20 values set at once, %d are there", len(got))
	}
}

func TestConfigs(t *testing.T) {
	r := start(t)
	ctx := t.Context()
	_, err := r.local.Configs.Set(ctx, &maruv1.ConfigServiceSetRequest{Scope: protoScope(shop), Name: "motd", Content: []byte("hi")})
	wantNil(t, err)
	_, err = r.local.Configs.Set(ctx, &maruv1.ConfigServiceSetRequest{Scope: protoScope(shop), Name: "../x"})
	wantKind(t, err, maru.Invalid)
	_, err = r.local.Configs.Set(ctx, &maruv1.ConfigServiceSetRequest{Scope: protoScope(shop), Name: "big", Content: make([]byte, 1<<20+1)})
	wantKind(t, err, maru.Exhausted)
	for _, c := range []struct {
		client *client.Client
		want   int
	}{{r.local, 1}, {r.as("other", maru.RoleRead, maru.Scope{Project: "default", Environment: "production", App: "other"}), 0}} {
		res, err := c.client.Configs.List(ctx, &maruv1.ConfigServiceListRequest{})
		wantNil(t, err)
		if len(res.Configs) != c.want {
			t.Errorf("%d configs, want %d", len(res.Configs), c.want)
		}
	}
	remove := &maruv1.ConfigServiceRemoveRequest{Scope: protoScope(shop), Names: []string{"motd"}}
	_, err = r.local.Configs.Remove(ctx, remove)
	wantNil(t, err)
	_, err = r.local.Configs.Remove(ctx, remove)
	wantKind(t, err, maru.NotFound)
}

func TestVolumesAreSeenWithinTheScope(t *testing.T) {
	r := start(t)
	other := maru.Scope{Project: "default", Environment: "production", App: "other"}
	shared := maru.Scope{Project: "default", Environment: "production"}
	for _, s := range []maru.Scope{shop, other, shared} {
		r.world.volumes = append(r.world.volumes, maru.VolumeStatus{ID: maru.VolumeID{Scope: s, Volume: "data"}})
	}
	seen := func(c *client.Client, scope *maruv1.Scope) int {
		t.Helper()
		res, err := c.Volumes.List(t.Context(), &maruv1.VolumeServiceListRequest{Scope: scope})
		wantNil(t, err)
		return len(res.Volumes)
	}
	narrow := r.as("narrow", maru.RoleDeploy, shop)
	for _, c := range []struct {
		client *client.Client
		scope  *maruv1.Scope
		want   int
	}{{r.local, nil, 3}, {r.local, protoScope(shop), 1}, {narrow, nil, 1}, {narrow, &maruv1.Scope{Project: "default"}, 1}} {
		if got := seen(c.client, c.scope); got != c.want {
			t.Errorf("%s sees %d volumes in %v, want %d", c.client.Where(), got, c.scope, c.want)
		}
	}
	_, err := narrow.Volumes.Remove(t.Context(), &maruv1.VolumeServiceRemoveRequest{Scope: protoScope(shared), Names: []string{"data"}})
	wantKind(t, err, maru.Denied)
	_, err = narrow.Volumes.Remove(t.Context(), &maruv1.VolumeServiceRemoveRequest{Scope: protoScope(shop), Names: []string{"data"}})
	wantNil(t, err)
}

func TestTokens(t *testing.T) {
	r := start(t)
	ctx := t.Context()
	who, err := r.local.Access.WhoAmI(ctx, &maruv1.WhoAmIRequest{})
	wantNil(t, err)
	if who.Role != "admin" || who.Method != "socket" {
		t.Fatalf("on the machine itself: %v", who)
	}
	made, err := r.local.Access.CreateToken(ctx, &maruv1.CreateTokenRequest{Name: "ci", Role: "deploy", Scope: protoScope(shop), Ttl: durationpb.New(time.Hour)})
	wantNil(t, err)
	if made.Secret == "" || made.Token.Expires.AsTime().Before(time.Now()) {
		t.Fatalf("made %v", made)
	}
	ci := r.client(client.Options{URL: r.url, Token: made.Secret, Authority: r.root})
	who, err = ci.Access.WhoAmI(ctx, &maruv1.WhoAmIRequest{})
	wantNil(t, err)
	if who.Name != "ci" || who.Role != "deploy" || who.Method != "token" || who.Scope.App != "shop" {
		t.Fatalf("the token is of %v", who)
	}
	for name, req := range map[string]*maruv1.CreateTokenRequest{
		"role": {Name: "x", Role: "root"}, "name": {Name: "X Y", Role: "read"}, "scope": {Name: "x", Role: "read", Scope: &maruv1.Scope{Project: "*"}},
		"life": {Name: "x", Role: "read", Ttl: durationpb.New(-time.Hour)},
	} {
		if _, err := r.local.Access.CreateToken(ctx, req); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	admin := r.as("admin-of-shop", maru.RoleAdmin, shop)
	r.as("everything", maru.RoleAdmin, maru.Scope{})
	list, err := admin.Access.ListTokens(ctx, &maruv1.ListTokensRequest{})
	wantNil(t, err)
	var names []string
	for _, token := range list.Tokens {
		names = append(names, token.Name)
	}
	if !slices.Equal(names, []string{"admin-of-shop", "ci"}) {
		t.Fatalf("an app's admin sees the tokens %v", names)
	}
	_, err = admin.Access.RevokeToken(ctx, &maruv1.RevokeTokenRequest{Id: "everything"})
	wantKind(t, err, maru.NotFound)
	_, err = ci.Access.RevokeToken(ctx, &maruv1.RevokeTokenRequest{Id: "admin-of-shop"})
	wantKind(t, err, maru.NotFound)
	_, err = ci.Access.RevokeToken(ctx, &maruv1.RevokeTokenRequest{Id: "ci"}) // one's own
	wantNil(t, err)
	_, err = ci.Access.WhoAmI(ctx, &maruv1.WhoAmIRequest{})
	wantKind(t, err, maru.Unauthenticated)
}

func TestGrants(t *testing.T) {
	r := start(t)
	ctx := t.Context()
	_, err := r.local.Access.AddGrants(ctx, &maruv1.AddGrantsRequest{Scope: protoScope(shop), Abilities: []string{"bind:/srv", "privileged"}})
	wantNil(t, err)
	for _, c := range []struct {
		client *client.Client
		want   int
	}{{r.local, 2}, {r.as("shop", maru.RoleRead, shop), 2}, {r.as("other", maru.RoleRead, maru.Scope{Project: "other"}), 0}} {
		res, err := c.client.Access.ListGrants(ctx, &maruv1.ListGrantsRequest{})
		wantNil(t, err)
		if len(res.Grants) != c.want {
			t.Errorf("%d grants, want %d", len(res.Grants), c.want)
		}
	}
	_, err = r.local.Access.RemoveGrants(ctx, &maruv1.RemoveGrantsRequest{Scope: protoScope(shop), Abilities: []string{"privileged"}})
	wantNil(t, err)
	if len(r.world.grants) != 1 || r.world.grants[0].By == "" {
		t.Errorf("left %v", r.world.grants)
	}
}

func TestSecrets(t *testing.T) {
	r := start(t)
	set := func(name string, value []byte) (*maruv1.SecretServiceSetResponse, error) {
		return r.local.Secrets.Set(t.Context(), &maruv1.SecretServiceSetRequest{Scope: &maruv1.Scope{}, Name: name, Value: value})
	}
	for i, want := range []string{"1 false", "1 true", "2 false"} {
		res, err := set("key", []byte{byte(i / 2)})
		wantNil(t, err)
		if got := fmt.Sprint(res.Version, res.Unchanged); got != want {
			t.Errorf("set %d: %s, want %s", i, got, want)
		}
	}
	_, err := set("a/b", nil)
	wantKind(t, err, maru.Invalid)
	_, err = set("big", make([]byte, 1<<20))
	wantKind(t, err, maru.Exhausted)
	// The environment's own are in use when any of its apps uses them.
	_, err = r.deploy(r.local, r.request(withSecret(plainApp(), true)))
	wantNil(t, err)
	_, err = r.local.Secrets.Remove(t.Context(), &maruv1.SecretServiceRemoveRequest{Scope: &maruv1.Scope{}, Names: []string{"key"}})
	wantKind(t, err, maru.Conflict)
}

func TestReadersCannotTryOutSecrets(t *testing.T) {
	r := start(t)
	req := r.request(withSecret(plainApp(), false))
	req.Secrets = map[string][]byte{"key": []byte("right")}
	_, err := r.deploy(r.local, req)
	wantNil(t, err)
	reader := r.as("reader", maru.RoleRead, shop)
	var plans []string
	for _, guess := range []string{"right", "wrong"} {
		plan, err := reader.Apps.Plan(t.Context(), &maruv1.PlanRequest{Scope: req.Scope, App: req.App, Secrets: map[string][]byte{"key": []byte(guess)}})
		wantNil(t, err)
		plans = append(plans, fmt.Sprint(r.world.planned[len(r.world.planned)-1].Secrets, len(plan.Problems)))
	}
	if plans[0] != plans[1] {
		t.Fatalf("a plan tells %s from %s", plans[0], plans[1])
	}
}

func TestReleasesAndStatus(t *testing.T) {
	r := start(t)
	for _, image := range []string{"web:1", "web:2"} {
		app := plainApp()
		s := app.Services["web"]
		s.Image = image
		app.Services["web"] = s
		_, err := r.deploy(r.local, r.request(app))
		wantNil(t, err)
	}
	ctx := t.Context()
	res, err := r.local.Apps.Releases(ctx, &maruv1.ReleasesRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	if len(res.Releases) != 2 || !res.Releases[0].Serving || res.Releases[1].Serving || res.Releases[0].Number != 2 {
		t.Fatalf("releases %v", res.Releases)
	}
	if image := res.Releases[1].Spec.Fields["image"].GetStringValue(); image != "web:1" {
		t.Errorf("release 1 has the image %q", image)
	}
	rollouts, err := r.local.Apps.Rollouts(ctx, &maruv1.RolloutsRequest{Scope: protoScope(shop), Limit: 1})
	wantNil(t, err)
	if len(rollouts.Rollouts) != 1 || rollouts.Rollouts[0].Number != 2 {
		t.Errorf("rollouts %v", rollouts)
	}
	_, err = r.local.Apps.Status(ctx, &maruv1.StatusRequest{Scope: protoScope(shop), Services: []string{"nope"}})
	wantKind(t, err, maru.NotFound)
	list, err := r.as("reader", maru.RoleRead, maru.Scope{Project: "other"}).Apps.List(ctx, &maruv1.ListRequest{})
	wantNil(t, err)
	if len(list.Apps) != 0 {
		t.Errorf("a token for another project sees %v", list.Apps)
	}
	_, err = r.local.Apps.Scale(ctx, &maruv1.ScaleRequest{Scope: protoScope(shop), Replicas: map[string]int32{"web": -2}})
	wantKind(t, err, maru.Invalid)
}
