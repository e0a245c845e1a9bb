package server_test

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/server"
)

func TestDeployPullsAndTellsAddresses(t *testing.T) {
	r := start(t)
	d, err := r.deploy(r.local, r.request(plainApp()))
	wantNil(t, err)
	if !slices.Equal(r.world.pulls, []string{"web:1"}) {
		t.Fatalf("pulled %v", r.world.pulls)
	}
	if d.result.GetRollout() != 1 || d.result.GetUnchanged() {
		t.Fatalf("result %v", d.result)
	}
	want := []string{"http://shop.localhost:8080/x", "https://shop.localhost:8443/x", "localhost:5432/tcp"}
	if got := d.result.Services[0].Addresses; !slices.Equal(got, want) {
		t.Fatalf("addresses %q, want %q", got, want)
	}
	if last := d.statuses[len(d.statuses)-1]; last.Rollout.Phase != string(maru.Succeeded) {
		t.Fatalf("the last status is %v", last)
	}

	d, err = r.deploy(r.local, r.request(plainApp()))
	wantNil(t, err)
	if !d.result.Unchanged || len(d.progress) != 0 || len(r.world.pulls) != 1 {
		t.Fatalf("the second time: %v, %v", d.result, d.progress)
	}
}

func TestDeployEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*maru.Rollout)
		kind maru.Kind
		says string
		hint string
	}{
		"rolled back": {func(r *maru.Rollout) {
			r.Phase, r.Reason = maru.RolledBackPhase, "web did not become ready in 5m"
			r.Services["web"] = maru.ServiceRollout{To: 1, Reason: "exit code 1"}
		}, maru.RolledBack, "rollout 1 was rolled back: web did not become ready in 5m", "maru logs --release 1 web"},
		"failed": {func(r *maru.Rollout) {
			r.Phase = maru.Failed
			r.Services["web"] = maru.ServiceRollout{To: 1, Reason: "exit code 1"}
		}, maru.Conflict, "rollout 1 failed: web: exit code 1", "maru logs --release 1 web"},
		"superseded": {func(r *maru.Rollout) { r.Phase = maru.Superseded }, maru.Conflict, "given up for a newer one", "maru status"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.world.end = c.end
			d, err := r.deploy(r.local, r.request(plainApp()))
			wantKind(t, err, c.kind)
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(maru.HintOf(err), c.hint) {
				t.Fatalf("%v (%s)", err, maru.HintOf(err))
			}
			if d.result != nil || len(d.statuses) == 0 {
				t.Fatal("a rollout that failed has a result, or no status")
			}
		})
	}
}

func TestDeployFollowsUntilFinalAndCanBeResumed(t *testing.T) {
	r := start(t)
	r.world.end = nil
	ctx, leave := context.WithCancel(t.Context())
	stream, err := r.local.Apps.Deploy(ctx, r.request(plainApp()))
	wantNil(t, err)
	for stream.Receive() && stream.Msg().GetStatus() == nil {
	}
	leave() // the rollout goes on without its caller
	_ = stream.Close()

	follow, err := r.local.Apps.Follow(t.Context(), &maruv1.FollowRequest{Scope: protoScope(shop), Rollout: 1})
	wantNil(t, err)
	phases := []string{}
	var result *maruv1.DeployResult
	for follow.Receive() {
		result = follow.Msg().GetResult()
		if s := follow.Msg().GetStatus(); s != nil {
			phase := s.Rollout.Phase
			if len(phases) == 0 || phases[len(phases)-1] != phase {
				phases = append(phases, phase)
			}
			switch phase {
			case string(maru.Starting):
				r.world.set(shop, func(r *maru.Rollout) { r.Phase = maru.Draining })
			case string(maru.Draining):
				r.world.set(shop, func(r *maru.Rollout) { r.Phase = maru.Succeeded })
			}
		}
	}
	wantNil(t, follow.Err())
	if want := []string{"starting", "draining", "succeeded"}; !slices.Equal(phases, want) {
		t.Fatalf("phases %v", phases)
	}
	if result.GetRollout() != 1 {
		t.Fatalf("ended with %v", result)
	}
}

