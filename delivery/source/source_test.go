package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

var shop = maru.RepositoryID{Project: "default", App: "shop"}

// desk lets in whom it knows, and notes what is pushed.
type desk struct {
	mu        sync.Mutex
	tokens    map[string]maru.Token
	admit     func(maru.Push) error
	protected []string
	unwanted  []Unwanted
	received  []maru.Push
	fail      error // of Received
	lines     []string
	outcome   error
	leave     chan struct{} // closed when a follower left early
}

func (d *desk) Authenticate(_ context.Context, secret string) (maru.Token, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	token, ok := d.tokens[secret]
	if !ok {
		return maru.Token{}, maru.WithHint(maru.Errorf(maru.Unauthenticated, "no such token"), "make one")
	}
	return token, nil
}

func (d *desk) Admit(_ context.Context, push maru.Push) (Admission, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.admit != nil {
		if err := d.admit(push); err != nil {
			return Admission{}, err
		}
	}
	return Admission{Protected: d.protected, Unwanted: d.unwanted}, nil
}

func (d *desk) Received(_ context.Context, push maru.Push) (func(context.Context, func(string)) error, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return nil, d.fail
	}
	if len(push.Updates) == 0 {
		return func(context.Context, func(string)) error { return nil }, nil
	}
	d.received = append(d.received, push)
	lines, outcome, leave := d.lines, d.outcome, d.leave
	return func(ctx context.Context, tell func(string)) error {
		for _, line := range lines {
			tell(line)
		}
		if leave != nil {
			<-ctx.Done()
			close(leave)
		}
		return outcome
	}, nil
}

func (d *desk) pushes() []maru.Push {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.received)
}

type rig struct {
	t            *testing.T
	desk         *desk
	repositories *Repositories
	url          string
	work         string // a clone with a commit
}

