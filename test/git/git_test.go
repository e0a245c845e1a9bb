package git

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

func TestMain(m *testing.M) {
	inside, code := host.Enter()
	if !inside {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// compose is the app's file; what stands for VERSION is what it answers with.
const compose = `name: shop
services:
  web:
    build: .
    environment: {VERSION: "VERSION"}
    x-maru:
      route: shop.localhost
      health: /healthz
`

// clone is a person's working copy.
type clone struct {
	*host.Machine
	t    *testing.T
	dir  string
	name string // of the app
}

func begin(t *testing.T, m *host.Machine) *clone {
	t.Helper()
	binary, err := m.Build(t.Context(), "test/end-to-end/service")
	if err != nil {
		t.Fatal(err)
	}
	c := &clone{Machine: m, t: t, dir: t.TempDir(), name: "shop"}
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	c.write("service", string(data))
	c.write("Dockerfile", "FROM scratch\nCOPY --chmod=755 service /service\nENTRYPOINT [\"/service\"]\nEXPOSE 8080\n")
	c.write(".dockerignore", ".git\ncompose.yaml\n")
	c.version("one")
	c.git("init", "--quiet", "--initial-branch=main")
	c.git("add", ".")
	c.git("commit", "--quiet", "-m", "The first version")
	token := strings.TrimSpace(m.Do(t, "token", "create", "ann"))
	c.git("remote", "add", "maru", "http://ann:"+token+"@"+strings.Replace(m.HTTP, "127.0.0.1", "localhost", 1)+"/git/shop.git")
	return c
}

func (c *clone) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o755); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clone) version(version string) {
	c.t.Helper()
	c.write("compose.yaml", strings.ReplaceAll(compose, `"VERSION"`, fmt.Sprintf("%q", version)))
}

func (c *clone) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.com"}, args...)...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C", "NO_PROXY=localhost", "GIT_SSL_CAINFO="+filepath.Join(c.dir, ".git", "ca.pem"))
	return cmd
}

func (c *clone) try(args ...string) (string, error) {
	out, err := c.command(c.t.Context(), args...).CombinedOutput()
	return string(out), err
}

func (c *clone) git(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c *clone) commit(message string) string {
	c.t.Helper()
	c.git("commit", "--quiet", "--all", "-m", message)
	return strings.TrimSpace(c.git("rev-parse", "HEAD"))
}

// serves gives the version that answers; "" while none does.
func (c *clone) serves() string {
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.HTTP+"/", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	request.Host = "shop.localhost"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var who struct {
		Version string `json:"version"`
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || json.Unmarshal(body, &who) != nil {
		return ""
	}
	return who.Version
}

// asks gives the status that a host answers with; 0 when there is no answer.
func (c *clone) asks(name string) int {
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.HTTP+"/", nil)
	if err != nil {
		return 0
	}
	request.Host = name
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// runs gives the runs as the command line shows them, newest first.
func (c *clone) runs(args ...string) []run {
	c.t.Helper()
	var list struct {
		Runs []run `json:"runs"`
	}
	if err := json.Unmarshal([]byte(c.Do(c.t, append([]string{"runs", "--app", "shop", "-o", "json"}, args...)...)), &list); err != nil {
		c.t.Fatal(err)
	}
	return list.Runs
}

type run struct {
	Number     int    `json:"number"`
	Phase      string `json:"phase"`
	Commit     string `json:"commit"`
	Branch     string `json:"branch"`
	By         string `json:"by"`
	Message    string `json:"message"`
	Reason     string `json:"reason"`
	Of         int    `json:"of"`
	Rollout    int    `json:"rollout"`
	ApprovedBy string `json:"approvedBy"`
}

func shows(t *testing.T, out string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(out, want) {
			t.Errorf("it does not show %q:\n%s", want, out)
		}
	}
}

