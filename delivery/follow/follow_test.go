package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/store/memory"
)

var shop = maru.RepositoryID{Project: "default", App: "shop"}

// forge is a server with a repository, by git's own HTTP back end, and an API that checks what it is told.
type forge struct {
	*httptest.Server
	t    *testing.T
	work string // a clone on its disk

	mu     sync.Mutex
	down   bool
	told   []string
	misled []string
}

const password = "s3cret-token"

func newForge(t *testing.T) *forge {
	root := t.TempDir()
	f := &forge{t: t, work: filepath.Join(root, "work")}
	git(t, "", "init", "--quiet", "--bare", "--initial-branch=main", filepath.Join(root, "ann", "shop.git"))
	git(t, "", "init", "--quiet", "--initial-branch=main", f.work)
	git(t, f.work, "remote", "add", "origin", filepath.Join(root, "ann", "shop.git"))
	backend, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(strings.TrimSpace(string(backend)), "git-http-backend")
	mux := http.NewServeMux()
	mux.HandleFunc("/ann/", func(w http.ResponseWriter, r *http.Request) {
		user, given, _ := r.BasicAuth()
		if given != password || user == "" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		serveGit(w, r, program, root)
	})
	mux.HandleFunc("POST /api/", f.api)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// api is that of GitHub, GitLab and Gitea, as far as it is used.
func (f *forge) api(w http.ResponseWriter, r *http.Request) {
	var body struct{ State, Context, Name, Description string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	kind, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/api/"), "/")
	known, prefix := false, ""
	switch kind {
	case "github":
		known = r.Header.Get("Authorization") == "Bearer "+password && r.Header.Get("X-GitHub-Api-Version") != "" && r.Header.Get("Accept") == "application/vnd.github+json"
		prefix = "repos/ann/shop/statuses/"
	case "gitea":
		known, prefix = r.Header.Get("Authorization") == "token "+password, "repos/ann/shop/statuses/"
	case "gitlab":
		known, prefix = r.Header.Get("PRIVATE-TOKEN") == password, "projects/ann%2Fshop/statuses/"
		body.Context = body.Name
	}
	commit, ok := strings.CutPrefix(rest, prefix)
	if !known || !ok || len(commit) != 40 || r.Header.Get("Content-Type") != "application/json" {
		f.misled = append(f.misled, r.URL.String())
		w.WriteHeader(http.StatusNotFound)
		return
	}
	f.told = append(f.told, strings.TrimSpace(body.Context+" "+body.State+" "+body.Description))
	w.WriteHeader(http.StatusCreated)
}

func (f *forge) states() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.misled) > 0 {
		f.t.Fatalf("the forge was asked %v", f.misled)
	}
	return strings.Join(f.told, "; ")
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.com"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit adds one to a branch there.
func (f *forge) commit(branch, message string) string {
	f.t.Helper()
	git(f.t, f.work, "checkout", "--quiet", "-B", branch)
	git(f.t, f.work, "commit", "--quiet", "--allow-empty", "-m", message)
	git(f.t, f.work, "push", "--quiet", "--force", "origin", branch)
	return git(f.t, f.work, "rev-parse", "HEAD")
}

// receiver keeps what it is told.
type receiver struct {
	mu        sync.Mutex
	protected []string
	received  []maru.Push
	denied    error
}

func (r *receiver) Admit(context.Context, maru.Push) (source.Admission, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return source.Admission{Protected: r.protected}, r.denied
}

func (r *receiver) Received(_ context.Context, push maru.Push) (func(context.Context, func(string)) error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received = append(r.received, push)
	return func(context.Context, func(string)) error { return nil }, nil
}

// updates gives what was received so far.
func (r *receiver) updates() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, push := range r.received {
		for _, u := range push.Updates {
			all = append(all, fmt.Sprintf("%s %.4s→%.4s", strings.TrimPrefix(u.Ref, "refs/heads/"), u.Old, u.New))
		}
	}
	return strings.Join(all, ", ")
}

type rig struct {
	*forge
	*Follower
	receiver     *receiver
	repositories *source.Repositories
	store        maru.Store
	secrets      map[string]string
	folder       string
}

