package registry_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestVersionCheck(t *testing.T) {
	g := newRig(t)
	got := g.expect(http.StatusOK, "", http.MethodGet, "/v2/", "")
	g.header(got, "Docker-Distribution-API-Version", "registry/2.0")
	g.expect(http.StatusOK, "", http.MethodHead, "/v2/", "")
	g.expect(http.StatusMethodNotAllowed, "UNSUPPORTED", http.MethodPost, "/v2/", "")
}

func TestCredentials(t *testing.T) {
	g := newRig(t)
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/shop/web/tags/list", "/v2/Not A Name/tags/list"} {
		got := g.as("").expect(http.StatusUnauthorized, "UNAUTHORIZED", http.MethodGet, path, "")
		g.header(got, "WWW-Authenticate", `Basic realm="Maru"`)
		g.as("unknown").expect(http.StatusUnauthorized, "UNAUTHORIZED", http.MethodGet, path, "")
	}
	g.as("").expect(http.StatusOK, "", http.MethodGet, "/v2/", "", "Authorization: Bearer all")
	g.as("").expect(http.StatusOK, "", http.MethodGet, "/v2/", "", "Authorization: Basic YWxsOg==") // the token as the user
	g.as("").expect(http.StatusUnauthorized, "UNAUTHORIZED", http.MethodGet, "/v2/", "", "Authorization: Bearer nobody")
}

func TestTokensReachTheirRepositories(t *testing.T) {
	g := newRig(t)
	for _, name := range []string{"shop", "shop/web", "zoo/web", "team/shop/web", "team/zoo/web"} {
		g.pushImage(name, "1", "of "+name)
	}
	for _, c := range []struct{ token, pulls, pushes string }{
		{"all", "shop shop/web zoo/web team/shop/web team/zoo/web", "shop shop/web zoo/web team/shop/web team/zoo/web"},
		{"read-all", "shop shop/web zoo/web team/shop/web team/zoo/web", ""},
		{"shop", "shop shop/web team/shop/web", "shop shop/web team/shop/web"},
		{"read-shop", "shop shop/web", ""},
		{"staging", "shop shop/web zoo/web team/shop/web team/zoo/web", ""},
		{"production", "shop shop/web team/shop/web", ""},
		{"team", "team/shop/web team/zoo/web", "team/shop/web team/zoo/web"},
	} {
		for _, name := range []string{"shop", "shop/web", "zoo/web", "team/shop/web", "team/zoo/web"} {
			may := func(list string) bool { return strings.Contains(" "+list+" ", " "+name+" ") }
			other := g.as(c.token)
			if may(c.pulls) {
				other.expect(http.StatusOK, "", http.MethodGet, "/v2/"+name+"/manifests/1", "")
				other.expect(http.StatusOK, "", http.MethodGet, "/v2/"+name+"/tags/list", "")
			} else {
				other.expect(http.StatusForbidden, "DENIED", http.MethodGet, "/v2/"+name+"/manifests/1", "")
				other.expect(http.StatusForbidden, "DENIED", http.MethodGet, "/v2/"+name+"/tags/list", "")
			}
			if may(c.pushes) {
				other.pushBlob(name, "pushed by "+c.token)
			} else {
				other.expect(http.StatusForbidden, "DENIED", http.MethodPost, "/v2/"+name+"/blobs/uploads/", "")
				other.expect(http.StatusForbidden, "DENIED", http.MethodPut, "/v2/"+name+"/manifests/1", "{}")
				other.expect(http.StatusForbidden, "DENIED", http.MethodDelete, "/v2/"+name+"/manifests/1", "")
				other.expect(http.StatusForbidden, "DENIED", http.MethodGet, "/v2/"+name+"/blobs/uploads/ABCDEFGHIJKLMNOPQRSTUVWXYZ", "")
			}
		}
	}
}

func TestNames(t *testing.T) {
	g := newRig(t)
	for _, name := range []string{"shop", "shop/web", "default/shop/web", "a.b/c_d/e-f", "a__b/c--d", strings.Repeat("a", 63) + "/web"} {
		g.expect(http.StatusNotFound, "NAME_UNKNOWN", http.MethodGet, "/v2/"+name+"/tags/list", "")
	}
	for _, name := range []string{"Shop", "shop/", "/shop", "shop//web", "-shop", "shop/web-", "a..b", "shop/../web", "a/b/c/d/e", strings.Repeat("a", 64), "shop/" + strings.Repeat("b", 255)} {
		got := g.do(http.MethodGet, "/v2/"+name+"/tags/list", "")
		if got.StatusCode != http.StatusBadRequest || !strings.Contains(got.body, "NAME_INVALID") {
			t.Errorf("%q: %d %s", name, got.StatusCode, got.body)
		}
	}
	for _, path := range []string{"/v2", "/v2/shop", "/v2/tags/list", "/v2/shop/other/x", "/v2/blobs/uploads/x", "/v3/", "/"} {
		if got := g.do(http.MethodGet, path, ""); got.StatusCode != http.StatusNotFound && path != "/v2" {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.body)
		}
	}
	// One repository has one place, however its name is written.
	manifest := g.pushImage("shop/web", "1", "a layer")
	if got := g.expect(http.StatusOK, "", http.MethodGet, "/v2/default/shop/web/manifests/1", ""); got.body != manifest {
		t.Errorf("%q", got.body)
	}
}
