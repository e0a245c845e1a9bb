package git

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

// notes is an app with a database that a preview has a copy of its own of.
const notes = `name: shop
services:
  db:
    build: .
    command: [store]
    expose: ["8080"]
    volumes: ["data:/data"]
    x-maru: {health: /}
  web:
    build: .
    depends_on: {db: {condition: service_healthy}}
    environment: {VERSION: "VERSION", DOMAIN: "${MARU_DOMAIN:-none}"}
    secrets: [key]
    x-maru:
      route: shop.localhost
      health: /healthz
      seed: [/notes, write, seeded]
secrets: {key: {external: true}}
volumes: {data: }
`

const previews = `x-maru:
  environments:
    production: {branch: main}
    preview: {branch: "*", domain: "*.preview.localhost", ttl: 72h, limit: 2}
    short: {branch: "short/*", domain: "*.short.localhost", ttl: 8s}
`

// beginNotes is a working copy of the app of notes, with a token that may deploy it everywhere.
func beginNotes(t *testing.T, m *host.Machine, file string) *clone {
	t.Helper()
	binary, err := m.Build(t.Context(), "test/git/notes")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	c := &clone{Machine: m, t: t, dir: t.TempDir(), name: "shop"}
	c.write("notes", string(data))
	c.write("Dockerfile", "FROM scratch\nCOPY --chmod=755 notes /notes\nENTRYPOINT [\"/notes\"]\nEXPOSE 8080\n")
	c.write(".dockerignore", ".git\ncompose.yaml\n")
	c.write("compose.yaml", file)
	c.git("init", "--quiet", "--initial-branch=main")
	c.git("add", ".")
	c.git("commit", "--quiet", "-m", "The first version")
	token := strings.TrimSpace(m.Do(t, "token", "create", "ann", "--app", "shop"))
	c.git("remote", "add", "maru", "http://ann:"+token+"@"+strings.Replace(m.HTTP, "127.0.0.1", "localhost", 1)+"/git/shop.git")
	return c
}

func versioned(file, version string) string {
	return strings.ReplaceAll(file, `"VERSION"`, fmt.Sprintf("%q", version))
}

// page is what the app shows at a host.
type page struct {
	Notes                []string
	Version, Domain, Key string
}

func (p page) String() string {
	return fmt.Sprintf("%s at %s with %s: %s", p.Version, p.Domain, p.Key, strings.Join(p.Notes, ", "))
}

// at gives what the app shows at a host; an answer that is not its own gives the status.
func (c *clone) at(host string) (p page, status int) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.HTTP+"/", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return p, 0
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, &p)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return p, response.StatusCode
}

// environment is as the command line shows it.
type environment struct {
	Scope     struct{ Environment string }
	State     string
	Addresses []string
	Preview   struct{ Of, Branch, Created, Expires, Leaving string }
}

func (c *clone) environments() map[string]environment {
	c.t.Helper()
	var list struct{ Environments []environment }
	if err := json.Unmarshal([]byte(c.Do(c.t, "env", "--app", "shop", "-o", "json")), &list); err != nil {
		c.t.Fatal(err)
	}
	all := map[string]environment{}
	for _, e := range list.Environments {
		all[e.Scope.Environment] = e
	}
	return all
}

// of gives the name of the environment that a branch has.
func (c *clone) of(branch string) string {
	c.t.Helper()
	for name, e := range c.environments() {
		if e.Preview.Branch == branch {
			return name
		}
	}
	return ""
}

func (c *clone) setSecret(name, value, environment string) {
	c.t.Helper()
	cmd := c.Command(c.t.Context(), "secret", "set", name, "--app", "shop", "--env", environment)
	cmd.Stdin = strings.NewReader(value)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("secret set: %v\n%s", err, out)
	}
}

// within fails when something takes longer than a person is to wait.
func within(t *testing.T, what string, limit time.Duration, began time.Time) {
	t.Helper()
	took := time.Since(began).Round(10 * time.Millisecond)
	t.Logf("%s: %s", what, took)
	if took > limit && os.Getenv("MARU_TIMES") != "" {
		t.Errorf("%s took %s; it may take %s", what, took, limit)
	}
}

