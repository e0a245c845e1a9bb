package server_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/grant"
	"github.com/marucloud/maru/access/secrets"
	"github.com/marucloud/maru/access/token"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/control"
	"github.com/marucloud/maru/engine/memory"
	"github.com/marucloud/maru/server"
	storememory "github.com/marucloud/maru/store/memory"
)

// nobody hears of traffic.
type nobody struct{}

func (nobody) Sync()                             {}
func (nobody) Set(...maru.ServiceTraffic) uint64 { return 0 }
func (nobody) Remove(...maru.ServiceID) uint64   { return 0 }
func (nobody) InForce(context.Context) error     { return nil }

// whole starts a server in front of the real control loops, access and stores, on the memory engine.
// Images named "bad" never become ready.
func whole(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, world: newWorld(), store: storememory.New(), log: &lockedBuffer{}}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	dir := t.TempDir()
	box, err := secrets.OpenBox(filepath.Join(dir, "keys"))
	wantNil(t, err)
	vault := secrets.NewVault(r.store, box)
	runs := memory.New(memory.Config{Behave: func(w maru.Workload, _ string, _ int) memory.Behaviour {
		switch {
		case strings.HasPrefix(w.Image, "bad"):
			return memory.Behaviour{Exit: &memory.Exit{Code: 1, Lines: []string{"no such table"}}}
		case w.Kind == maru.Job && slices.Equal(w.Container.Command, []string{"false"}):
			return memory.Behaviour{Exit: &memory.Exit{Code: 1}}
		case w.Kind == maru.Job:
			return memory.Behaviour{Exit: &memory.Exit{}}
		}
		return memory.Behaviour{}
	}})
	loops, err := control.New(control.Config{Secrets: vault.Value}, r.store, runs, nobody{}, log)
	wantNil(t, err)
	deps := r.world.deps(r.store)
	deps.Control, deps.State, deps.Jobs, deps.Engine = loops, loops, loops, runs
	deps.Tokens, deps.Grants, deps.Secrets = token.New(r.store), grant.New(r.store), vault
	s, err := server.New(server.Config{Data: dir}, deps, log)
	wantNil(t, err)
	socket := filepath.Join(dir, "s.sock")
	listener, err := net.Listen("unix", socket)
	wantNil(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	for _, run := range []func(context.Context) error{runs.Run, loops.Run, func(ctx context.Context) error {
		return s.Serve(ctx, time.Second, server.Door{Listener: listener})
	}} {
		go func() { ended <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range 3 {
			<-ended
		}
		_ = listener.Close()
	})
	r.local = r.client(client.Options{Socket: socket})
	return r
}

func webApp(image string) maru.App {
	return maru.App{Name: "shop", Services: map[string]maru.Service{"web": {
		Kind: maru.LongRunning, Image: image, Replicas: 2, Update: maru.Update{Strategy: maru.Rolling, Deadline: 3 * time.Second},
		Container: maru.Container{Restart: maru.Restart{Policy: maru.RestartAlways}, Stop: maru.Stop{Drain: time.Millisecond}},
	}}}
}

func TestWhole(t *testing.T) {
	r := whole(t)
	ctx := t.Context()

	d, err := r.deploy(r.local, r.request(webApp("web:1")))
	wantNil(t, err)
	if d.result.Rollout != 1 || d.result.Services[0].Ready != 2 {
		t.Fatalf("the first deploy: %v", d.result)
	}
	began := time.Now()
	d, err = r.deploy(r.local, r.request(webApp("web:1")))
	wantNil(t, err)
	if !d.result.Unchanged {
		t.Fatalf("the same again: %v", d.result)
	}
	t.Logf("a deploy with nothing changed took %v", time.Since(began))

	d, err = r.deploy(r.local, r.request(webApp("web:2")))
	wantNil(t, err)
	if d.result.Rollout != 2 {
		t.Fatalf("the second deploy: %v", d.result)
	}
	_, err = r.deploy(r.local, r.request(webApp("bad:1")))
	wantKind(t, err, maru.RolledBack)
	status, err := r.local.Apps.Status(ctx, &maruv1.StatusRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	if web := status.App.Services[0]; web.Release != 2 || web.Ready != 2 || web.State != "running" {
		t.Fatalf("after going back: %v", web)
	}

	back, err := r.local.Apps.Rollback(ctx, &maruv1.RollbackRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	r.follow(back.Rollout.Number)
	status, err = r.local.Apps.Status(ctx, &maruv1.StatusRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	if web := status.App.Services[0]; !strings.HasPrefix(web.Image, "web:1@") || web.Ready != 2 {
		t.Fatalf("after the rollback: %v", web)
	}

	removed, err := r.local.Apps.Remove(ctx, &maruv1.RemoveRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	r.follow(removed.Rollout.Number)
	_, err = r.local.Apps.Status(ctx, &maruv1.StatusRequest{Scope: protoScope(shop)})
	wantKind(t, err, maru.NotFound)
}

// follow waits for a rollout that is to succeed.
func (r *rig) follow(number int32) {
	r.t.Helper()
	stream, err := r.local.Apps.Follow(r.t.Context(), &maruv1.FollowRequest{Scope: protoScope(shop), Rollout: number})
	wantNil(r.t, err)
	defer stream.Close()
	var result *maruv1.DeployResult
	for stream.Receive() {
		result = stream.Msg().GetResult()
	}
	wantNil(r.t, stream.Err())
	if result.GetRollout() != number {
		r.t.Fatalf("rollout %d ended with %v", number, result)
	}
}

func TestWholeWithSecretsAndGrants(t *testing.T) {
	r := whole(t)
	app := withSecret(webApp("web:1"), false)
	s := app.Services["web"]
	s.Container.Host.CapAdd = []string{"NET_ADMIN"}
	app.Services["web"] = s
	req := r.request(app)
	req.Secrets = map[string][]byte{"key": []byte("s3cr3t")}
	_, err := r.deploy(r.local, req)
	wantKind(t, err, maru.Denied)
	if !strings.Contains(maru.HintOf(err), "maru grant") {
		t.Fatalf("the hint is %q", maru.HintOf(err))
	}
	_, err = r.local.Access.AddGrants(t.Context(), &maruv1.AddGrantsRequest{Scope: protoScope(shop), Abilities: []string{"cap:NET_ADMIN"}})
	wantNil(t, err)
	_, err = r.deploy(r.local, req)
	wantNil(t, err)
	releases, err := r.local.Apps.Releases(t.Context(), &maruv1.ReleasesRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	if v := releases.Releases[0].Secrets["key"]; v.GetVersion() != 1 {
		t.Fatalf("the release uses %v", v)
	}
	if strings.Contains(releases.String(), "s3cr3t") {
		t.Fatal("a secret's value is in the release")
	}
	req.Secrets["key"] = []byte("another")
	d, err := r.deploy(r.local, req)
	wantNil(t, err)
	if d.result.Rollout != 2 {
		t.Fatalf("a changed secret: %v", d.result)
	}
}