func TestPushDeploys(t *testing.T) {
	const door = "127.0.0.1:2222" // of SSH, in a network of the test's own
	c := begin(t, host.Start(t, "MARU_SSH="+door))
	first := strings.TrimSpace(c.git("rev-parse", "HEAD"))
	out := c.git("push", "maru", "main")
	t.Logf("the first push:\n%s", out)
	shows(t, out, "remote: run 1 of shop: "+first[:12], "remote: web: build", "COPY --chmod=755 service /service", "remote: web: http://shop.localhost", "remote: rollout 1 is serving", "main -> main")
	if got := c.serves(); got != "one" {
		t.Fatalf("%q serves", got)
	}
	var list struct {
		Releases []struct{ Source, By, Message string } `json:"releases"`
	}
	if err := json.Unmarshal([]byte(c.Do(t, "releases", "--app", "shop", "--service", "web", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if r := list.Releases; len(r) != 1 || r[0].Source != first || r[0].By != "ann" || r[0].Message != "The first version" {
		t.Errorf("the release is %+v", list.Releases)
	}

	// The same files again: nothing is built, and nothing restarts.
	c.git("commit", "--quiet", "--allow-empty", "-m", "Nothing")
	out = c.git("push", "maru", "main")
	shows(t, out, "nothing changed: shop runs this already")

	// Another branch does nothing, and says so.
	out = c.git("push", "maru", "main:fix")
	shows(t, out, "remote: fix is kept. It is deployed nowhere")

	// A release that never gets ready is taken back, and the push fails.
	bad := strings.ReplaceAll(compose, `VERSION: "VERSION"`, `VERSION: bad, READY_AFTER: never`)
	c.write("compose.yaml", bad+"      rollout: {deadline: 3s}\n")
	badOne := c.commit("A bad one")
	out, err := c.try("push", "maru", "main")
	t.Logf("the bad push:\n%s", out)
	if err == nil {
		t.Error("a push whose rollout was taken back exits with 0")
	}
	shows(t, out, "remote: run 3 of shop was taken back", "the cache is not warm")
	shows(t, c.git("ls-remote", "maru", "main"), badOne) // git may give up before it shows that
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}
	if all := c.runs(); len(all) != 3 || all[0].Phase != "rolled-back" || all[1].Phase != "succeeded" || all[2].Phase != "succeeded" || all[2].By != "ann" {
		t.Errorf("the runs are %+v", all)
	}

	// So does one whose file is wrong, at its place.
	c.write("compose.yaml", "name: shop\nservices:\n  web:\n    imaje: x\n")
	c.commit("A wrong one")
	out, err = c.try("push", "maru", "main")
	if err == nil {
		t.Error("a push whose file is wrong exits with 0")
	}
	shows(t, out, "compose.yaml:4:5", "run 4 of shop failed")

	// A retry of what was good.
	c.Do(t, "runs", "retry", "1", "--app", "shop")
	log := c.Do(t, "runs", "logs", "--follow", "--app", "shop")
	shows(t, log, "run 5 of shop: "+first[:12])
	if all := c.runs(); all[0].Of != 1 || all[0].Phase != "succeeded" {
		t.Errorf("the retry is %+v", all[0])
	}
	c.version("two")
	c.commit("Two")
	c.git("push", "maru", "main")
	if got := c.serves(); got != "two" {
		t.Errorf("%q serves", got)
	}
	// The same by TLS, at the gateway and at the API, which speaks HTTP/2.
	c.write(".git/ca.pem", c.Do(t, "trust", "--print"))
	for _, door := range []string{c.HTTPS, c.API} {
		remote := strings.Replace(strings.TrimSpace(c.git("remote", "get-url", "maru")), "http://", "https://", 1)
		remote = strings.Replace(remote, strings.Replace(c.HTTP, "127.0.0.1", "localhost", 1), strings.Replace(door, "127.0.0.1", "localhost", 1), 1)
		c.git("commit", "--quiet", "--allow-empty", "-m", "By "+door)
		shows(t, c.git("push", remote, "main"), "nothing changed")
	}
	c.git("commit", "--quiet", "--allow-empty", "-m", "By SSH")
	c.useKey("bob")
	shows(t, c.git("push", "ssh://git@"+door+"/shop.git", "main"), "nothing changed")
	if last := c.runs()[0]; last.By != "bob" {
		t.Errorf("the run of a push by SSH is %+v", last)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	c.git("clone", "--quiet", strings.TrimSpace(c.git("remote", "get-url", "maru")), clone)
}

// useKey makes a token with an SSH key, and has git use that.
func (c *clone) useKey(token string) {
	c.t.Helper()
	key := filepath.Join(c.t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	c.Do(c.t, "token", "create", token, "--ssh-key", key+".pub")
	c.git("config", "core.sshCommand", "ssh -F none -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile="+key+".known -i "+key)
}

func TestEnvironmentsAndApproval(t *testing.T) {
	c := begin(t, host.Start(t))
	environments := `x-maru:
  environments:
    production: {branch: main, deploy: manual}
    staging: {branch: develop}
    preview: {branch: "try/*"}
`
	file := strings.ReplaceAll(compose, `"VERSION"`, `"${GREETING:?}"`) + environments
	file = strings.ReplaceAll(file, "shop.localhost", `${HOST:-shop}.localhost`)
	c.write("compose.yaml", file)
	c.commit("Environments")
	c.Do(t, "env", "set", "GREETING=hello", "--app", "shop")
	out := c.git("push", "maru", "main")
	shows(t, out, "remote: run 1 of shop waits for approval: maru approve 1 --env production")
	if all := c.runs(); len(all) != 1 || all[0].Phase != "waiting" {
		t.Fatalf("the runs are %+v", all)
	}
	// A newer one takes the place of one that waits.
	c.git("commit", "--quiet", "--allow-empty", "-m", "Newer")
	c.git("push", "maru", "main")
	if all := c.runs(); len(all) != 2 || all[0].Phase != "waiting" || all[1].Phase != "superseded" {
		t.Fatalf("the runs are %+v", all)
	}
	c.Do(t, "approve", "--app", "shop")
	shows(t, c.Do(t, "runs", "logs", "--follow", "--app", "shop"), "approved by ", "is serving")
	if all := c.runs(); all[0].ApprovedBy == "" || all[0].Phase != "succeeded" {
		t.Errorf("the run is %+v", all[0])
	}
	if got := c.serves(); got != "hello" {
		t.Errorf("%q serves", got)
	}
	// A value that is missing fails the run of that environment alone.
	out, err := c.try("push", "maru", "main:develop")
	if err == nil {
		t.Error("a push without a needed value exits with 0")
	}
	shows(t, out, "the variable GREETING is required")
	for _, environment := range []string{"staging", "preview-try-x"} {
		c.Do(t, "env", "set", "GREETING=hello", "HOST="+environment, "--app", "shop", "--env", environment)
	}
	c.Do(t, "runs", "retry", "--app", "shop", "--env", "staging")
	c.Do(t, "runs", "logs", "--follow", "--app", "shop", "--env", "staging")
	// The name of a branch with a slash is told apart from others by a digest.
	out, _ = c.try("push", "maru", "main:try/x")
	shows(t, out, "goes to preview-try-x-")
	// Only what a token is for: neither the environment nor a branch that goes to another.
	token := strings.TrimSpace(c.Do(t, "token", "create", "stage", "--app", "shop", "--env", "staging"))
	remote := "http://x:" + token + "@" + c.HTTP + "/git/shop.git"
	out, err = c.try("push", remote, "HEAD:main", "-o", "skip")
	if err != nil || !strings.Contains(out, "up-to-date") {
		t.Errorf("a push without a change: %v\n%s", err, out)
	}
	c.git("commit", "--quiet", "--allow-empty", "-m", "Newest")
	out, err = c.try("push", remote, "HEAD:main")
	if err == nil {
		t.Error("a token for staging pushed what goes to production")
	}
	shows(t, out, "the token stage may not deploy to production")
	shows(t, c.git("push", remote, "HEAD:develop"), "nothing changed")
	shows(t, c.git("push", "-o", "skip", "maru", "HEAD:develop", "HEAD:main"), "main is kept, and nothing follows from it")
	out, err = c.try("push", "--force", "maru", "HEAD~2:main")
	if err == nil {
		t.Error("the default branch was rewound")
	}
	shows(t, out, "refs/heads/main is protected")
}

// TestKill ends the server without warning at many moments of a push. Afterwards the repository is whole, and
// there is exactly one run for each commit that arrived, which comes to its end by itself.
func TestKill(t *testing.T) {
	c := begin(t, host.Start(t))
	c.git("push", "maru", "main")
	pushed := map[string]bool{}
	for i, moment := range []string{"", "is queued", "goes to", "build started", "build done", "rollout ", "starting", "succeeded"} {
		c.version(fmt.Sprintf("round %d", i))
		commit := c.commit(fmt.Sprint("Round ", i))
		pushed[commit] = true
		c.pushUntil(moment)
		// Whoever pushes again gets to the end, whether the ref was moved or not.
		host.Eventually(t, time.Minute, "a push after the server was killed", func() bool {
			_, err := c.try("push", "maru", "main")
			return err == nil
		})
		if !host.Wait(t.Context(), time.Minute, func() bool { return c.serves() == fmt.Sprint("round ", i) }) {
			t.Fatalf("round %d does not serve; the runs are %+v\n%s", i, c.runs(), c.Do(t, "runs", "logs", "--app", "shop"))
		}
	}
	host.Eventually(t, time.Minute, "all runs are over", func() bool {
		for _, r := range c.runs() {
			if r.Phase != "succeeded" {
				return false
			}
		}
		return true
	})
	seen := map[string]int{}
	for _, r := range c.runs() {
		seen[r.Commit]++
		if r.By != "ann" {
			t.Errorf("run %d is by %q", r.Number, r.By)
		}
	}
	for commit := range pushed {
		if seen[commit] != 1 {
			t.Errorf("commit %.12s has %d runs", commit, seen[commit])
		}
	}
	c.whole()
}

// pushUntil pushes main, and kills the server once the push says something.
func (c *clone) pushUntil(moment string) {
	c.t.Helper()
	push := c.command(c.t.Context(), "push", "maru", "main")
	said, err := push.StderrPipe()
	if err == nil {
		err = push.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for moment != "" && lines.Scan() && !strings.Contains(lines.Text(), moment) {
	}
	c.killServer()
	_, _ = io.Copy(io.Discard, said)
	_ = push.Wait()
}

func (c *clone) killServer() {
	c.t.Helper()
	if _, err := c.Kill("server"); err != nil {
		c.t.Fatal(err)
	}
}

// repository is where the server keeps the app's.
func (c *clone) repository() string {
	return filepath.Join(c.Layout.ServerData(), "git", "repositories", "default", "shop.git")
}

// whole has git look at all of the server's repository.
func (c *clone) whole() {
	c.t.Helper()
	if out, err := exec.Command("git", "-c", "safe.directory=*", "--git-dir", c.repository(), "fsck", "--full", "--strict").CombinedOutput(); err != nil {
		c.t.Errorf("fsck: %v\n%s", err, out)
	}
}
