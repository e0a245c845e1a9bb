package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/server"
)

// TestReleaseCommit deploys an app out of a folder, twice as two checkouts of what is the same.
func TestReleaseCommit(t *testing.T) {
	r := start(t)
	var texts []string
	r.world.built = func(req server.BuildRequest, progress func(server.BuildProgress)) (maru.Image, error) {
		data, err := os.ReadFile(filepath.Join(req.Build.Context, "app.txt"))
		if err != nil {
			t.Error(err)
		}
		texts = append(texts, string(data))
		progress(server.BuildProgress{Step: "[1/1] COPY", Status: "started"})
		progress(server.BuildProgress{Log: "copied"})
		image := maru.Image{Reference: req.Name + "@sha256:1"}
		r.world.images[image.Reference] = image
		return image, nil
	}
	checkout := func(text string) server.Commit {
		folder := filepath.Join(t.TempDir(), "shop")
		web := filepath.Join(folder, "web")
		if err := os.MkdirAll(web, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"app.txt", "again.txt"} {
			if err := os.WriteFile(filepath.Join(web, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		app := maru.App{Name: "shop", Services: map[string]maru.Service{
			"web": {Kind: maru.LongRunning, Build: &maru.Build{Context: web, Dockerfile: "Dockerfile"}, Replicas: 1, Routes: []maru.Route{{Host: "shop.localhost"}}},
		}}
		return server.Commit{Scope: shop, Origin: maru.Origin{Commit: "c1"}, Folder: folder, App: app, By: "ann", Message: "why"}
	}
	var lines []string
	tell := func(line maru.RunLogLine) { lines = append(lines, line.String()) }
	number, err := r.server.ReleaseCommit(t.Context(), checkout("one"), tell)
	wantNil(t, err)
	if number != 1 {
		t.Errorf("rollout %d", number)
	}
	wantNil(t, r.server.FollowRollout(t.Context(), shop, number, tell))
	for _, want := range []string{"web: build started", "web: [1/1] COPY", "web | copied", "web: build done", "rollout 1 is serving"} {
		if !slices.Contains(lines, want) {
			t.Errorf("it does not tell %q: %s", want, strings.Join(lines, "\n"))
		}
	}
	d := r.world.deployed[0]
	if d.By != "ann" || d.Message != "why" || d.Sources["web"] != "c1" || d.App.Services["web"].Build.Context != "/shop.git/web" {
		t.Errorf("deployed %+v", d)
	}
	if number, err := r.server.ReleaseCommit(t.Context(), checkout("one"), tell); err != nil || number != 0 || len(texts) != 1 {
		t.Errorf("the same again is rollout %d, %v, and builds %q", number, err, texts)
	}

	// What leads out of the folder is not read.
	outside := filepath.Join(t.TempDir(), "ignore")
	wantNil(t, os.WriteFile(outside, []byte("secret"), 0o600))
	c := checkout("two")
	wantNil(t, os.Symlink(outside, filepath.Join(c.Folder, "web", ".dockerignore")))
	_, err = r.server.ReleaseCommit(t.Context(), c, tell)
	wantKind(t, err, maru.Invalid)
	c = checkout("two")
	c.App.Services["web"] = maru.Service{Kind: maru.LongRunning, Build: &maru.Build{Context: "/etc"}}
	_, err = r.server.ReleaseCommit(t.Context(), c, tell)
	wantKind(t, err, maru.Invalid)
	// What needs a grant needs it here, too.
	r.world.refuse = maru.Errorf(maru.Denied, "bind:/srv is not granted")
	c = checkout("three")
	web := c.App.Services["web"]
	web.Container.Host.Privileged = true
	c.App.Services["web"] = web
	_, err = r.server.ReleaseCommit(t.Context(), c, tell)
	wantKind(t, err, maru.Denied)
	r.world.refuse = nil
	// The policy of tags is that of somebody with a scope.
	c = checkout("four")
	c.App.Services["web"].Build.Tags = []string{"docker.io/library/nginx:latest"}
	_, err = r.server.ReleaseCommit(t.Context(), c, tell)
	wantNil(t, err)
	if last := r.world.builds[len(r.world.builds)-1]; len(last.Build.Tags) != 0 {
		t.Errorf("a commit gives an image the names %q", last.Build.Tags)
	}
}

// TestTheGatewaysDoor serves nothing of the API, whoever the process at its other end is.
func TestTheGatewaysDoor(t *testing.T) {
	r := start(t)
	if got := r.behindGateway("/git/shop.git/info/refs"); got != "git" {
		t.Errorf("/git/ is answered by %q", got)
	}
	if got := r.behindGateway("/v2/shop/web/tags/list"); got != "registry" {
		t.Errorf("/v2/ is answered by %q", got)
	}
	if got := r.behindGateway("/maru.v1.AppService/List"); got != "404" {
		t.Errorf("the API is answered by %q", got)
	}
}
