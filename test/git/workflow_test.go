package git

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/marucloud/maru/test/host"
	"github.com/marucloud/maru/test/images"
)

// tested is a clone of an app whose jobs have an image of this host's programs.
func tested(t *testing.T) *clone {
	t.Helper()
	m := host.Start(t, "MARU_JOB_IMAGE=ubuntu-latest=docker.io/test/job:1")
	image, err := images.OfHost(images.JobPrograms, nil, v1.Config{Cmd: []string{"sh"}})
	if err != nil {
		t.Fatal(err)
	}
	archive, tag := filepath.Join(t.TempDir(), "job.tar"), name.MustParseReference("docker.io/test/job:1")
	if err := tarball.WriteToFile(archive, tag, image); err != nil {
		t.Fatal(err)
	}
	m.Do(t, "image", "load", archive)
	c := begin(t, m)
	if err := os.MkdirAll(filepath.Join(c.dir, ".maru", "workflows"), 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

// workflow commits a workflow.
func (c *clone) workflow(text string) string {
	c.t.Helper()
	c.write(".maru/workflows/test.yml", text)
	c.git("add", ".")
	c.git("commit", "--quiet", "--allow-empty", "-m", "Test it")
	return strings.TrimSpace(c.git("rev-parse", "HEAD"))
}

// job is a workflow of one job, with a script.
func job(script string) string {
	return "name: test\non: push\njobs:\n  unit:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - run: |\n" + indented(script, 10)
}

func indented(script string, n int) string {
	var out strings.Builder
	for line := range strings.Lines(strings.TrimSpace(script) + "\n") {
		out.WriteString(strings.Repeat(" ", n) + strings.TrimSpace(line) + "\n")
	}
	return out.String()
}

func (c *clone) logs() string { return c.Do(c.t, "runs", "logs", "--app", "shop") }

// TestWorkflowsComeBeforeADeploy: a push whose tests fail says which and deploys nothing, and one that corrects
// them is deployed. What succeeded is not run again by a retry.
func TestWorkflowsComeBeforeADeploy(t *testing.T) {
	c := tested(t)
	c.workflow(`
name: test
on: {push: {branches: [main]}}
jobs:
  prepare:
    runs-on: ubuntu-latest
    outputs: {word: "${{ steps.word.outputs.word }}"}
    steps:
      - id: word
        run: echo preparing; echo word=tea >> $GITHUB_OUTPUT; echo leaf > leaf
      - uses: actions/upload-artifact@v4
        with: {name: leaf, path: leaf}
  unit:
    needs: prepare
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/download-artifact@v4
        with: {name: leaf}
      - run: |
          grep one compose.yaml
          echo "${{ needs.prepare.outputs.word }} $(cat leaf) attempt ${{ github.run_attempt }}"
          [ ${{ github.run_attempt }} -gt 1 ] || { echo "--- FAIL: TestTea (0.1s)"; echo "    tea_test.go:7: cold"; exit 1; }
`)
	out, err := c.try("push", "maru", "main")
	if err == nil {
		t.Error("the push succeeded")
	}
	shows(t, out, "remote: unit: job started", `unit |     environment: {VERSION: "one"}`, "unit | tea leaf attempt 1", "tests: 0 passed, 1 failed", "failed: TestTea at tea_test.go:7", "error: the tests failed: job unit")
	if strings.Contains(out, "web: build") || c.serves() != "" {
		t.Errorf("it was deployed all the same:\n%s", out)
	}
	c.Do(t, "runs", "retry", "--app", "shop")
	log := c.Do(t, "runs", "logs", "--follow", "--app", "shop")
	shows(t, log, "jobs that succeeded before are not run again", "unit | tea leaf attempt 2", "unit: job ended: success", "rollout 1 is serving")
	if strings.Contains(log, "preparing") {
		t.Errorf("what succeeded was run again:\n%s", log)
	}
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}
	if runs := c.runs(); len(runs) != 2 || runs[0].Phase != "succeeded" || runs[1].Phase != "failed" || runs[1].Reason != "the tests failed: job unit" {
		t.Errorf("%+v", runs)
	}
	// Where the app says so nothing is tested.
	c.write("compose.yaml", strings.ReplaceAll(compose, `"VERSION"`, "two")+"x-maru: {ci: none}\n")
	c.commit("No tests")
	shows(t, c.git("push", "maru", "main"), "nothing is tested before the deploy, as x-maru.ci says", "is serving")
	// And where there are none they are looked for.
	c.write("go.mod", "module example.com/shop\n\ngo 1.26\n")
	c.version("three")
	c.git("rm", "--quiet", "-r", ".maru")
	c.git("add", ".")
	c.commit("No workflow")
	shows(t, c.git("push", "maru", "main"), "no workflow in .maru/workflows, and no tests of Go: nothing is tested before the deploy", "is serving")
	// Those of the other folder run where the app says so.
	c.write("compose.yaml", strings.ReplaceAll(compose, `"VERSION"`, "three")+"x-maru: {ci: github}\n")
	if err := os.MkdirAll(filepath.Join(c.dir, ".github", "workflows"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.write(".github/workflows/test.yml", job("echo from there"))
	c.git("add", ".")
	c.commit("GitHub's")
	shows(t, c.git("push", "maru", "main"), "unit | from there", "nothing changed: shop runs this already")
	// That an image is out of reach says nothing of the commit.
	c.write("main_test.go", "package main\n")
	c.version("four")
	c.git("add", ".")
	c.commit("A test")
	shows(t, c.git("push", "maru", "main"), "note: the workflows of .github/workflows are run once the app says x-maru: {ci: github}", "the tests of Go are run", "warning: the tests are not run: image golang:1.26", "is serving")
}

// TestWhoseSecrets: jobs have the workflows' secrets on branches that are protected alone, and they are masked.
func TestWhoseSecrets(t *testing.T) {
	c := tested(t)
	const secret = "pl&a in/fi rst\nsecond-line"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Do(t, "secret", "set", "--ci", "deploy_key", "--app", "shop", "--from", file)
	for _, environment := range []string{"production", "preview-try-x"} {
		c.Do(t, "env", "set", "--ci", "LEVEL=of-"+environment, "--app", "shop", "--env", environment)
	}
	c.Do(t, "secret", "set", "--ci", "preview_key", "--app", "shop", "--env", "preview-try-x", "--from", file)
	if list := c.Do(t, "secret", "ls", "--ci", "--app", "shop"); !strings.Contains(list, "DEPLOY_KEY") || strings.Contains(c.Do(t, "secret", "ls", "--app", "shop"), "DEPLOY_KEY") {
		t.Errorf("the secrets are\n%s", list)
	}
	c.write("compose.yaml", strings.ReplaceAll(compose, `"VERSION"`, "one")+"x-maru: {environments: {production: {branch: main}, preview: {branch: 'try*'}}}\n")
	c.workflow(`
name: test
on: push
jobs:
  unit:
    runs-on: ubuntu-latest
    env: {KEY: "${{ secrets.DEPLOY_KEY }}${{ secrets.PREVIEW_KEY }}"}
    steps:
      - run: |
          echo "length ${#KEY} level ${{ vars.LEVEL }} protected ${{ github.ref_protected }}"
          echo "$KEY"
          echo "$KEY" | base64 -w 0; echo
          printf 'x%s' "$KEY" | base64 -w 0; echo
          echo '` + url.QueryEscape(secret) + `' '` + url.PathEscape(secret) + `'
          echo "second-line alone"
          echo "::error::it is $KEY"
          echo "out=$(printf %s "$KEY" | head -1)" >> $GITHUB_OUTPUT
`)
	out := c.git("push", "maru", "main")
	shows(t, out, fmt.Sprintf("length %d level of-production protected true", len(secret)), "*** alone")
	for _, form := range []string{"pl&a", "second-line", url.QueryEscape("pl&a in/fi rst"), base64.StdEncoding.EncodeToString([]byte(secret))[:20], base64.StdEncoding.EncodeToString([]byte("x" + secret))[4:24]} {
		if log := c.logs(); strings.Contains(log, form) {
			t.Errorf("the log shows %q:\n%s", form, log)
		}
	}
	out, err := c.try("push", "maru", "main:try-x")
	t.Logf("%v\n%s", err, out)
	shows(t, out, "length 0 level of-preview-try-x protected false")
}

// TestWhatAJobCannotDo pushes to a branch that is not protected a job that tries.
func TestWhatAJobCannotDo(t *testing.T) {
	c := tested(t)
	c.LoadImage(t)
	c.Deploy(t, "name: victim\nservices:\n  web:\n    image: "+host.Image+"\n    x-maru: {route: victim.localhost, health: /healthz}\n")
	var addresses []string
	status := c.Do(t, "status", "--app", "victim", "-o", "json")
	for _, word := range strings.FieldsFunc(status, func(r rune) bool { return strings.ContainsRune("\" ,[]{}\n", r) }) {
		if ip := net.ParseIP(word); ip != nil && ip.To4() != nil && !ip.IsLoopback() && !slices.Contains(addresses, word) {
			addresses = append(addresses, word)
		}
	}
	if len(addresses) == 0 {
		t.Fatalf("the neighbour has no address: %s", status)
	}
	_, api, _ := net.SplitHostPort(c.API)
	_, gateway, _ := net.SplitHostPort(c.HTTP)
	marker := filepath.Join(c.Layout.Data, "marker")
	if err := os.WriteFile(marker, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `
reach() { (exec 3<>/dev/tcp/$1/$2) 2>/dev/null & pid=$!; for i in 1 2 3 4 5 6 7 8; do kill -0 $pid 2>/dev/null || break; sleep 0.1; done; if kill -9 $pid 2>/dev/null; then return 1; fi; wait $pid; }
bad() { echo "COULD: $*"; }
for a in ` + strings.Join(addresses, " ") + `; do reach $a 8080 && bad reach the neighbour at $a; done
reach db 8080 && echo "it reaches its own service"
for n in web.victim.internal web victim; do reach $n 8080 && bad resolve $n; done
hex=$(sed -n 's/^[^\t]*\t00000000\t\([0-9A-F]*\)\t.*/\1/p' /proc/net/route | head -1)
router=$((16#${hex:6:2})).$((16#${hex:4:2})).$((16#${hex:2:2})).$((16#${hex:0:2}))
echo "the router is $router"
for a in 127.0.0.1 $router; do for p in ` + api + ` ` + gateway + `; do reach $a $p && bad reach the API at $a:$p; done; done
ls ` + marker + ` 2>/dev/null && bad see the host
cat /proc/1/root` + marker + ` 2>/dev/null && bad see the host by its first process
find / -xdev -type s 2>/dev/null | grep . && bad find a socket
ls /dev/vda /dev/sda /dev/mem /dev/kmsg 2>/dev/null && bad see devices
(echo h > /proc/sys/kernel/hostname) 2>/dev/null && bad write to the kernel
(echo 1 > /proc/sysrq-trigger) 2>/dev/null && bad press keys
ls /maru/workspace/other /tmp/other ~/other 2>/dev/null && bad see the files of the other job
echo "TOKEN [${GITHUB_TOKEN}] [${{ secrets.GITHUB_TOKEN }}] [${{ secrets.KEY }}]"
env | grep -v '^MARU_IMAGES=' | grep -i -E 'maru_|socket' && bad see the platform in the environment
echo tried
`
	c.Do(t, "secret", "set", "--ci", "KEY", "--app", "shop", "--env", "preview-try", "--from", marker)
	c.write("compose.yaml", strings.ReplaceAll(compose, `"VERSION"`, "one")+"x-maru: {environments: {production: {branch: main}, preview: {branch: 'try*'}}}\n")
	c.commit("Previews")
	c.git("push", "-o", "skip", "maru", "main")
	c.git("checkout", "--quiet", "-b", "try")
	c.workflow(`
name: test
on: push
jobs:
  other:
    runs-on: ubuntu-latest
    steps:
      - run: echo mine > other; echo mine > /tmp/other; echo mine > ~/other
  unit:
    needs: other
    runs-on: ubuntu-latest
    services: {db: {image: "` + host.Image + `", ports: [8080]}}
    steps:
      - shell: bash --noprofile --norc {0}
        run: |
` + indented(script, 10))
	out, err := c.try("push", "maru", "try")
	t.Logf("%v\n%s", err, out)
	shows(t, out, "unit | tried", "TOKEN [] [] []", "the router is ", "it reaches its own service")
	if strings.Contains(out, "COULD") {
		t.Error("a job could do what it must not")
	}
	// A fork bomb ends with its job, and the neighbour answers meanwhile.
	c.workflow(strings.ReplaceAll(job(`
bomb() { bomb | bomb & }
bomb
sleep 60
`), "    steps:", "    container: {image: 'docker.io/test/job:1', options: --cpus 0.5}\n    timeout-minutes: 0.1\n    steps:"))
	pushed := make(chan string, 1)
	go func() {
		out, _ := c.try("push", "maru", "try")
		pushed <- out
	}()
	answered, slowest := 0, time.Duration(0)
	for bombed := false; !bombed; {
		select {
		case out := <-pushed:
			shows(t, out, "it did not end in 6s")
			bombed = true
		case <-time.After(50 * time.Millisecond):
			began := time.Now()
			if code := c.asks("victim.localhost"); code != 200 {
				t.Errorf("the neighbour answers %d", code)
			}
			answered, slowest = answered+1, max(slowest, time.Since(began))
		}
	}
	t.Logf("%d answers of the neighbour meanwhile, the slowest after %s", answered, slowest)
	if left := strings.TrimSpace(c.Do(t, "ps", "--all", "-o", "json")); strings.Contains(left, "jobs") {
		t.Errorf("a job is left: %s", left)
	}
}

// TestKillWhileTesting ends the server in the middle of a job. The next one runs again what was under way, and
// nothing else.
func TestKillWhileTesting(t *testing.T) {
	c := tested(t)
	c.workflow(`
name: test
on: push
jobs:
  first:
    runs-on: ubuntu-latest
    steps:
      - run: echo first was here
  second:
    needs: first
    runs-on: ubuntu-latest
    steps:
      - id: been
        continue-on-error: true
        uses: actions/download-artifact@v4
        with: {name: been}
      - run: echo was here > been
      - uses: actions/upload-artifact@v4
        with: {name: been, path: been, overwrite: true}
      - run: echo second began; [ ${{ steps.been.outcome }} = success ] || sleep 600; echo second ended
`)
	push := c.command(t.Context(), "push", "maru", "main")
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	host.Eventually(t, time.Minute, "the second job is at work", func() bool {
		out, err := c.Run(t.Context(), "runs", "logs", "--app", "shop")
		return err == nil && strings.Contains(out.Out, "| second began")
	})
	c.killServer()
	_ = push.Wait()
	host.Eventually(t, 2*time.Minute, "the run succeeded", func() bool {
		out, err := c.Run(t.Context(), "runs", "--app", "shop", "-o", "json")
		return err == nil && strings.Contains(out.Out, `"succeeded"`)
	})
	log := c.logs()
	t.Log(log)
	shows(t, log, "the server was restarted: the run begins again", "second | second ended", "rollout 1 is serving")
	for line, want := range map[string]int{"first was here": 1, "second began": 2, "second ended": 1} {
		if n := strings.Count(log, "| "+line); n != want {
			t.Errorf("%q %d times, want %d", line, n, want)
		}
	}
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}
}

// TestImageOfAJob: what a job hands over by its digest runs, and nothing is built.
func TestImageOfAJob(t *testing.T) {
	c := tested(t)
	registry := strings.Replace(c.HTTP, "127.0.0.1", "localhost", 1)
	digest := c.push(registry+"/shop/web:1", "test/end-to-end/service")
	c.write("Dockerfile", "FROM scratch\nCOPY this-is-not-there /\n")
	c.workflow(job(`echo "web=` + registry + `/shop/web@` + digest + `" >> "$MARU_IMAGES"`))
	out, err := c.try("push", "maru", "main")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shows(t, out, "web: the image is "+registry+"/shop/web@"+digest+", which a job handed over", "rollout 1 is serving")
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}
	if strings.Contains(out, "build started") {
		t.Errorf("something was built:\n%s", out)
	}
	c.version("two")
	c.workflow(job(`echo "web=` + registry + `/other/web@` + digest + `" >> "$MARU_IMAGES"`))
	if out, err := c.try("push", "maru", "main"); err == nil || !strings.Contains(out, "error: ") {
		t.Errorf("an image of another app: %v\n%s", err, out)
	}
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}
}

// TestImageBuiltByAJob: a job has an image built, without Docker, tries it as an action, and hands it over.
func TestImageBuiltByAJob(t *testing.T) {
	c := tested(t)
	c.workflow(`name: test
on: push
jobs:
  image:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: docker/build-push-action@v6
        id: build
        with: {context: ., build-args: "A=b"}
      - uses: ./.maru/actions/tool
        id: tool
      - run: echo "the tool says ${{ steps.tool.outputs.said }}, and $(cat left)"
      - run: echo "web=jobs.maru.internal/${{ github.repository }}@${{ steps.build.outputs.digest }}" >> "$MARU_IMAGES"
`)
	binary, err := c.Build(t.Context(), "test/git/tool")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.dir, ".maru", "actions", "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.write(".maru/actions/tool/tool", string(data))
	c.write(".maru/actions/tool/Dockerfile", "FROM scratch\nCOPY tool /tool\nENTRYPOINT [\"/tool\"]\n")
	c.write(".maru/actions/tool/action.yml", "name: tool\ninputs: {word: {default: tea}}\nruns: {using: docker, image: Dockerfile, args: ['${{ inputs.word }}']}\n")
	c.git("add", ".")
	c.git("commit", "--quiet", "-m", "A tool")
	out, err := c.try("push", "maru", "main")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shows(t, out, "the tool says tea in /maru/workspace with Dockerfile, and it was here", "web: the image is jobs.maru.internal/default/shop@sha256:", "rollout 1 is serving")
	if strings.Contains(out, "web: build") {
		t.Errorf("the app was built:\n%s", out)
	}
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}
}