func begin(t *testing.T) *rig {
	r := &rig{forge: newForge(t), receiver: &receiver{}, store: memory.New(), secrets: map[string]string{"token": password, "hook": "h00k"}, folder: t.TempDir()}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	var err error
	if r.repositories, err = source.Open(source.Config{Folder: r.folder}, log); err != nil {
		t.Fatal(err)
	}
	secret := func(_ context.Context, _ maru.Scope, name string) ([]byte, error) {
		if value, ok := r.secrets[name]; ok {
			return []byte(value), nil
		}
		return nil, maru.Errorf(maru.NotFound, "no secret %s", name)
	}
	r.Follower = New(Config{Retry: 10 * time.Millisecond}, r.store, r.repositories, r.receiver, secret, log)
	return r
}

// run follows until the test ends.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

func (r *rig) eventually(what string, is func() bool) {
	r.t.Helper()
	deadline := time.After(30 * time.Second)
	for !is() {
		select {
		case <-deadline:
			r.t.Fatalf("not in time: %s; received %s", what, r.receiver.updates())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (r *rig) following(change func(*maru.Following)) maru.Following {
	to := maru.Following{ID: shop, URL: r.URL + "/ann/shop.git", Credentials: "token", Every: time.Hour, By: "ann"}
	if change != nil {
		change(&to)
	}
	return to
}

func TestFetchedBranchesGoTheWayOfAPush(t *testing.T) {
	r := begin(t)
	one := r.commit("main", "One")
	fix := r.commit("fix", "Fix")
	to := r.following(nil)
	if err := r.Look(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if got, want := r.receiver.updates(), fmt.Sprintf("fix →%.4s, main →%.4s", fix, one); got != want {
		t.Fatalf("received %s, want %s", got, want)
	}
	if err := r.Look(t.Context(), to); err != nil || len(r.receiver.received) != 1 {
		t.Fatalf("without news: %v %d", err, len(r.receiver.received))
	}
	if by := r.receiver.received[0].By; by.Scope.App != "shop" || by.Scope.Environment != "" || by.Name != "127.0.0.1" {
		t.Errorf("it is by %+v", by)
	}
	branches, _, err := r.repositories.Branches(t.Context(), shop)
	if err != nil || branches["main"] != one || branches["fix"] != fix {
		t.Errorf("the branches are %v: %v", branches, err)
	}
	// A branch that went there goes here.
	git(t, r.work, "push", "--quiet", "--delete", "origin", "fix")
	if err := r.Look(t.Context(), to); err != nil || !strings.HasSuffix(r.receiver.updates(), fmt.Sprintf("fix %.4s→", fix)) {
		t.Fatalf("%v: %s", err, r.receiver.updates())
	}
	// One that was here before stays.
	if err := r.repositories.Move(t.Context(), shop, []maru.RefUpdate{{Ref: "refs/heads/own", New: one}}); err != nil {
		t.Fatal(err)
	}
	git(t, r.folder, "--git-dir", filepath.Join(r.folder, "repositories", "default", "shop.git"), "-c", "safe.directory=*", "update-ref", "-d", "refs/maru/followed/own")
	if err := r.Look(t.Context(), to); err != nil || strings.Contains(r.receiver.updates(), "own") {
		t.Fatalf("%v: %s", err, r.receiver.updates())
	}
	// What is protected is not rewound, and the rest goes on.
	r.receiver.protected = []string{"refs/heads/main"}
	git(t, r.work, "checkout", "--quiet", "main")
	git(t, r.work, "commit", "--quiet", "--amend", "--allow-empty", "-m", "Another history")
	other := r.commit("main", "That goes on")
	more := r.commit("more", "More")
	err = r.Look(t.Context(), to)
	if maru.KindOf(err) != maru.Denied || !strings.Contains(err.Error(), "main was rewound") || !strings.HasSuffix(r.receiver.updates(), fmt.Sprintf("more →%.4s", more)) {
		t.Errorf("%v: %s", err, r.receiver.updates())
	}
	r.receiver.protected = nil
	if err := r.Look(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if branches, _, _ := r.repositories.Branches(t.Context(), shop); branches["main"] != other {
		t.Errorf("the branches are %v", branches)
	}
}

func TestOnlySomeBranches(t *testing.T) {
	r := begin(t)
	r.commit("main", "One")
	r.commit("feature/a", "A")
	if err := r.Look(t.Context(), r.following(func(to *maru.Following) { to.Branches = []string{"feature/*"} })); err != nil {
		t.Fatal(err)
	}
	if got := r.receiver.updates(); !strings.HasPrefix(got, "feature/a ") || strings.Contains(got, "main") {
		t.Errorf("received %s", got)
	}
}

func TestWhatCanNotBeFetched(t *testing.T) {
	r := begin(t)
	r.commit("main", "One")
	for _, url := range []string{"file:///etc", "/etc", "ext::sh -c date", "ssh://git@example.com/a", "git@example.com:a", "https://ann:x@example.com/a", "https://", "http://a/b?c", "--upload-pack=date"} {
		if err := r.Look(t.Context(), r.following(func(to *maru.Following) { to.URL = url })); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", url, err)
		}
	}
	for name, c := range map[string]struct {
		change func(*maru.Following)
		kind   maru.Kind
	}{
		"no credentials": {func(to *maru.Following) { to.Credentials = "" }, maru.Denied},
		"no secret":      {func(to *maru.Following) { to.Credentials = "other" }, maru.Invalid},
		"nothing there":  {func(to *maru.Following) { to.URL = r.URL + "/ann/other.git" }, maru.NotFound},
		"nobody there":   {func(to *maru.Following) { to.URL = "http://127.0.0.1:1/a.git" }, maru.Unavailable},
	} {
		err := r.Look(t.Context(), r.following(c.change))
		if maru.KindOf(err) != c.kind || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %s: %v", name, maru.KindOf(err), err)
		}
	}
	// A server that leads elsewhere is not followed there.
	away := httptest.NewServer(http.RedirectHandler(r.URL+"/ann/shop.git/info/refs?service=git-upload-pack", http.StatusFound))
	defer away.Close()
	if err := r.Look(t.Context(), r.following(func(to *maru.Following) { to.URL = away.URL + "/ann/shop.git" })); err == nil {
		t.Error("a redirect was followed")
	}
	if got := r.receiver.updates(); got != "" {
		t.Errorf("received %s", got)
	}
}

func TestFetchIsLimited(t *testing.T) {
	r := begin(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	small, err := source.Open(source.Config{Folder: t.TempDir(), MaxPush: 64 << 10}, log)
	if err != nil {
		t.Fatal(err)
	}
	r.Follower.repositories = small
	blob := exec.Command("sh", "-c", "head -c 300000 /dev/urandom > blob")
	blob.Dir = r.work
	if err := blob.Run(); err != nil {
		t.Fatal(err)
	}
	git(t, r.work, "add", "blob")
	r.commit("main", "Large")
	if err := r.Look(t.Context(), r.following(nil)); maru.KindOf(err) != maru.Exhausted {
		t.Errorf("a repository that is too large: %v", err)
	}
}

func TestPushesAreRefusedWhileItFollows(t *testing.T) {
	r := begin(t)
	gate := Gate{r.receiver, r.Follower}
	if _, err := gate.Admit(t.Context(), maru.Push{Repository: shop}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Follow(t.Context(), r.following(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := gate.Admit(t.Context(), maru.Push{Repository: shop}); maru.KindOf(err) != maru.Denied {
		t.Errorf("a push: %v", err)
	}
	if err := r.Unfollow(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	if err := r.Unfollow(t.Context(), shop); maru.KindOf(err) != maru.NotFound {
		t.Errorf("a second time: %v", err)
	}
	if _, err := gate.Admit(t.Context(), maru.Push{Repository: shop}); err != nil {
		t.Error(err)
	}
}

func TestStatesOfCommitsAreTold(t *testing.T) {
	for _, kind := range []maru.Forge{maru.GitHub, maru.GitLab, maru.Gitea} {
		r := begin(t)
		commit := r.commit("main", "One")
		r.run()
		to, err := r.Follow(t.Context(), r.following(func(to *maru.Following) { to.Forge, to.API = kind, r.URL+"/api/"+string(kind) }))
		if err != nil {
			t.Fatal(err)
		}
		run := maru.Run{Scope: shop.In("staging"), Number: 1, Commit: commit, Phase: maru.RunBuilding, Created: to.Since.Add(time.Second)}
		put := func() {
			key := maru.Key{Kind: kindRun, Name: run.Scope.String() + "/000000001"}
			if _, err := r.store.Commit(t.Context(), maru.Change{Key: key, Data: maru.Raw(run), Expect: maru.Any}); err != nil {
				t.Fatal(err)
			}
		}
		pending, failure := "pending", "failure"
		if kind == maru.GitLab {
			pending, failure = "running", "failed"
		}
		put()
		want := "maru/staging " + pending + " building"
		r.eventually("a state that is told", func() bool { return r.states() == want })
		// While the forge is away it is tried again.
		r.forge.mu.Lock()
		r.down = true
		r.forge.mu.Unlock()
		run.Phase, run.Reason = maru.RunFailed, "web does not start\nbecause it is "+strings.Repeat("sad ", 100)
		put()
		r.forge.mu.Lock()
		r.down = false
		r.forge.mu.Unlock()
		want += "; maru/staging " + failure + " failed: web does not start"
		r.eventually("the last state", func() bool { return r.states() == want })
		r.eventually("it is known that it was told", func() bool {
			o, err := r.store.Get(t.Context(), maru.Key{Kind: kindTold, Name: run.Scope.String() + "/000000001"})
			if err != nil {
				return false
			}
			told, err := decode[state](o)
			return err == nil && told == stateOf(run)
		})
		// Who starts anew tells nothing twice.
		if _, err := r.reportAll(t.Context()); err != nil {
			t.Error(err)
		}
		if got := r.states(); got != want {
			t.Errorf("%s was told %s", kind, got)
		}
	}
}

func TestForgesAreKnownByTheirHosts(t *testing.T) {
	for _, c := range []struct {
		to    maru.Following
		forge maru.Forge
		api   string
	}{
		{maru.Following{URL: "https://github.com/a/b"}, maru.GitHub, "https://api.github.com"},
		{maru.Following{URL: "https://gitlab.com/a/b.git"}, maru.GitLab, "https://gitlab.com/api/v4"},
		{maru.Following{URL: "https://codeberg.org/a/b"}, maru.Gitea, "https://codeberg.org/api/v1"},
		{maru.Following{URL: "https://git.example.com/a/b", Forge: maru.GitHub}, maru.GitHub, "https://git.example.com/api/v3"},
		{maru.Following{URL: "https://git.example.com/a/b"}, maru.GenericForge, ""},
	} {
		c.to.Credentials = "token"
		forge, api, err := forgeOf(c.to)
		if err != nil || forge != c.forge || api != c.api {
			t.Errorf("%s: %s %s %v", c.to.URL, forge, api, err)
		}
		c.to.Credentials = ""
		if _, api, _ := forgeOf(c.to); api != "" {
			t.Errorf("%s is told something by nobody", c.to.URL)
		}
	}
	for _, to := range []maru.Following{{URL: "https://a/b", Forge: "svn"}, {URL: "https://a/b", API: "https://a"}, {URL: "https://a/b", Forge: maru.Gitea, API: "ftp://a", Credentials: "token"}} {
		if _, _, err := forgeOf(to); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%+v: %v", to, err)
		}
	}
}

// serveGit answers as git's own HTTP back end does (CGI).
func serveGit(w http.ResponseWriter, r *http.Request, program, root string) {
	cmd := exec.CommandContext(r.Context(), program)
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "PATH_INFO=" + r.URL.Path, "QUERY_STRING=" + r.URL.RawQuery,
		"REQUEST_METHOD=" + r.Method, "CONTENT_TYPE=" + r.Header.Get("Content-Type"), "GIT_PROTOCOL=" + r.Header.Get("Git-Protocol"),
		"HTTP_CONTENT_ENCODING=" + r.Header.Get("Content-Encoding"), "REMOTE_USER=ann", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	}
	cmd.Stdin = r.Body
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			_, _ = w.Write(exit.Stderr)
		}
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	head, body, _ := bytes.Cut(out, []byte("\r\n\r\n"))
	status := http.StatusOK
	for line := range strings.SplitSeq(string(head), "\r\n") {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Status" {
			_, _ = fmt.Sscan(value, &status)
			continue
		}
		w.Header().Set(name, value)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
