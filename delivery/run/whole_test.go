package run

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/control"
	"github.com/marucloud/maru/delivery/source"
	enginememory "github.com/marucloud/maru/engine/memory"
	"github.com/marucloud/maru/store/memory"
)

// planes lets go of instances at once.
type planes struct{ engine *enginememory.Engine }

func (planes) Sync()                         {}
func (planes) InForce(context.Context) error { return nil }

func (p planes) Set(services ...maru.ServiceTraffic) uint64 {
	for _, s := range services {
		for _, e := range s.Endpoints {
			if e.Draining {
				_ = p.engine.Drained(context.Background(), e.Instance) // it may be gone
			}
		}
	}
	return 1
}

func (planes) Remove(...maru.ServiceID) uint64 { return 1 }

// loops deploys commits by the real control loops, whose service runs the image that the file "image" names.
type loops struct{ *control.Controller }

func (l loops) Load(_ context.Context, folder string, _ maru.Run) (Loaded, error) {
	image, err := os.ReadFile(filepath.Join(folder, "image"))
	if err != nil {
		return Loaded{}, err
	}
	return Loaded{App: maru.App{Name: "shop", Services: map[string]maru.Service{"web": {
		Kind: maru.LongRunning, Image: strings.TrimSpace(string(image)), Replicas: 1, Update: maru.Update{Strategy: maru.Rolling},
		Expose: []maru.Port{{Port: 8080, Protocol: maru.TCP}},
	}}}}, nil
}

func (loops) Verify(context.Context, Check, func(maru.RunLogLine)) (map[string]string, error) {
	return nil, nil
}

func (loops) Build(context.Context, maru.Run, string, Loaded, func(maru.RunLogLine)) error {
	return nil
}

func (l loops) Release(ctx context.Context, run maru.Run, origin maru.Origin, _ string, app Loaded, _ func(maru.RunLogLine)) (int, error) {
	image := app.App.Services["web"].Image
	r, changed, err := l.Deploy(ctx, maru.Deployment{
		Scope: run.Scope, App: app.App, Images: map[string]maru.Image{"web": {Reference: image + "@sha256:" + image}},
		Sources: map[string]string{"web": run.Commit}, By: run.By, Origin: &origin, Again: run.Again,
	})
	if err != nil || !changed && r.Phase.Final() {
		return 0, err
	}
	return r.Number, nil
}

func (l loops) Follow(ctx context.Context, run maru.Run, rollout int, _ func(maru.RunLogLine)) error {
	for status, err := range l.Watch(ctx, run.Scope) {
		switch r := status.Rollout; {
		case err != nil:
			return err
		case r == nil || r.Number != rollout || !r.Phase.Final():
		case r.Phase == maru.Succeeded:
			return nil
		default:
			return maru.Errorf(maru.RolledBack, "rollout %d is %s: %s", rollout, r.Phase, r.Reason)
		}
	}
	return ctx.Err()
}

// None of its environments is a preview's or promotes.

func (loops) Presence(context.Context, maru.Scope) (Presence, error) { return Deployed, nil }
func (loops) Begin(context.Context, maru.Scope, string) error        { return nil }
func (loops) Serving(context.Context, maru.Scope) (Serving, error)   { return Serving{}, nil }
func (loops) Remove(context.Context, maru.Scope) error               { return nil }

// TestWhole goes from pushes to figures by way of the real git, the real control loops and an engine in memory.
func TestWhole(t *testing.T) {
	log, store, folder, work := slog.New(slog.DiscardHandler), memory.New(), t.TempDir(), t.TempDir()
	engine := enginememory.New(enginememory.Config{Behave: func(maru.Workload, string, int) enginememory.Behaviour {
		return enginememory.Behaviour{Start: time.Millisecond, Ready: time.Millisecond, Stop: time.Millisecond}
	}})
	loop, err := control.New(control.Config{}, store, engine, planes{engine}, log)
	if err != nil {
		t.Fatal(err)
	}
	repositories, err := source.Open(source.Config{Folder: filepath.Join(folder, "git")}, log)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := New(Config{Folder: filepath.Join(folder, "runs")}, store, repositories, loops{loop}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	for _, run := range []func(context.Context) error{engine.Run, loop.Run, runs.Run} {
		go func() { done <- run(ctx) }()
	}
	defer func() {
		cancel()
		for range 3 {
			<-done
		}
	}()
	server := httptest.NewServer(source.NewHandler(repositories, anyone{}, runs))
	defer server.Close()
	remote, err := url.Parse(server.URL + "/git/shop.git")
	if err != nil {
		t.Fatal(err)
	}
	remote.User = url.UserPassword("git", "token")
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=ann", "-c", "user.email=ann@example.com"}, args...)...)
		cmd.Dir = work
		cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	version := func(image string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(work, "image"), []byte(image), 0o600); err != nil {
			t.Fatal(err)
		}
		git("add", "image")
		git("commit", "--quiet", "-m", image)
		return git("rev-parse", "HEAD")
	}
	until := func(what string, ok func(maru.GitStatus) bool) {
		t.Helper()
		var status maru.GitStatus
		for deadline := time.Now().Add(30 * time.Second); ; {
			var err error
			if status, _, err = runs.Git(t.Context(), production); err == nil && ok(status) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v, %v", what, status, err)
			}
			pause(t.Context(), 20*time.Millisecond)
		}
	}
	git("init", "--quiet", "--initial-branch=main")
	git("remote", "add", "maru", remote.String())
	good := version("web:1")
	git("push", "maru", "main")
	version("web:2")
	bad := version("web:3")
	git("push", "maru", "main")
	until("in step", func(s maru.GitStatus) bool { return s.Commit == bad && s.Message == "" })
	if _, _, err := loop.Rollback(t.Context(), production, 1, "bob"); err != nil {
		t.Fatal(err)
	}
	until("taken back", func(s maru.GitStatus) bool {
		return s.Commit == good && s.Rollout == 1 && s.Revert == source.RevertBranch(bad) && strings.Contains(s.TakenBack, "by bob (rollout 2)")
	})
	git("fetch", "--quiet", "maru")
	git("merge", "--quiet", "--no-edit", "maru/"+source.RevertBranch(bad))
	git("push", "maru", "main") // web:1 again, which runs already
	version("web:4")
	git("push", "maru", "main")
	until("in step again", func(s maru.GitStatus) bool { return s.Commit == s.Tip && s.Message == "" && s.Rollout == 4 })
	figures, err := loop.Dora(t.Context(), production, maru.DoraQuestion{Until: time.Now().Add(time.Minute)})
	if err != nil || len(figures) != 1 {
		t.Fatalf("%+v, %v", figures, err)
	}
	// The first commit, the two of the second push, and the last; the revert changed nothing that runs.
	if f := figures[0].Total; f.Deployments != 3 || f.WithoutCommit != 0 || f.LeadTime.Count != 4 || f.Failed != 1 || f.Restore.Count != 1 || figures[0].Incomplete {
		t.Errorf("the figures are %+v", figures[0])
	}
}