func start(t *testing.T, cfg Config) *rig {
	t.Helper()
	d := &desk{tokens: map[string]maru.Token{
		"deployer": {Name: "deployer", Role: maru.RoleDeploy},
		"reader":   {Name: "reader", Role: maru.RoleRead},
		"other":    {Name: "other", Role: maru.RoleDeploy, Scope: maru.Scope{App: "blog"}},
		"staging":  {Name: "staging", Role: maru.RoleDeploy, Scope: maru.Scope{Project: "default", Environment: "staging", App: "shop"}},
	}}
	if cfg.Folder == "" {
		cfg.Folder = filepath.Join(t.TempDir(), "git")
	}
	repositories, err := Open(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(NewHandler(repositories, d, d))
	t.Cleanup(server.Close)
	r := &rig{t: t, desk: d, repositories: repositories, url: server.URL, work: t.TempDir()}
	r.git("init", "--quiet", "--initial-branch=main")
	r.commit("one")
	r.git("remote", "add", "maru", r.remote("deployer"))
	return r
}

// remote gives the address of the shop's repository for a token.
func (r *rig) remote(token string) string {
	u, err := url.Parse(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	u.User = url.UserPassword("git", token)
	u.Path = "/git/shop.git"
	return u.String()
}

// try runs the real git where the clone is.
func (r *rig) try(args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-c", "user.name=ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false"}, args...)...)
	cmd.Dir = r.work
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C", "GIT_ASKPASS=true")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *rig) git(args ...string) string {
	r.t.Helper()
	out, err := r.try(args...)
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (r *rig) commit(text string) string {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.work, "file"), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.git("add", ".")
	r.git("commit", "--quiet", "--allow-empty", "-m", text)
	return strings.TrimSpace(r.git("rev-parse", "HEAD"))
}

// refused runs git, which has to fail and say so.
func (r *rig) refused(says string, args ...string) {
	r.t.Helper()
	out, err := r.try(args...)
	if err == nil || !strings.Contains(out, says) {
		r.t.Errorf("git %s: %v, want it to say %q:\n%s", strings.Join(args, " "), err, says, out)
	}
}

func (r *rig) branch(name string) string {
	r.t.Helper()
	branches, _, err := r.repositories.Branches(r.t.Context(), shop)
	if err != nil {
		r.t.Fatal(err)
	}
	return branches[name]
}

func TestPushMakesARepositoryAndTellsWhatFollows(t *testing.T) {
	r := start(t, Config{})
	first := strings.TrimSpace(r.git("rev-parse", "HEAD"))
	r.desk.lines = []string{"run 1: building", "web | \x1b[31mstep", "ready: http://shop.localhost"}
	out := r.git("push", "-o", "env=production", "maru", "main")
	for _, want := range []string{"remote: run 1: building", "remote: web | [31mstep", "remote: ready: http://shop.localhost", "main -> main"} {
		if !strings.Contains(out, want) {
			t.Errorf("the push does not show %q:\n%s", want, out)
		}
	}
	pushes := r.desk.pushes()
	if len(pushes) != 1 || len(pushes[0].Updates) != 1 || pushes[0].Updates[0] != (maru.RefUpdate{Ref: "refs/heads/main", New: first}) ||
		pushes[0].By.Name != "deployer" || !slices.Equal(pushes[0].Options, []string{"env=production"}) || pushes[0].Repository != shop {
		t.Errorf("received %+v", pushes)
	}
	if r.branch("main") != first {
		t.Error("the branch is not there")
	}
	if got := r.repositories.List(); !slices.Equal(got, []maru.RepositoryID{shop}) {
		t.Errorf("there are %v", got)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	r.git("clone", "--quiet", r.remote("reader"), clone)
	r.git("-c", "protocol.version=0", "ls-remote", r.remote("reader"))
	r.git("-c", "protocol.version=1", "ls-remote", r.remote("reader"))
	if data, err := os.ReadFile(filepath.Join(clone, "file")); err != nil || string(data) != "one" {
		t.Errorf("cloned %q, %v", data, err)
	}
	if out := r.git("push", "maru", "main"); !strings.Contains(out, "up-to-date") || len(r.desk.pushes()) != 1 {
		t.Errorf("pushed again: %s", out)
	}
}

func TestAPushFailsWhenWhatFollowsFails(t *testing.T) {
	r := start(t, Config{})
	r.desk.outcome = maru.WithHint(maru.Errorf(maru.RolledBack, "run 1 was rolled back: web crashed"), "maru logs web")
	out, err := r.try("push", "maru", "main")
	if err == nil || !strings.Contains(out, "remote: run 1 was rolled back: web crashed") || !strings.Contains(out, "remote: maru logs web") {
		t.Errorf("%v:\n%s", err, out)
	}
	if r.branch("main") == "" {
		t.Error("the ref was not moved")
	}
	r.desk.outcome = nil // whether the clone knows that it was is a race within git
	r.commit("two")
	r.git("push", "maru", "main")
}

func TestWhoIsLetIn(t *testing.T) {
	r := start(t, Config{})
	r.refused("Authentication failed", "push", r.remote("stranger"), "main")
	r.refused("403", "push", r.remote("reader"), "main")
	r.refused("403", "push", r.remote("other"), "main")
	r.refused("not found", "ls-remote", r.remote("reader"))
	r.git("push", r.remote("staging"), "main")
	r.git("ls-remote", r.remote("staging"))
	r.refused("403", "ls-remote", r.remote("other"))
	for path, status := range map[string]int{
		"/git/shop.git/info/refs":                                    http.StatusForbidden, // the dumb protocol
		"/git/shop.git/HEAD":                                         http.StatusNotFound,
		"/git/shop.git/objects/info/packs":                           http.StatusNotFound,
		"/git/../../etc/info/refs?service=git-upload-pack":           http.StatusNotFound,
		"/git/a/b/shop.git/info/refs?service=git-upload-pack":        http.StatusNotFound,
		"/git/%2e%2e%2fhooks/info/refs?service=git-upload-pack":      http.StatusNotFound,
		"/git/Shop/info/refs?service=git-upload-pack":                http.StatusNotFound,
		"/git/shop.git/git-upload-pack":                              http.StatusNotImplemented,
		"/git/default/nothing.git/info/refs?service=git-upload-pack": http.StatusNotFound,
		"/git/default/shop/info/refs?service=git-upload-pack":        http.StatusOK,
	} {
		request, err := http.NewRequest(http.MethodGet, r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("anybody", "deployer")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("%s answers %d, want %d", path, response.StatusCode, status)
		}
	}
}

func TestProtectedBranches(t *testing.T) {
	r := start(t, Config{})
	r.desk.protected = []string{"refs/heads/main", "refs/heads/live"}
	r.git("push", "maru", "main", "main:fix")
	before := r.branch("main")
	r.git("commit", "--quiet", "--amend", "-m", "rewritten")
	r.refused("refs/heads/main is protected: it can only be moved forward", "push", "--force", "maru", "main")
	r.refused("refs/heads/main is protected", "push", "--force", "maru", "main", "main:fix")
	r.refused("refs/heads/main is protected: it can't be deleted", "push", "maru", ":main")
	r.git("push", "maru", "main:refs/heads/live")
	r.refused("refs/heads/live is protected: it can't be deleted", "push", "maru", ":live")
	if r.branch("main") != before || r.branch("fix") != before {
		t.Error("a refused push changed something")
	}
	r.git("push", "--force", "maru", "main:fix")
	r.git("push", "maru", ":fix")
	if r.branch("fix") != "" {
		t.Error("the branch was not deleted")
	}
	r.git("reset", "--quiet", "--hard", before)
	r.commit("two")
	r.git("push", "maru", "main")
}

func TestARefusedPushLeavesNothing(t *testing.T) {
	r := start(t, Config{})
	r.desk.admit = func(maru.Push) error {
		return maru.WithHint(maru.Errorf(maru.Denied, "the token may not deploy to production"), "use another")
	}
	r.refused("remote: the token may not deploy to production", "push", "maru", "main")
	if r.branch("main") != "" || len(r.desk.pushes()) != 0 {
		t.Error("it was taken all the same")
	}
	packs, err := filepath.Glob(filepath.Join(r.repositories.dir(shop), "objects", "pack", "*.pack"))
	if err != nil || len(packs) != 0 {
		t.Errorf("it left %v, %v", packs, err)
	}
	r.desk.admit, r.desk.fail = nil, errors.New("the disk is full")
	r.refused("what follows could not be recorded", "push", "maru", "main")
}

func TestLimits(t *testing.T) {
	r := start(t, Config{MaxPush: 100_000})
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(i * i >> 7 * 31)
	}
	random, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.work, "large"), random[:1<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	r.commit("large")
	r.refused("exceeds maximum allowed size", "push", "maru", "main")
	r.git("rm", "--quiet", "large")
	r.git("commit", "--quiet", "--amend", "-m", "small")
	r.git("push", "maru", "main")
}

func TestMalformedObjectsAreRefused(t *testing.T) {
	r := start(t, Config{})
	// A tree with an entry ".git" would write into repositories of those who check it out.
	blob := strings.TrimSpace(r.git("hash-object", "-w", "file"))
	tree := exec.Command("git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally")
	tree.Dir = r.work
	raw := append([]byte("100644 .git\x00"), unhex(t, blob)...)
	tree.Stdin = strings.NewReader(string(raw))
	out, err := tree.Output()
	if err != nil {
		t.Fatal(err)
	}
	commit := strings.TrimSpace(r.git("commit-tree", "-m", "bad", strings.TrimSpace(string(out))))
	r.refused("hasDotgit", "push", "maru", commit+":refs/heads/main")
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	var b []byte
	for i := 0; i < len(text); i += 2 {
		var v byte
		if _, err := fmt.Sscanf(text[i:i+2], "%02x", &v); err != nil {
			t.Fatal(err)
		}
		b = append(b, v)
	}
	return b
}

func TestSettingsOfARepositoryAreNotInForce(t *testing.T) {
	r := start(t, Config{})
	r.git("push", "maru", "main")
	dir := r.repositories.dir(shop)
	hook := filepath.Join(dir, "hooks", "post-receive")
	if err := os.MkdirAll(filepath.Dir(hook), 0o700); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(t.TempDir(), "ran")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\ntouch "+marker+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.commit("two")
	r.git("push", "maru", "main")
	if _, err := os.Stat(marker); err == nil {
		t.Error("a hook of the repository ran")
	}
}

func TestAClientThatLeaves(t *testing.T) {
	r := start(t, Config{KeepAlive: 10 * time.Millisecond})
	r.desk.leave = make(chan struct{})
	r.desk.lines = []string{"building"}
	cmd := exec.Command("git", "push", "maru", "main")
	cmd.Dir = r.work
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shown, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text := ""
	for buffer := make([]byte, 1000); !strings.Contains(text, "building"); {
		n, err := shown.Read(buffer)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		text += string(buffer[:n])
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	select {
	case <-r.desk.leave:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody noticed that the client is gone")
	}
	if r.branch("main") == "" {
		t.Error("the push is lost")
	}
}

func TestOpenMendsWhatWasKilled(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "git")
	r := start(t, Config{Folder: folder})
	r.git("push", "maru", "main")
	dir := r.repositories.dir(shop)
	quarantines := []string{"objects/incoming-abc", "objects/tmp_objdir-incoming-abc"}
	for _, name := range []string{"refs/heads/main.lock", "packed-refs.lock", quarantines[0] + "/pack/x", quarantines[1] + "/pack/x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.commit("two")
	r.refused("lock", "push", "maru", "main")
	if _, err := Open(Config{Folder: folder}, slog.Default()); err != nil {
		t.Fatal(err)
	}
	r.git("push", "maru", "main")
	for _, name := range quarantines {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

func FuzzReadPush(f *testing.F) {
	zero, one := strings.Repeat("0", 40), strings.Repeat("1", 40)
	line := func(text string) string { return string(appendLine(nil, []byte(text))) }
	f.Add(line(zero+" "+one+" refs/heads/main\x00report-status side-band-64k push-options") + "0000" + line("skip") + "0000PACK")
	f.Add("0000")
	f.Add("0004")
	f.Add("fffg")
	f.Fuzz(func(t *testing.T, text string) {
		request, err := readPush(strings.NewReader(text))
		if err != nil {
			if maru.KindOf(err) == maru.Internal {
				t.Errorf("%v is internal", err)
			}
			return
		}
		if !strings.HasPrefix(text, string(request.raw)) {
			t.Error("what was read is not what came")
		}
		for _, u := range request.updates {
			if !strings.HasPrefix(u.Ref, "refs/") || u.Old != "" && !isObjectName(u.Old) {
				t.Errorf("read %+v", u)
			}
		}
	})
}