// push puts an image of a Go program of the checkout into the registry, and gives its digest.
func (c *clone) push(tag, program string) string {
	c.t.Helper()
	archive, err := c.Archive(c.t.Context(), tag, program)
	if err != nil {
		c.t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		c.t.Fatal(err)
	}
	token := strings.TrimSpace(c.Do(c.t, "token", "create", "pusher"))
	reference, err := name.ParseReference(tag)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := remote.Write(reference, image, remote.WithAuth(&authn.Basic{Username: "ann", Password: token}), remote.WithContext(c.t.Context())); err != nil {
		c.t.Fatal(err)
	}
	return digest.String()
}

// TestSupersede: a push cancels the run before it where the workflow says so, and people do at any time.
func TestSupersede(t *testing.T) {
	c := tested(t)
	sleeping := job(`echo begun; [ "$(cat wait 2>/dev/null)" != long ] || sleep 300`)
	c.write("wait", "long\n")
	c.workflow("concurrency: {group: \"${{ github.ref }}\", cancel-in-progress: true}\n" + sleeping)
	first := make(chan string, 1)
	go func() {
		out, _ := c.try("push", "maru", "main")
		first <- out
	}()
	begun := func(number string) {
		host.Eventually(t, time.Minute, "run "+number+" is at work", func() bool {
			out, err := c.Run(t.Context(), "runs", "logs", number, "--app", "shop")
			return err == nil && strings.Contains(out.Out, "| begun")
		})
	}
	begun("1")
	c.write("wait", "short\n")
	c.commit("Faster")
	out := c.git("push", "maru", "main")
	shows(t, out, "rollout 1 is serving")
	shows(t, <-first, "run 1 of shop was given up: run 2 is newer, and the workflows say that it cancels this one")
	c.write("wait", "long\n")
	c.commit("Slower")
	go func() {
		out, _ := c.try("push", "maru", "main")
		first <- out
	}()
	begun("3")
	c.Do(t, "runs", "cancel", "--app", "shop")
	shows(t, <-first, "run 3 of shop was cancelled: by ")
	if runs := c.runs(); len(runs) != 3 || runs[0].Phase != "cancelled" || runs[1].Phase != "succeeded" || runs[2].Phase != "superseded" {
		t.Errorf("%+v", runs)
	}
}

