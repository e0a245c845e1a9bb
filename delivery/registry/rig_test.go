package registry_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/registry"
	"github.com/marucloud/maru/engine/memory"
)

const (
	ociImage = "application/vnd.oci.image.manifest.v1+json"
	ociIndex = "application/vnd.oci.image.index.v1+json"
)

// tokens are those that there are, by their secrets.
type tokens map[string]maru.Token

func (t tokens) Authenticate(_ context.Context, secret string) (maru.Token, error) {
	token, ok := t[secret]
	if !ok {
		return token, maru.Errorf(maru.Unauthenticated, "the server does not know this token")
	}
	token.Name = secret
	return token, nil
}

// releases are those that there are, by their services.
type releases map[maru.ServiceID][]maru.Release

func (r releases) Releases(_ context.Context, scope maru.Scope, service string) ([]maru.Release, error) {
	return r[scope.Service(service)], nil
}

// rig is a registry with an engine in memory.
type rig struct {
	*testing.T
	store    *memory.Repositories
	handler  *registry.Handler
	server   *httptest.Server
	releases releases
	secret   string
}

func newRig(t *testing.T) *rig { return newRigWith(t, registry.Config{}, nil) }

// newRigWith puts wrap, unless it is nil, between the registry and its engine.
func newRigWith(t *testing.T, cfg registry.Config, wrap func(registry.Store) registry.Store) *rig {
	g := &rig{T: t, store: memory.NewRepositories(), releases: releases{}, secret: "all"}
	known := tokens{
		"all":        {Role: maru.RoleAdmin},
		"read-all":   {Role: maru.RoleRead},
		"shop":       {Role: maru.RoleDeploy, Scope: maru.Scope{App: "shop"}},
		"read-shop":  {Role: maru.RoleRead, Scope: maru.Scope{Project: "default", App: "shop"}},
		"staging":    {Role: maru.RoleDeploy, Scope: maru.Scope{Environment: "staging"}},
		"production": {Role: maru.RoleDeploy, Scope: maru.Scope{Environment: "production", App: "shop"}},
		"team":       {Role: maru.RoleDeploy, Scope: maru.Scope{Project: "team"}},
	}
	var store registry.Store = g.store
	if wrap != nil {
		store = wrap(store)
	}
	g.handler = registry.New(cfg, store, known, g.releases, slog.New(slog.DiscardHandler))
	g.server = httptest.NewServer(g.handler)
	t.Cleanup(g.server.Close)
	return g
}

// as gives the rig with another token.
func (g *rig) as(secret string) *rig {
	other := *g
	other.secret = secret
	return &other
}

// response is an answer that was read.
type response struct {
	*http.Response
	body string
}

// do sends a request. Headers are given as NAME: VALUE.
func (g *rig) do(method, path, body string, headers ...string) response {
	g.Helper()
	request, err := http.NewRequestWithContext(g.Context(), method, g.server.URL+path, strings.NewReader(body))
	if err != nil {
		g.Fatal(err)
	}
	if g.secret != "" {
		request.SetBasicAuth("anybody", g.secret)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	got, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		g.Fatal(err)
	}
	defer got.Body.Close()
	data, err := io.ReadAll(got.Body)
	if err != nil {
		g.Fatal(err)
	}
	return response{got, string(data)}
}

// expect sends a request that is to be answered so: with a status, and for an error its code.
func (g *rig) expect(status int, code, method, path, body string, headers ...string) response {
	g.Helper()
	got := g.do(method, path, body, headers...)
	if got.StatusCode != status {
		g.Errorf("%s %s: %d %s, want %d", method, path, got.StatusCode, got.body, status)
	}
	if code == "" {
		return got
	}
	var failed struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(got.body), &failed); err != nil || len(failed.Errors) != 1 || failed.Errors[0].Code != code || failed.Errors[0].Message == "" {
		g.Errorf("%s %s: %s (%v), want %s", method, path, got.body, err, code)
	}
	if kind := got.Header.Get("Content-Type"); kind != "application/json" {
		g.Errorf("%s %s: an error of type %q", method, path, kind)
	}
	return got
}

func (g *rig) header(got response, name, want string) {
	g.Helper()
	if value := got.Header.Get(name); value != want {
		g.Errorf("%s is %q, want %q", name, value, want)
	}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// pushBlob pushes a blob and gives its digest.
func (g *rig) pushBlob(name, text string) string {
	g.Helper()
	g.expect(http.StatusCreated, "", http.MethodPost, "/v2/"+name+"/blobs/uploads/?digest="+sumOf(text), text)
	return sumOf(text)
}

// descriptor is the JSON of one.
func descriptor(mediaType, text string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, sumOf(text), len(text))
}

// imageOf is an image manifest of a config and layers, with more fields before them.
func imageOf(more, config string, layers ...string) string {
	var parts []string
	for _, layer := range layers {
		parts = append(parts, descriptor("application/vnd.oci.image.layer.v1.tar", layer))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,%s"config":%s,"layers":[%s]}`, ociImage, more,
		descriptor("application/vnd.oci.image.config.v1+json", config), strings.Join(parts, ","))
}

// indexOf is an index of images.
func indexOf(images ...string) string {
	var parts []string
	for _, image := range images {
		parts = append(parts, descriptor(ociImage, image))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ociIndex, strings.Join(parts, ","))
}

// pushImage pushes an image with one layer under a tag or digest, and gives its manifest.
func (g *rig) pushImage(name, reference, layer string) string {
	g.Helper()
	g.pushBlob(name, "{}")
	g.pushBlob(name, layer)
	manifest := imageOf("", "{}", layer)
	if reference == "" {
		reference = sumOf(manifest)
	}
	g.expect(http.StatusCreated, "", http.MethodPut, "/v2/"+name+"/manifests/"+reference, manifest, "Content-Type: "+ociImage)
	return manifest
}
