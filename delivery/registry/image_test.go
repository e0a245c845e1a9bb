package registry_test

import (
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/registry"
)

func TestOwnImages(t *testing.T) {
	g := newRigWith(t, registry.Config{Hosts: []string{"localhost:8080", "build.example.com"}}, nil)
	released := "maru.internal/default/production/shop@" + sumOf("x")
	g.releases[maru.Scope{Project: "default", Environment: "production", App: "shop"}.Service("web")] = []maru.Release{{Number: 3, Image: released}}
	shop := maru.Scope{Project: "default", Environment: "production", App: "shop"}
	for _, c := range []struct {
		reference string
		scope     maru.Scope
		want      string
		own       bool
		kind      maru.Kind
	}{
		{"nginx", shop, "", false, ""},
		{"shop/web:1", shop, "", false, ""},
		{"docker.io/shop/web:1", shop, "", false, ""},
		{"localhost:8081/shop/web:1", shop, "", false, ""},
		{"localhost:8080/Shop", shop, "", false, ""},
		{"localhost:8080/shop/web:1", shop, maru.RegistryHost + "/default/shop/web:1", true, ""},
		{"build.example.com/default/shop/web", shop, maru.RegistryHost + "/default/shop/web:latest", true, ""},
		{"localhost:8080/shop@" + sumOf("x"), maru.Scope{}, maru.RegistryHost + "/default/shop@" + sumOf("x"), true, ""},
		{"localhost:8080/shop:1@" + sumOf("x"), maru.Scope{}, maru.RegistryHost + "/default/shop@" + sumOf("x"), true, ""},
		{"localhost:8080/zoo/web:1", shop, "", true, maru.Denied},
		{"localhost:8080/team/shop/web:1", shop, "", true, maru.Denied},
		{maru.RegistryHost + "/default/shop/web:1", shop, maru.RegistryHost + "/default/shop/web:1", true, ""},
		{maru.RegistryHost + "/default/zoo/web:1", shop, "", true, maru.Denied},
		{"localhost:8080/a/b/c/d/e:1", maru.Scope{}, "", true, maru.Invalid},
		{"localhost:8080/default/production/shop/web:3", shop, released, true, ""},
		{"localhost:8080/default/production/shop/web@" + sumOf("x"), shop, released, true, ""},
		{"localhost:8080/default/production/shop/web:4", shop, "", true, maru.NotFound},
		{"localhost:8080/default/staging/shop/web:3", shop, "", true, maru.Denied},
	} {
		got, own, err := g.handler.Image(t.Context(), c.reference, c.scope)
		if got != c.want || own != c.own || maru.KindOf(err) != c.kind || c.kind == maru.Denied && !strings.Contains(err.Error(), c.reference) {
			t.Errorf("%s: %q, %v, %v", c.reference, got, own, err)
		}
	}
}
