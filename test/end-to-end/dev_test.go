package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru/delivery/build/golang"

	"github.com/marucloud/maru/test/host"
)

// developing is a maru dev that runs.
type developing struct {
	*machine
	dir string
	out output
	cmd *exec.Cmd
}

// output is what a command wrote until now.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// develop runs maru dev in a folder with the files, as the user "someone".
func (m *machine) develop(t *testing.T, files map[string]string, args ...string) *developing {
	t.Helper()
	d := &developing{machine: m, dir: t.TempDir()}
	for name, content := range files {
		d.save(t, name, content)
	}
	d.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), m.Program, append([]string{"dev"}, args...)...)
	d.cmd.Env = append(os.Environ(), "MARU_SOCKET="+m.Layout.ServerSocket(), "NO_COLOR=1", "SUDO_USER=someone")
	d.cmd.Dir, d.cmd.Stdout, d.cmd.Stderr = d.dir, &d.out, &d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			d.end(t)
		}
		if t.Failed() {
			t.Logf("maru dev said:\n%s", &d.out)
		}
	})
	return d
}

// end types ^C.
func (d *developing) end(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("maru dev: %v", err)
	}
}

// save writes a file as editors do: beside it, then over it.
func (d *developing) save(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"~", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

// says waits for a line; the first time Go is unpacked and its standard library compiled.
func (d *developing) says(t *testing.T, text string) {
	t.Helper()
	within(t, 4*time.Minute, "maru dev says "+text, func() bool { return strings.Contains(d.out.String(), text) })
}

func (d *developing) serves(t *testing.T, host, version string) {
	t.Helper()
	eventually(t, host+" serves "+version, func() bool {
		status, body := d.get(t, host, "/")
		return status == 200 && strings.Contains(body, `"`+version+`"`)
	})
}

// devProgram has few imports: the first build compiles all of them.
const devProgram = `package main

import (
	"os"
	"time"
)

func main() {
	for os.Stdout.WriteString("VERSION begins\n"); ; {
		time.Sleep(time.Hour)
	}
}
`

const devTest = `package main

import "testing"

func TestVersion(t *testing.T) { t.Log("tested") }
`

// goToolchain is the module that the builder has its Go from.
const goToolchain = "golang.org/toolchain@v0.0.1-go" + golang.Version + ".linux-amd64"

// fetchGo brings the builder's Go into the module cache. Where it can't, tests that need it are skipped.
func fetchGo() {
	_, _ = goCommand("mod", "download", goToolchain) // useGo tells
}

func goCommand(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// useGo lets the platform that is started next take its Go from the module cache.
func useGo(t *testing.T) {
	t.Helper()
	cache, err := goCommand("env", "GOMODCACHE")
	if err != nil {
		t.Fatal(err)
	}
	modules := filepath.Join(cache, "cache", "download")
	module, version, _ := strings.Cut(goToolchain, "@")
	if _, err := os.Stat(filepath.Join(modules, module, "@v", version+".zip")); err != nil {
		t.Skipf("the Go toolchain could not be fetched: %v", err)
	}
	t.Setenv("GOPROXY", "file://"+modules)
	t.Setenv("GOSUMDB", "off")
	t.Setenv("GOFLAGS", "")
}

func TestDevBuildsGo(t *testing.T) {
	useGo(t)
	m := start(t)
	version := func(v string) string { return strings.ReplaceAll(devProgram, "VERSION", v) }
	d := m.develop(t, map[string]string{
		"go.mod": "module example.test/site\n\ngo 1.26\n", "main.go": version("one"), "main_test.go": devTest,
		"compose.yaml": "name: site\nservices: {web: {build: .}}\n",
	}, "--test")
	d.says(t, "web  | one begins")
	saved := time.Now()
	d.save(t, "main.go", version("two"))
	d.says(t, "web  | two begins")
	t.Logf("what was saved runs after %s", time.Since(saved))
	d.says(t, "go test ./... passed")

	// A fault is told with its place, and what ran before goes on.
	d.save(t, "main.go", version("three")+"\nvar x int = \"text\"\n")
	d.says(t, "main.go:14:13: cannot use \"text\"")
	d.save(t, "main.go", version("four"))
	d.says(t, "web  | four begins")
}

func TestDevBuildsBesideProduction(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, strings.ReplaceAll(web, "VALUE", "production"))
	version := func(v string) string { return "FROM " + host.Image + "\nENV VERSION=" + v + "\n" }
	d := m.develop(t, map[string]string{"Dockerfile": version("one"),
		"compose.yaml": strings.ReplaceAll(strings.ReplaceAll(web, "image: "+host.Image, "build: ."), `environment: {VERSION: "VALUE"}`, `environment: {SAY: "hello"}`)})
	const host = "site.dev-someone.localhost"
	d.serves(t, host, "one")
	d.says(t, "web  | hello")
	if now := m.who(t, "site.localhost"); now["version"] != "production" {
		t.Errorf("production serves %v", now)
	}
	saved := time.Now()
	d.save(t, "Dockerfile", version("two"))
	d.serves(t, host, "two")
	t.Logf("what was saved serves after %s", time.Since(saved))

	d.save(t, "Dockerfile", version("three")+"COPY none.txt /\n")
	d.says(t, "none.txt")
	if now := m.who(t, host); now["version"] != "two" {
		t.Errorf("%v serves after a build that failed", now)
	}
	d.save(t, "Dockerfile", version("four"))
	d.serves(t, host, "four")

	d.end(t)
	d.says(t, "site is stopped")
	eventually(t, "the app stops", func() bool { status, _ := m.get(t, host, "/"); return status != 200 })
	if now := m.who(t, "site.localhost"); now["version"] != "production" {
		t.Errorf("production serves %v after the end", now)
	}
}

func TestDevSyncsAndRestarts(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	d := m.develop(t, map[string]string{
		"src/page.txt": "one", "src/old.txt": "old", "src/tmp/x.txt": "x", "conf/site.conf": "one", "hook/a.txt": "one",
		"compose.yaml": `name: synced
services:
  web:
    image: example.test/service:1
    x-maru: {route: synced.localhost, health: /healthz}
    environment: {SAY: "the service begins"}
    develop:
      watch:
        - {path: src, action: sync, target: /data/src, ignore: [tmp/], initial_sync: true}
        - {path: conf, action: sync+restart, target: /etc/site}
        - {path: hook, action: sync+exec, target: /hook, exec: {command: [/service, read, /hook/a.txt]}}
`})
	exec := func(args ...string) string {
		out, _, _ := m.try(t, append([]string{"exec", "--env", "dev-someone", "--app", "synced", "-T", "web", "/service"}, args...)...)
		return out
	}
	holds := func(path, text string) {
		t.Helper()
		eventually(t, path+" holds "+text, func() bool { return exec("read", path) == text })
	}
	holds("/data/src/page.txt", "one")
	if got := exec("read", "/data/src/tmp/x.txt"); got != "" {
		t.Errorf("what is ignored was synced: %q", got)
	}

	d.save(t, "src/page.txt", "two")
	d.save(t, "src/new/deep.txt", "deep")
	if err := os.Remove(filepath.Join(d.dir, "src/old.txt")); err != nil {
		t.Fatal(err)
	}
	holds("/data/src/page.txt", "two")
	holds("/data/src/new/deep.txt", "deep")
	eventually(t, "old.txt is gone", func() bool { return exec("read", "/data/src/old.txt") == "" })

	before := m.devInstance(t)
	began := strings.Count(d.out.String(), "the service begins")
	d.save(t, "conf/site.conf", "two")
	eventually(t, "the service begins again", func() bool { return strings.Count(d.out.String(), "the service begins") > began })
	holds("/etc/site/site.conf", "two")
	if after := m.devInstance(t); after.ID != before.ID || after.Attempt != before.Attempt {
		t.Errorf("the instance is %+v after the restart, and was %+v", after, before)
	}

	d.save(t, "hook/a.txt", "hooked")
	d.says(t, "web  > hooked")

	// An instance that is new gets what was saved before it.
	m.maru(t, "restart", "--env", "dev-someone", "--app", "synced")
	holds("/data/src/page.txt", "two")
	holds("/etc/site/site.conf", "two")
}

func (m *machine) devInstance(t *testing.T) host.Instance {
	t.Helper()
	var s host.Status
	fromJSON(t, m.maru(t, "status", "--env", "dev-someone", "--app", "synced", "-o", "json"), &s)
	if all := s.Of("web").Instances; len(all) == 1 {
		return all[0]
	}
	t.Fatalf("there is not one instance: %+v", s)
	return host.Instance{}
}

func fromJSON(t *testing.T, text string, to any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), to); err != nil {
		t.Fatal(err)
	}
}