func TestDeployDetached(t *testing.T) {
	r := start(t)
	r.world.end = nil
	req := r.request(plainApp())
	req.Detach = true
	d, err := r.deploy(r.local, req)
	wantNil(t, err)
	if d.result.Rollout != 1 {
		t.Fatalf("result %v", d.result)
	}
}

func TestFollowOfAnAppThatGoes(t *testing.T) {
	r := start(t)
	_, err := r.deploy(r.local, r.request(plainApp()))
	wantNil(t, err)
	removed, err := r.local.Apps.Remove(t.Context(), &maruv1.RemoveRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	follow, err := r.local.Apps.Follow(t.Context(), &maruv1.FollowRequest{Scope: protoScope(shop), Rollout: removed.Rollout.Number})
	wantNil(t, err)
	if !follow.Receive() {
		t.Fatal(follow.Err())
	}
	r.world.gone(shop)
	var result *maruv1.DeployResult
	for follow.Receive() {
		result = follow.Msg().GetResult()
	}
	wantNil(t, follow.Err())
	if result == nil {
		t.Fatal("no result")
	}
}

func TestReleaseStepOutputIsTold(t *testing.T) {
	r := start(t)
	r.world.end = nil
	r.world.entries = []maru.LogEntry{{Workload: shop.Service("web").Workload("1.release"), Instance: "i", Line: "migrated"}}
	stream, err := r.local.Apps.Deploy(t.Context(), r.request(plainApp()))
	wantNil(t, err)
	told := false
	for stream.Receive() {
		if s := stream.Msg().GetStatus(); s != nil && s.Rollout.Phase == string(maru.Starting) {
			r.world.set(shop, func(r *maru.Rollout) {
				r.Phase = maru.Releasing
				r.Services = map[string]maru.ServiceRollout{"web": {To: 1, Phase: maru.Releasing}}
			})
		}
		if p := stream.Msg().GetProgress(); p != nil && p.Step == "release" && p.Log == "migrated" {
			told = true
			r.world.set(shop, func(r *maru.Rollout) { r.Phase = maru.Succeeded })
		}
	}
	wantNil(t, stream.Err())
	if !told {
		t.Fatal("the release step's output is missing")
	}
}

// sources sends a folder and gives its source.
func (r *rig) send(c *client.Client, files map[string]string) (string, *maruv1.OfferRequest) {
	r.t.Helper()
	manifest := &maruv1.Manifest{}
	for _, name := range sortedKeys(files) {
		sum := sha256.Sum256([]byte(files[name]))
		manifest.Entries = append(manifest.Entries, &maruv1.ManifestEntry{Path: name, Mode: 0o100644, Size: int64(len(files[name])), Sha256: sum[:]})
	}
	offer := &maruv1.OfferRequest{Manifests: []*maruv1.Manifest{manifest}}
	res, err := c.Sources.Offer(r.t.Context(), offer)
	wantNil(r.t, err)
	if len(res.Missing) > 0 {
		upload, err := c.Sources.Upload(r.t.Context())
		wantNil(r.t, err)
		for _, content := range files {
			sum := sha256.Sum256([]byte(content))
			if slices.ContainsFunc(res.Missing, func(d []byte) bool { return string(d) == string(sum[:]) }) {
				wantNil(r.t, upload.Send(&maruv1.UploadRequest{Sha256: sum[:], Data: []byte(content)}))
			}
		}
		_, err = upload.CloseAndReceive()
		wantNil(r.t, err)
	}
	return res.Sources[0], offer
}

func sortedKeys(files map[string]string) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func buildApp() maru.App {
	build := maru.Service{Kind: maru.LongRunning, Image: "shop:1", Replicas: 1, Build: &maru.Build{Context: "/home/me/shop", Args: map[string]string{"V": "1"}}}
	worker := build
	worker.Build = nil
	twin := build
	return maru.App{Name: "shop", Services: map[string]maru.Service{"web": build, "twin": twin, "worker": worker}}
}

func TestDeployBuildsOnceAndRemembers(t *testing.T) {
	r := start(t)
	id, _ := r.send(r.local, map[string]string{"main.go": "package main", "go.mod": "module x"})
	r.world.built = func(req server.BuildRequest, progress func(server.BuildProgress)) (maru.Image, error) {
		data, err := os.ReadFile(filepath.Join(req.Build.Context, "main.go"))
		if err != nil || string(data) != "package main" {
			t.Errorf("the build sees %q, %v", data, err)
		}
		progress(server.BuildProgress{Step: "compile", Status: "started", Log: "ok"})
		image := maru.Image{Reference: req.Name + "@sha256:" + strings.Repeat("b", 64)}
		r.world.mu.Lock()
		defer r.world.mu.Unlock()
		r.world.images[image.Reference] = image
		return image, nil
	}
	deploy := func(change func(*maruv1.DeployRequest)) deployed {
		req := r.request(buildApp())
		req.Sources = map[string]string{"/home/me/shop": id}
		change(req)
		d, err := r.deploy(r.local, req)
		wantNil(t, err)
		return d
	}
	d := deploy(func(*maruv1.DeployRequest) {})
	if len(r.world.builds) != 1 || len(r.world.pulls) != 0 {
		t.Fatalf("%d builds, pulls %v: services that build the same, and those that run it, share one build", len(r.world.builds), r.world.pulls)
	}
	req := r.world.builds[0]
	if !strings.HasPrefix(req.Name, "maru.internal/default/production/shop:") {
		t.Fatalf("built %s", req.Name)
	}
	images := r.world.deployed[0].Images
	if images["web"].Reference != images["worker"].Reference || images["web"].Reference == "" || r.world.deployed[0].Sources["web"] != id {
		t.Fatalf("images %v, sources %v", images, r.world.deployed[0].Sources)
	}
	if !slices.ContainsFunc(d.progress, func(p *maruv1.Progress) bool { return p.Log == "ok" && p.Message == "compile" }) {
		t.Fatal("the build's output is missing")
	}
	if d := deploy(func(*maruv1.DeployRequest) {}); !d.result.Unchanged || len(r.world.builds) != 1 {
		t.Fatalf("the same source is built again: %v", d.result)
	}
	deploy(func(req *maruv1.DeployRequest) { req.Rebuild = true })
	if len(r.world.builds) != 2 {
		t.Fatalf("%d builds after rebuild", len(r.world.builds))
	}
}

func TestMountedImagesAreDigests(t *testing.T) {
	r := start(t)
	app := plainApp()
	s := app.Services["web"]
	s.Container.Mounts = []maru.Mount{{Kind: maru.TmpfsMount, Target: "/t"}, {Kind: maru.ImageMount, Source: "assets:1", Target: "/a"}}
	app.Services["web"] = s
	_, err := r.deploy(r.local, r.request(app))
	wantNil(t, err)
	source := r.world.deployed[0].App.Services["web"].Container.Mounts[1].Source
	if !strings.HasPrefix(source, "assets:1@sha256:") || !slices.Equal(r.world.pulls, []string{"web:1", "assets:1"}) {
		t.Fatalf("mounts %s, pulled %v", source, r.world.pulls)
	}
	_, err = r.local.Apps.Plan(t.Context(), &maruv1.PlanRequest{Scope: protoScope(shop), App: appStruct(t, app)})
	wantNil(t, err)
	if planned := r.world.planned[0].App.Services["web"].Container.Mounts[1].Source; planned != source {
		t.Fatalf("the plan mounts %s", planned)
	}
}

// TestImagesOfTheRegistryHere are not pulled: they are where they run.
func TestImagesOfTheRegistryHere(t *testing.T) {
	r := start(t)
	using := func(reference string) *maruv1.DeployRequest {
		app := plainApp()
		s := app.Services["web"]
		s.Image, s.Pull = reference, "always"
		s.Container.Mounts = []maru.Mount{{Kind: maru.ImageMount, Source: reference, Target: "/a"}}
		app.Services["web"] = s
		return r.request(app)
	}
	pushed := maru.RegistryHost + "/default/shop/web:1"
	_, err := r.deploy(r.local, using("own.test/shop/web:1"))
	wantKind(t, err, maru.NotFound)
	r.world.images[pushed] = maru.Image{Reference: maru.RegistryHost + "/default/shop/web@sha256:1"}
	r.world.images[maru.RegistryHost+"/default/zoo/web:1"] = maru.Image{Reference: maru.RegistryHost + "/default/zoo/web@sha256:2"}
	narrow := r.as("narrow", maru.RoleDeploy, shop)
	for _, c := range []*client.Client{r.local, narrow} {
		_, err = r.deploy(c, using("own.test/shop/web:1"))
		wantNil(t, err)
	}
	last := r.world.deployed[len(r.world.deployed)-1]
	if got := last.Images["web"].Reference; got != r.world.images[pushed].Reference || last.App.Services["web"].Container.Mounts[0].Source != got {
		t.Errorf("it runs %s: %+v", got, last.App.Services["web"].Container.Mounts)
	}
	if len(r.world.pulls) > 0 {
		t.Errorf("pulled %v", r.world.pulls)
	}
	_, err = r.deploy(narrow, using("own.test/zoo/web:1"))
	wantKind(t, err, maru.Denied)
	_, err = r.deploy(r.local, using("own.test/zoo/web:1"))
	wantNil(t, err)
}

func TestOnlyCallersWithoutAScopeNameImages(t *testing.T) {
	r := start(t)
	id, _ := r.send(r.local, map[string]string{"main.go": "package main"})
	for i, c := range []*client.Client{r.local, r.as("narrow", maru.RoleDeploy, shop)} {
		req := r.request(buildApp())
		req.Sources, req.Rebuild = map[string]string{"/home/me/shop": id}, true
		_, err := r.deploy(c, req)
		wantNil(t, err)
		if got, want := strings.Join(r.world.builds[i].Build.Tags, " "), []string{"shop:1", ""}[i]; got != want {
			t.Errorf("build %d is tagged %q, want %q", i, got, want)
		}
	}
}

func TestDeployRefuses(t *testing.T) {
	change := func(f func(*maru.App)) maru.App {
		app := plainApp()
		f(&app)
		return app
	}
	service := func(f func(*maru.Service)) maru.App {
		return change(func(a *maru.App) {
			s := a.Services["web"]
			f(&s)
			a.Services["web"] = s
		})
	}
	for name, c := range map[string]struct {
		app  maru.App
		kind maru.Kind
		says string
	}{
		"no services": {change(func(a *maru.App) { a.Services = nil }), maru.Invalid, "no services"},
		"bad name":    {change(func(a *maru.App) { a.Services["../x"] = a.Services["web"] }), maru.Invalid, `service name "../x"`},
		"no image":    {service(func(s *maru.Service) { s.Image = "" }), maru.Invalid, "neither image nor build"},
		"bad kind":    {service(func(s *maru.Service) { s.Kind = "x" }), maru.Invalid, `kind "x"`},
		"many":        {service(func(s *maru.Service) { s.Replicas = 1 << 30 }), maru.Invalid, "replicas"},
		"dependency":  {service(func(s *maru.Service) { s.DependsOn = []maru.Dependency{{Service: "db"}} }), maru.Invalid, `service "db"`},
		"network":     {service(func(s *maru.Service) { s.Networks = map[string]maru.Attachment{"n": {}} }), maru.Invalid, `network "n"`},
		"secret":      {service(func(s *maru.Service) { s.Secrets = []maru.FileMount{{Source: "s", Target: "/s"}} }), maru.Invalid, `secret "s"`},
		"config":      {service(func(s *maru.Service) { s.Configs = []maru.FileMount{{Source: "c", Target: "/c"}} }), maru.Invalid, `config "c"`},
		"volume": {service(func(s *maru.Service) {
			s.Container.Mounts = []maru.Mount{{Kind: maru.VolumeMount, Source: "v", Target: "/v"}}
		}), maru.Invalid, `volume "v"`},
		"target":           {service(func(s *maru.Service) { s.Container.Mounts = []maru.Mount{{Kind: maru.TmpfsMount, Target: "v"}} }), maru.Invalid, `mount target "v"`},
		"missing image":    {service(func(s *maru.Service) { s.Image = "missing:1" }), maru.NotFound, "service web: image missing:1"},
		"never":            {service(func(s *maru.Service) { s.Pull = "never" }), maru.NotFound, "pull_policy"},
		"no source":        {service(func(s *maru.Service) { s.Build = &maru.Build{Context: "/x"} }), maru.Invalid, "was not sent"},
		"privileged":       {service(func(s *maru.Service) { s.Container.Host.Privileged = true }), maru.Denied, "not granted"},
		"external secret":  {change(func(a *maru.App) { *a = withSecret(*a, true) }), maru.Invalid, `secret "key" has no value in production`},
		"external config":  {change(func(a *maru.App) { *a = withConfig(*a) }), maru.Invalid, `external config "motd"`},
		"unknown services": {plainApp(), maru.NotFound, `no service "nope"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.world.refuse = maru.Errorf(maru.Denied, "privileged was not granted")
			req := r.request(c.app)
			if name == "unknown services" {
				req.Services = []string{"nope"}
			}
			_, err := r.deploy(r.local, req)
			wantKind(t, err, c.kind)
			if !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v does not say %q", err, c.says)
			}
			if len(r.world.deployed) != 0 {
				t.Fatal("it was deployed")
			}
		})
	}
}

func withSecret(app maru.App, external bool) maru.App {
	app.Secrets = map[string]maru.SecretRef{"key": {Name: "key", External: external}}
	s := app.Services["web"]
	s.Secrets = []maru.FileMount{{Source: "key", Target: "/run/secrets/key"}}
	app.Services["web"] = s
	return app
}

func withConfig(app maru.App) maru.App {
	app.Configs = map[string]maru.Config{"motd": {Name: "motd", External: true}}
	s := app.Services["web"]
	s.Configs = []maru.FileMount{{Source: "motd", Target: "/motd"}}
	app.Services["web"] = s
	return app
}

func TestDeployRefusesWhatItDoesNotKnow(t *testing.T) {
	r := start(t)
	req := r.request(plainApp())
	req.App.Fields["sandboxed"] = req.App.Fields["name"]
	_, err := r.deploy(r.local, req)
	wantKind(t, err, maru.Invalid)
}

func TestDeployRefusesFoldersOfAnotherMachine(t *testing.T) {
	r := start(t)
	app := plainApp()
	s := app.Services["web"]
	s.Container.Mounts = []maru.Mount{{Kind: maru.BindMount, Source: "/home/me", Target: "/x"}}
	app.Services["web"] = s
	_, err := r.deploy(r.local, r.request(app))
	wantNil(t, err)
	_, err = r.deploy(r.as("laptop", maru.RoleAdmin, maru.Scope{}), r.request(app))
	wantKind(t, err, maru.Denied)
}

func TestSecretsAndConfigsOfADeploy(t *testing.T) {
	r := start(t)
	req := r.request(withSecret(plainApp(), false))
	req.Secrets = map[string][]byte{"key": []byte("one")}
	_, err := r.deploy(r.local, req)
	wantNil(t, err)
	if got := r.world.deployed[0].Secrets["key"]; got != (maru.SecretVersion{Name: "key", Version: 1}) {
		t.Fatalf("the release uses %v", got)
	}
	_, err = r.local.Secrets.Remove(t.Context(), &maruv1.SecretServiceRemoveRequest{Scope: protoScope(shop), Names: []string{"key"}})
	wantKind(t, err, maru.Conflict)
	plan, err := r.local.Apps.Plan(t.Context(), &maruv1.PlanRequest{Scope: req.Scope, App: req.App, Secrets: map[string][]byte{"key": []byte("two")}})
	wantNil(t, err)
	if len(plan.Problems) != 0 || len(plan.Changes) != 1 {
		t.Fatalf("plan %v", plan)
	}

	_, err = r.local.Configs.Set(t.Context(), &maruv1.ConfigServiceSetRequest{Scope: &maruv1.Scope{}, Name: "motd", Content: []byte("shared")})
	wantNil(t, err)
	_, err = r.deploy(r.local, r.request(withConfig(plainApp())))
	wantNil(t, err)
	if got := r.world.deployed[1].App.Configs["motd"].Content; string(got) != "shared" {
		t.Fatalf("the config is %q", got)
	}
}

func TestPlanTellsProblems(t *testing.T) {
	r := start(t)
	r.world.refuse = maru.WithHint(maru.Errorf(maru.Denied, "privileged was not granted"), "grant it")
	app := withConfig(withSecret(plainApp(), true))
	s := app.Services["web"]
	s.Container.Host.Privileged = true
	s.Build = &maru.Build{Context: "/x"}
	app.Services["web"] = s
	plan, err := r.local.Apps.Plan(t.Context(), &maruv1.PlanRequest{Scope: &maruv1.Scope{App: "shop"}, App: appStruct(t, app)})
	wantNil(t, err)
	var says []string
	for _, p := range plan.Problems {
		if p.Hint == "" {
			t.Errorf("%s has no hint", p.Message)
		}
		says = append(says, p.Message)
	}
	if want := []string{"privileged was not granted", `external config "motd" does not exist`, `secret "key" has no value in production`}; !slices.Equal(says, want) {
		t.Fatalf("problems %q", says)
	}
	if plan.Changes[0].Note != "its image is built" || len(r.world.pulls)+len(r.world.builds)+len(r.world.deployed) != 0 {
		t.Fatalf("plan %v did something", plan)
	}
}

func TestRollbackNeedsTheGrantsOfThen(t *testing.T) {
	r := start(t)
	app := plainApp()
	s := app.Services["web"]
	s.Container.Host.Privileged = true
	app.Services["web"] = s
	after := func(r *maru.Rollout) {
		r.Phase, r.After = maru.Succeeded, map[string]int{"web": r.Number}
	}
	r.world.end = after
	_, err := r.deploy(r.local, r.request(app))
	wantNil(t, err)
	_, err = r.deploy(r.local, r.request(plainApp()))
	wantNil(t, err)
	_, err = r.deploy(r.local, &maruv1.DeployRequest{Scope: protoScope(shop), App: appStruct(t, plainApp()), Force: true}) // runs the same
	wantNil(t, err)
	r.world.refuse = maru.Errorf(maru.Denied, "not granted any more")
	for _, to := range []int32{0, 1} {
		_, err = r.local.Apps.Rollback(t.Context(), &maruv1.RollbackRequest{Scope: protoScope(shop), To: to})
		wantKind(t, err, maru.Denied)
	}
	r.world.refuse = nil
	res, err := r.local.Apps.Rollback(t.Context(), &maruv1.RollbackRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	if res.Rollout.Cause != "rollback" {
		t.Fatalf("rollout %v", res.Rollout)
	}
}

// TestImagesOfOtherApps: by the digest alone nobody runs what another app built, had its jobs build, or pushed.
func TestImagesOfOtherApps(t *testing.T) {
	r := start(t)
	theirs := []string{"maru.internal/default/production/zoo@sha256:4", "jobs.maru.internal/default/zoo@sha256:4", maru.RegistryHost + "/default/zoo/web@sha256:4"}
	ours := []string{"maru.internal/default/staging/shop@sha256:4", "jobs.maru.internal/default/shop@sha256:4", "elsewhere.test/web@sha256:4"}
	const asked = "elsewhere.test/web@sha256:4"
	for _, found := range append(theirs, ours...) {
		r.world.images[asked] = maru.Image{Reference: found} // the engine finds what has the digest
		r.world.pulls = nil
		app := plainApp()
		web := app.Services["web"]
		web.Image, web.Build, web.Pull = asked, nil, "never"
		app.Services["web"] = web
		_, err := r.server.ReleaseCommit(t.Context(), server.Commit{Scope: shop, Origin: maru.Origin{Commit: "c1"}, Folder: t.TempDir(), App: app, By: "ann"}, func(maru.RunLogLine) {})
		if slices.Contains(theirs, found) {
			wantKind(t, err, maru.NotFound)
		} else {
			wantNil(t, err)
		}
	}
}