func TestPreviews(t *testing.T) {
	c := beginNotes(t, host.Start(t), versioned(notes+previews, "one"))
	c.setSecret("key", "for production", "production")
	c.git("push", "maru", "main")
	if p, _ := c.at("shop.localhost"); p.String() != "one at none with for production: " {
		t.Fatalf("production shows %s", p)
	}

	// A branch gets no secret of production.
	out, err := c.try("push", "maru", "main:fix/One")
	if err == nil {
		t.Error("a preview got a secret that was not set for it")
	}
	shows(t, out, `secret "key" has no value in preview-fix-one-`, "maru secret set key --env preview")
	c.setSecret("key", "for previews", "preview")

	// Its own database, seeded, at its own address.
	name := c.of("fix/One")
	began := time.Now()
	c.git("commit", "--quiet", "--allow-empty", "-m", "Again")
	out = c.git("push", "maru", "HEAD:fix/One")
	within(t, "from push to address", 10*time.Second, began)
	t.Logf("the push:\n%s", out)
	e := c.environments()[name]
	if len(e.Addresses) == 0 || !strings.Contains(e.Addresses[0], "//fix-one-") || e.Preview.Of != "preview" || e.Preview.Expires == "" || e.State != "running" {
		t.Fatalf("the preview is %+v", e)
	}
	address := strings.TrimPrefix(strings.Split(e.Addresses[0], ":")[1], "//")
	if p, _ := c.at(address); p.String() != "one at "+address+" with for previews: seeded" {
		t.Fatalf("the preview shows %s", p)
	}
	shows(t, c.Do(t, "env", "--app", "shop"), "ENVIRONMENT", name, "fix/One", "71h59m", address, "production")

	// It is seeded once.
	c.write("compose.yaml", versioned(notes+previews, "two"))
	c.commit("Two")
	c.git("push", "maru", "HEAD:fix/One")
	if p, _ := c.at(address); p.Version != "two" || len(p.Notes) != 1 {
		t.Errorf("the preview shows %s", p)
	}
	if p, _ := c.at("shop.localhost"); p.String() != "one at none with for production: " {
		t.Errorf("production shows %s", p)
	}

	// What a branch says of environments has no effect, and there are no more previews than the limit.
	c.write("compose.yaml", versioned(notes, "two")+"x-maru:\n  environments:\n    production: {branch: \"*\", deploy: auto}\n")
	c.commit("Take over")
	c.git("push", "maru", "HEAD:second")
	shows(t, c.git("push", "maru", "HEAD:third"), "third is kept, but not deployed: preview has 2 previews, which is its limit")
	if p, _ := c.at("shop.localhost"); p.Version != "one" {
		t.Errorf("production shows %s", p)
	}
	if p, _ := c.at("second.preview.localhost"); p.String() != "two at second.preview.localhost with for previews: seeded" {
		t.Errorf("the second preview shows %s", p)
	}

	// It goes with its branch, also when the server dies meanwhile, and nothing is left of it.
	began = time.Now()
	shows(t, c.git("push", "maru", "--delete", "fix/One"), name+" goes with its branch")
	c.killServer()
	c.isGone(name, address, began)
	if p, _ := c.at("second.preview.localhost"); len(p.Notes) != 1 {
		t.Errorf("the second preview shows %s", p)
	}
	// The branch comes back with an environment that knows nothing of the one before.
	c.git("push", "maru", "HEAD:fix/One")
	if p, _ := c.at(address); p.String() != "two at "+address+" with for previews: seeded" {
		t.Errorf("the preview that came back shows %s", p)
	}
	if all := c.runs("--env", name); len(all) != 1 || all[0].Number != 1 {
		t.Errorf("its runs are %+v", all)
	}

	// By hand, and when its time is up.
	began = time.Now()
	c.Do(t, "env", "delete", name, "--app", "shop", "--yes")
	c.isGone(name, address, began)
	c.setSecret("key", "shortly", "short")
	c.git("push", "maru", "HEAD:short/lived")
	name = c.of("short/lived")
	host.Eventually(t, time.Minute, "the end of a preview's time", func() bool { return c.of("short/lived") == "" })
	c.isGone(name, "short-lived.short.localhost", time.Now())
}

// isGone waits until nothing is left of an environment.
func (c *clone) isGone(name, address string, began time.Time) {
	c.t.Helper()
	host.Eventually(c.t, time.Minute, "the end of "+name, func() bool {
		out, err := c.Command(c.t.Context(), "env", "--app", "shop", "-o", "json").Output()
		return err == nil && !strings.Contains(string(out), name)
	})
	within(c.t, "until it is gone", 10*time.Second, began)
	if _, status := c.at(address); status != http.StatusNotFound {
		c.t.Errorf("%s answers with %d", address, status)
	}
	if out := c.Do(c.t, "volume", "ls", "--env", name, "--app", "shop", "-o", "json"); strings.Contains(out, "data") {
		c.t.Errorf("volumes are left: %s", out)
	}
	if all := c.runs("--env", name); len(all) != 0 {
		c.t.Errorf("runs are left: %+v", all)
	}
}

func TestSeedThatFails(t *testing.T) {
	file := strings.ReplaceAll(notes, "write, seeded", "write, half, fail")
	c := beginNotes(t, host.Start(t), versioned(file+previews, "one"))
	c.setSecret("key", "x", "production")
	c.setSecret("key", "x", "preview")
	c.git("push", "maru", "main")
	out, err := c.try("push", "maru", "main:fix")
	if err == nil {
		t.Error("a push whose seed failed exits with 0")
	}
	shows(t, out, "web: seeding", "web | wrote half", "the seed of release 1 failed", "there is nothing to write about")
	// Once it is mended, it begins with an empty database again.
	c.write("compose.yaml", versioned(notes+previews, "one"))
	c.commit("A seed that works")
	c.git("push", "maru", "HEAD:fix")
	if p, _ := c.at("fix.preview.localhost"); strings.Join(p.Notes, " ") != "seeded" {
		t.Errorf("the preview shows %s", p)
	}
}