// TestFirstStep measures how long a job's first step takes to begin from when its run was queued. The time is held
// to the bar where times are (MARU_TIMINGS).
func TestFirstStep(t *testing.T) {
	const bar = 500 * time.Millisecond
	c := tested(t)
	c.workflow(job("echo begun"))
	c.git("push", "maru", "main")
	var took []time.Duration
	for range 7 {
		c.Do(t, "runs", "retry", "--all", "--app", "shop")
		c.Do(t, "runs", "logs", "--follow", "--app", "shop")
		var list struct {
			Runs []struct {
				Created time.Time `json:"created"`
			} `json:"runs"`
		}
		if err := json.Unmarshal([]byte(c.Do(t, "runs", "--app", "shop", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(c.Do(t, "runs", "logs", "--app", "shop", "-o", "json")) {
			var m struct {
				Line struct {
					Time time.Time `json:"time"`
					Text string    `json:"text"`
				} `json:"line"`
			}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(m.Line.Text, "step ") {
				took = append(took, m.Line.Time.Sub(list.Runs[0].Created))
				break
			}
		}
	}
	slices.Sort(took)
	t.Logf("from queued to the first step: %s", took)
	if len(took) != 7 {
		t.Fatalf("%d runs had a step", len(took))
	}
	if median := took[len(took)/2]; os.Getenv("MARU_TIMINGS") != "" && median > bar {
		t.Errorf("the median is %s, and should be %s at most", median, bar)
	}
}
