package secrets

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/store/memory"
)

var (
	shop        = maru.Scope{Project: "default", Environment: "production", App: "shop"}
	environment = maru.Scope{Project: "default", Environment: "production"}
)

func wantKind(t *testing.T, what string, err error, want maru.Kind) {
	t.Helper()
	if maru.KindOf(err) != want {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

func set(t *testing.T, v *Vault, scope maru.Scope, name, value string) int {
	t.Helper()
	version, changed, err := v.SetSecret(t.Context(), "ann", scope, name, []byte(value))
	if err != nil || !changed {
		t.Fatalf("set %s: %v, %v", name, changed, err)
	}
	return version
}

func has(t *testing.T, v *Vault, scope maru.Scope, name string, version int, want string) {
	t.Helper()
	value, err := v.Value(t.Context(), scope, name, version)
	if err != nil || string(value) != want {
		t.Errorf("%s version %d of %s is %q, %v; want %q", name, version, scope, value, err, want)
	}
}

func TestVault(t *testing.T) {
	store := memory.New()
	v, ctx := NewVault(store, box(t, t.TempDir())), t.Context()
	one := set(t, v, shop, "db", "hunter2")
	version, changed, err := v.SetSecret(ctx, "ann", shop, "db", []byte("hunter2"))
	if version != one || changed || err != nil {
		t.Errorf("the same again: %d, %v, %v", version, changed, err)
	}
	two := set(t, v, shop, "db", "")
	if two != one+1 {
		t.Errorf("version %d after %d", two, one)
	}
	has(t, v, shop, "db", one, "hunter2")
	has(t, v, shop, "db", two, "")
	info, err := v.Secret(ctx, shop, "db")
	if err != nil || info.Version != two || info.By != "ann" || info.Scope != shop || info.Updated.IsZero() {
		t.Errorf("secret %+v, %v", info, err)
	}
	for value, want := range map[string]bool{"": true, "hunter2": false} {
		if equal, err := v.SecretEquals(ctx, shop, "db", []byte(value)); equal != want || err != nil {
			t.Errorf("equals %q: %v, %v", value, equal, err)
		}
	}
	for _, kind := range []string{infoKind, valueKind, counterKind, "event"} {
		objects, _, err := store.List(ctx, kind, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if bytes.Contains(o.Data, []byte("hunter2")) {
				t.Errorf("%s %s has the value: %s", o.Kind, o.Name, o.Data)
			}
		}
	}
	_, err = v.Value(ctx, shop, "db", 3)
	wantKind(t, "a version that never was", err, maru.NotFound)
	wantKind(t, "remove", v.RemoveSecret(ctx, "bob", shop, "db"), "")
	wantKind(t, "remove again", v.RemoveSecret(ctx, "bob", shop, "db"), maru.NotFound)
	_, err = v.Value(ctx, shop, "db", two)
	wantKind(t, "a value that was removed", err, maru.NotFound)
	if three := set(t, v, shop, "db", "x"); three != two+1 {
		t.Errorf("version %d after removal", three)
	}
	_, _, err = v.SetSecret(ctx, "ann", shop, "a/b", nil)
	wantKind(t, "an odd name", err, maru.Invalid)
}

func TestAppsSeeTheirOwnBeforeTheirEnvironments(t *testing.T) {
	v, ctx := NewVault(memory.New(), box(t, t.TempDir())), t.Context()
	shared := set(t, v, environment, "db", "shared")
	visible, err := v.Visible(ctx, shop, "db")
	if err != nil || visible.Version != shared || visible.Scope != environment {
		t.Errorf("sees %+v, %v", visible, err)
	}
	own := set(t, v, shop, "db", "own")
	if visible, err = v.Visible(ctx, shop, "db"); err != nil || visible.Version != own {
		t.Errorf("sees %+v, %v", visible, err)
	}
	// A release from before still gets the value that it had.
	has(t, v, shop, "db", shared, "shared")
	has(t, v, shop, "db", own, "own")
	other := shop
	other.App = "other"
	has(t, v, other, "db", shared, "shared")
	_, err = v.Value(ctx, other, "db", own)
	wantKind(t, "another app's", err, maru.NotFound)
	_, err = v.Secret(ctx, other, "db")
	wantKind(t, "exactly another app's", err, maru.NotFound)
	_, err = v.Visible(ctx, maru.Scope{Project: "default", Environment: "preview", App: "shop"}, "db")
	wantKind(t, "another environment's", err, maru.NotFound)
	for want, scope := range map[string]maru.Scope{"production/ production/shop": {Project: "default"}, "production/shop": shop, "": {Project: "b"}} {
		all, err := v.Secrets(ctx, scope)
		var got []byte
		for i, s := range all {
			if i > 0 {
				got = append(got, ' ')
			}
			got = append(got, s.Scope.Environment+"/"+s.Scope.App...)
		}
		if err != nil || string(got) != want {
			t.Errorf("%s lists %q, %v", scope, got, err)
		}
	}
}

func TestSetFromMany(t *testing.T) {
	v := NewVault(memory.New(), box(t, t.TempDir()))
	var all sync.WaitGroup
	versions := make([]int, 8)
	for i := range versions {
		all.Go(func() {
			scope := shop
			if i%2 == 0 {
				scope = environment
			}
			versions[i] = set(t, v, scope, "db", fmt.Sprint(i))
		})
	}
	all.Wait()
	for i, version := range versions {
		has(t, v, shop, "db", version, fmt.Sprint(i))
	}
	slices.Sort(versions)
	if len(slices.Compact(versions)) != 8 {
		t.Errorf("versions %v", versions)
	}
}

func TestReseal(t *testing.T) {
	b := box(t, t.TempDir())
	v := NewVault(memory.New(), b)
	var versions []int
	for i := range 150 {
		versions = append(versions, set(t, v, shop, "db", fmt.Sprint(i)))
	}
	if err := b.Rotate(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := v.Reseal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Retire(); err != nil {
		t.Fatal(err)
	}
	for i, version := range versions {
		has(t, v, shop, "db", version, fmt.Sprint(i))
	}
}

// TestValuesAreBoundToTheirName: whoever can write the store can't make one secret another's.
func TestValuesAreBoundToTheirName(t *testing.T) {
	store := memory.New()
	v := NewVault(store, box(t, t.TempDir()))
	secret, public := set(t, v, shop, "secret", "hunter2"), set(t, v, shop, "public", "x")
	stolen, err := store.Get(t.Context(), v.valueKey(shop, "secret", secret))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Commit(t.Context(), maru.Change{Key: v.valueKey(shop, "public", public), Expect: maru.Any, Data: stolen.Data}); err != nil {
		t.Fatal(err)
	}
	_, err = v.Value(t.Context(), shop, "public", public)
	wantKind(t, "a value that was moved", err, maru.Invalid)
}

// TestWorkflowVault: it is apart from the other, and an app's own go before its environment's.
func TestWorkflowVault(t *testing.T) {
	store, b := memory.New(), box(t, t.TempDir())
	apps, v, ctx := NewVault(store, b), NewWorkflowVault(store, b), t.Context()
	shared := maru.Scope{Project: shop.Project, Environment: shop.Environment}
	other := shared
	other.App = "other"
	for _, set := range []struct {
		scope       maru.Scope
		name, value string
	}{{shared, "A", "of all"}, {shared, "B", "of all"}, {shop, "B", "first"}, {shop, "B", "own"}, {other, "C", "of another"}} {
		if _, _, err := v.SetSecret(ctx, "ann", set.scope, set.name, []byte(set.value)); err != nil {
			t.Fatal(err)
		}
	}
	values, err := v.Values(ctx, shop)
	if err != nil || len(values) != 2 || string(values["A"]) != "of all" || string(values["B"]) != "own" {
		t.Errorf("%q, %v", values, err)
	}
	if all, err := apps.Secrets(ctx, maru.Scope{}); err != nil || len(all) != 0 {
		t.Errorf("instances see %v, %v", all, err)
	}
	for _, name := range []string{"lower", "GITHUB_TOKEN", "1A", ""} {
		if _, _, err := v.SetSecret(ctx, "ann", shop, name, nil); maru.KindOf(err) != maru.Invalid {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}