func TestPreviewsThatBeginWithACopy(t *testing.T) {
	environments := strings.ReplaceAll(previews, `production: {branch: main}`, `production: {branch: main, share: [preview]}`)
	environments = strings.ReplaceAll(environments, "limit: 2", "clone: production")
	c := beginNotes(t, host.Start(t), versioned(notes+environments, "one"))
	c.setSecret("key", "x", "production")
	c.setSecret("key", "x", "preview")
	c.git("push", "maru", "main")
	c.Do(t, "run", "--app", "shop", "web", "write", "of production")
	out := c.git("push", "maru", "main:fix")
	shows(t, out, "preview-fix begins with the volumes of production")
	c.Do(t, "run", "--app", "shop", "--env", "preview-fix", "web", "write", "of the preview")
	if p, _ := c.at("fix.preview.localhost"); strings.Join(p.Notes, ", ") != "of production, of the preview" {
		t.Errorf("the preview shows %s", p)
	}
	if p, _ := c.at("shop.localhost"); strings.Join(p.Notes, ", ") != "of production" {
		t.Errorf("production shows %s", p)
	}
}

func TestPromote(t *testing.T) {
	environments := `x-maru:
  environments:
    staging: {branch: main, domain: staging.localhost}
    production: {branch: live, deploy: manual}
`
	file := strings.ReplaceAll(notes, `"VERSION"`, `"${GREETING:-one}"`) + environments
	c := beginNotes(t, host.Start(t), file)
	for _, name := range []string{"staging", "production"} {
		c.setSecret("key", "of "+name, name)
	}
	c.Do(t, "env", "set", "GREETING=hello", "--app", "shop", "--env", "production")
	c.git("push", "maru", "main")
	if p, _ := c.at("staging.localhost"); p.String() != "one at staging.localhost with of staging: " {
		t.Fatalf("staging shows %s", p)
	}
	out := c.Do(t, "promote", "--from", "staging", "--to", "production", "--app", "shop")
	shows(t, out, "run 1 of shop waits for approval: maru approve 1 --env production")
	c.Do(t, "approve", "--app", "shop")
	out = c.Do(t, "runs", "logs", "--follow", "--app", "shop")
	shows(t, out, "the images are those of rollout 1 in staging", "rollout 1 is serving")
	if strings.Contains(out, "build") {
		t.Errorf("something was built:\n%s", out)
	}
	if p, _ := c.at("shop.localhost"); p.String() != "hello at none with of production: " {
		t.Errorf("production shows %s", p)
	}
	image := func(environment string) string {
		var list struct{ Releases []struct{ Image string } }
		if err := json.Unmarshal([]byte(c.Do(t, "releases", "--app", "shop", "--env", environment, "--service", "web", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		return list.Releases[0].Image
	}
	if image("staging") != image("production") {
		t.Errorf("%s runs in staging and %s in production", image("staging"), image("production"))
	}
	// Nobody may rewind or delete what an administrator protects.
	c.git("push", "maru", "main:release/1")
	shows(t, c.Do(t, "repo", "protect", "release/*", "--app", "shop"), "release/1", "protected: release/*")
	if out, err := c.try("push", "maru", "--delete", "release/1"); err == nil {
		t.Errorf("a protected branch was deleted:\n%s", out)
	}
	c.Do(t, "repo", "unprotect", "release/*", "--app", "shop")
	c.git("push", "maru", "--delete", "release/1")
}

func TestAfterARollout(t *testing.T) {
	file := strings.ReplaceAll(notes, "seed: [/notes, write, seeded]", "after: [/notes, write, \"after NUMBER\"]")
	c := beginNotes(t, host.Start(t), versioned(strings.ReplaceAll(file, "NUMBER", "one"), "one"))
	c.setSecret("key", "x", "production")
	shows(t, c.git("push", "maru", "main"), "web: after done")
	c.write("compose.yaml", versioned(strings.ReplaceAll(file, `"after NUMBER"`, `"after two", fail`), "two"))
	c.commit("Two")
	out := c.git("push", "maru", "main") // which does not fail
	shows(t, out, "the step after release 2 failed", "the release stays", "rollout 2 is serving")
	c.killServer()
	host.Eventually(t, time.Minute, "the app after the server was killed", func() bool { _, status := c.at("shop.localhost"); return status == http.StatusOK })
	if p, _ := c.at("shop.localhost"); p.Version != "two" || strings.Join(p.Notes, ", ") != "after one, after two" {
		t.Errorf("it shows %s", p)
	}
	shows(t, c.Do(t, "events", "--app", "shop"), "after-step-done", "after-step-failed")
}
