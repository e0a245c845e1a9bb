package worker_test

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/buildtest"
	"github.com/marucloud/maru/delivery/build/worker"
)

const webModule = "module example.com/web\n\ngo 1.26\n"

// web tells of itself what it was asked to.
const web = `package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"time"
)

func main() {
	zone, err := time.LoadLocation("Asia/Seoul")
	roots, err2 := x509.SystemCertPool()
	fmt.Println(zone, err, roots.Equal(x509.NewCertPool()), err2, os.Getuid(), os.Getgid())
	fmt.Println(os.WriteFile("/tmp/x", nil, 0o600), os.WriteFile("/data/x", nil, 0o600), os.WriteFile("/x", nil, 0o600) != nil)
}
`

func goRequest(dir, pkg string) build.Request {
	return build.Request{Name: "shop-web", Build: maru.Build{Context: dir, Go: &maru.GoBuild{Package: pkg}}}
}

// TestGo has one worker for all its parts, because compiling the standard library takes its time.
func TestGo(t *testing.T) {
	modules := t.TempDir()
	r := newRig(t, func(cfg *worker.Config) {
		cfg.Getenv = func(name string) string {
			switch name {
			case "GOPROXY":
				return "file://" + modules + "," + buildtest.Getenv("GOPROXY")
			case "GONOSUMDB":
				return "private.example"
			}
			return os.Getenv(name)
		}
	})
	t.Run("image", func(t *testing.T) { goImage(t, r) })
	t.Run("same source, same image", func(t *testing.T) { goReproducible(t, r) })
	t.Run("unchanged and changed", func(t *testing.T) { goIncremental(t, r) })
	t.Run("modules", func(t *testing.T) { goModules(t, r, modules) })
	t.Run("failures", func(t *testing.T) { goFailures(t, r) })
	t.Run("unreadable source", func(t *testing.T) { goUnreadable(t, r) })
	t.Run("interrupted", func(t *testing.T) { goInterrupted(t, r) })
	t.Run("prune", func(t *testing.T) { goPrune(t, r) })
}

func goImage(t *testing.T, r *rig) {
	dir := folder(t, map[string]string{"go.mod": webModule, "main.go": web})
	req := goRequest(dir, ".")
	req.Volumes = []string{"/data"}
	req.Build.Tags = []string{"registry.example.com/shop/web:2"}
	req.Build.Labels = map[string]string{"team": "tea"}
	image, events := r.mustBuild(t, req)
	if !strings.HasPrefix(image.Reference, "docker.io/library/shop-web@sha256:") ||
		!slices.Equal(image.Names, []string{"docker.io/library/shop-web:latest", "registry.example.com/shop/web:2"}) {
		t.Errorf("%s, named %v", image.Reference, image.Names)
	}
	if c := image.Config; !slices.Equal(c.Entrypoint, []string{"/app"}) || c.User != "65532:65532" || c.WorkDir != "/" || c.Labels["team"] != "tea" {
		t.Errorf("config %+v", c)
	}
	if statusOf(events, "go build .") != build.StepDone || statusOf(events, "Go 1.") != build.StepDone {
		t.Errorf("events %+v", events)
	}
	root := r.files(t, image.Reference)
	for name, want := range map[string]struct {
		mode  os.FileMode
		owner uint32
	}{
		"app": {0o755, 0}, "tmp": {0o777 | os.ModeSticky | os.ModeDir, 0}, "data": {0o755 | os.ModeDir, 65532},
		"etc/ssl/certs/ca-certificates.crt": {0o644, 0}, "usr/share/zoneinfo/Europe/Berlin": {0o644, 0}, "etc/passwd": {0o644, 0},
	} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; info.Mode() != want.mode || owner != want.owner || !info.ModTime().Equal(time.Unix(0, 0)) {
			t.Errorf("%s: %v of %d at %v", name, info.Mode(), owner, info.ModTime())
		}
	}
	// A copy can be written to, as an instance's file system can.
	copied := filepath.Join(t.TempDir(), "root")
	if out, err := exec.Command("cp", "-a", root, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("/app")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: copied, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	out, err := cmd.CombinedOutput()
	if want := "Asia/Seoul <nil> false <nil> 65532 65532\n<nil> <nil> true\n"; err != nil || string(out) != want {
		t.Errorf("the program says %q, %v", out, err)
	}
}

func goReproducible(t *testing.T, r *rig) {
	var refs []string
	for range 2 {
		dir := folder(t, map[string]string{"go.mod": webModule, "main.go": web, "README.md": t.TempDir()})
		req := goRequest(dir, ".")
		req.Build.NoCache = true
		image, events := r.mustBuild(t, req)
		if statusOf(events, "go build") != build.StepDone {
			t.Error("it was not built")
		}
		refs = append(refs, image.Reference)
	}
	req := goRequest(folder(t, map[string]string{"go.mod": webModule, "main.go": web}), ".")
	req.Epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	other, _ := r.mustBuild(t, req)
	if refs[0] != refs[1] || refs[0] == other.Reference || !other.Created.Equal(req.Epoch) {
		t.Errorf("%v, and %s of %v", refs, other.Reference, other.Created)
	}
}

func goIncremental(t *testing.T, r *rig) {
	dir := folder(t, map[string]string{
		"go.mod":            "module example.com/mono\n\ngo 1.26\n",
		"cmd/a/main.go":     "package main\n\nimport \"example.com/mono/internal/x\"\n\nfunc main() { println(x.X) }\n",
		"cmd/b/main.go":     "package main\n\nfunc main() {}\n",
		"internal/x/x.go":   "package x\n\nconst X = 0\n",
		"internal/x/doc.md": "",
	})
	a, _ := r.mustBuild(t, goRequest(dir, "./cmd/a"))
	b, _ := r.mustBuild(t, goRequest(dir, "./cmd/b"))
	write(t, dir, map[string]string{"internal/x/x.go": "package x\n\nconst X = 1\n", "internal/x/doc.md": "new"})
	a2, _ := r.mustBuild(t, goRequest(dir, "./cmd/a"))
	b2, events := r.mustBuild(t, goRequest(dir, "./cmd/b"))
	if a2.Reference == a.Reference || b2.Reference != b.Reference || statusOf(events, "go build") != build.StepCached {
		t.Errorf("a: %s, %s; b: %s, %s", a.Reference, a2.Reference, b.Reference, b2.Reference)
	}
	start := time.Now()
	for range 10 {
		r.mustBuild(t, goRequest(dir, "./cmd/b"))
	}
	if each := time.Since(start) / 10; each > 200*time.Millisecond {
		t.Errorf("a build without a change takes %v", each)
	}
}

// goModules builds with a module from a proxy that is a folder, and then without the proxy.
func goModules(t *testing.T, r *rig, proxy string) {
	at := filepath.Join(proxy, "private.example/dep/@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	mod := "module private.example/dep\n\ngo 1.26\n"
	write(t, at, map[string]string{"list": "v1.0.0\n", "v1.0.0.info": `{"Version":"v1.0.0"}`, "v1.0.0.mod": mod})
	file, err := os.Create(filepath.Join(at, "v1.0.0.zip"))
	if err != nil {
		t.Fatal(err)
	}
	archive := zip.NewWriter(file)
	for name, content := range map[string]string{"go.mod": mod, "dep.go": "package dep\n\nconst Word = \"dep\"\n"} {
		w, err := archive.Create("private.example/dep@v1.0.0/" + name)
		if err == nil {
			_, err = w.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	dir := folder(t, map[string]string{
		"go.mod":  "module example.com/user\n\ngo 1.26\n\nrequire private.example/dep v1.0.0\n",
		"main.go": "package main\n\nimport \"private.example/dep\"\n\nfunc main() { println(dep.Word) }\n",
	})
	_, _, err = r.build(t, goRequest(dir, "."))
	if maru.KindOf(err) != maru.Invalid || !strings.Contains(maru.HintOf(err), "go mod tidy") {
		t.Errorf("without go.sum: %v, hint %q", err, maru.HintOf(err))
	}
	tidy := exec.Command("go", "mod", "tidy")
	tidy.Dir = dir
	tidy.Env = append(os.Environ(), "GOPROXY=file://"+proxy, "GONOSUMDB=*", "GOFLAGS=-mod=mod", "GOMODCACHE="+filepath.Join(t.TempDir(), "m"))
	if out, err := tidy.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+w", filepath.Dir(dir)).Run() })
	_, events := r.mustBuild(t, goRequest(dir, "."))
	if statusOf(events, "go mod download") != build.StepDone {
		t.Errorf("events %+v", events)
	}
	if err := os.RemoveAll(filepath.Join(proxy, "private.example")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"more.go": "package main\n"})
	_, events = r.mustBuild(t, goRequest(dir, "."))
	if statusOf(events, "go mod download") != build.StepCached {
		t.Errorf("events %+v", events)
	}
	write(t, dir, map[string]string{"go.mod": "module example.com/user\n\ngo 1.26\n\nrequire private.example/none v1.0.0\n"})
	_, _, err = r.build(t, goRequest(dir, "."))
	var failed *build.StepError
	if !errors.As(err, &failed) || failed.Step != "go mod download" || len(failed.Output) == 0 {
		t.Errorf("a module that is nowhere: %v", err)
	}
}

func goFailures(t *testing.T, r *rig) {
	for name, c := range map[string]struct {
		files map[string]string
		req   func(*build.Request)
		kind  maru.Kind
		want  []string
	}{
		"does not compile": {map[string]string{"main.go": "package main\n\nfunc main() { undefined() }\n"}, nil, maru.Invalid,
			[]string{"main.go:3: undefined: undefined", "   3 | func main()"}},
		"no program": {map[string]string{"main.go": "package lib\n"}, nil, maru.Invalid, []string{"not a program"}},
		"cgo":        {map[string]string{"main.go": "package main\n\nimport \"C\"\n\nfunc main() {}\n"}, nil, maru.Invalid, []string{"go build"}},
		"args": {map[string]string{"main.go": hello}, func(r *build.Request) { r.Build.Args = map[string]string{"A": "1"} },
			maru.Unsupported, []string{"args"}},
		"platform": {map[string]string{"main.go": hello}, func(r *build.Request) { r.Build.Platforms = []string{"linux/s390x"} },
			maru.Unsupported, []string{"s390x"}},
		"a volume over the program": {map[string]string{"main.go": hello}, func(r *build.Request) { r.Volumes = []string{"/app"} },
			maru.Invalid, []string{"/app"}},
		"outside": {map[string]string{"main.go": "package main\n\nimport _ \"embed\"\n\n//go:embed ../secret\nvar S string\n\nfunc main() {}\n"}, nil, maru.Invalid,
			[]string{"invalid pattern"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"go.mod": webModule})
			write(t, dir, c.files)
			req := goRequest(dir, ".")
			if c.req != nil {
				c.req(&req)
			}
			_, _, err := r.build(t, req)
			if maru.KindOf(err) != c.kind {
				t.Fatalf("%s: %v", maru.KindOf(err), err)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

const hello = "package main\n\nfunc main() {}\n"

// goUnreadable builds what only its owner may read, and a link that leads to what only root may.
func goUnreadable(t *testing.T, r *rig) {
	dir := folder(t, map[string]string{"go.mod": webModule, "main.go": hello, "sub/x.txt": ""})
	for name, mode := range map[string]os.FileMode{"main.go": 0o600, "sub": 0o700, ".": 0o700} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	r.mustBuild(t, goRequest(dir, "."))
	if info, err := os.Stat(filepath.Join(dir, "main.go")); err != nil || info.Mode() != 0o600 {
		t.Errorf("the source was changed: %v, %v", info, err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2 hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "main.go", "other.go"} {
		dir := folder(t, map[string]string{"go.mod": webModule, "main.go": hello})
		_ = os.Remove(filepath.Join(dir, name))
		if err := os.Symlink(secret, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		_, events, err := r.build(t, goRequest(dir, "."))
		if err == nil || strings.Contains(fmt.Sprint(err, events), "hunter2") {
			t.Errorf("%s leads out of the source: %v", name, err)
		}
	}
}

func goInterrupted(t *testing.T, r *rig) {
	dir := folder(t, map[string]string{"go.mod": webModule, "main.go": web, "more.go": "package main\n\nimport _ \"net/http/httptest\"\n"})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := r.client.Build(ctx, goRequest(dir, "."), func(e build.Event) {
		if strings.HasPrefix(e.Name, "go build") {
			cancel()
		}
	})
	if maru.KindOf(err) != maru.Interrupted {
		t.Errorf("%s: %v", maru.KindOf(err), err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, _ := filepath.Glob("/sys/fs/cgroup/pids" + worker.Cgroup(r.layout) + "/go-*")
		unified, _ := filepath.Glob("/sys/fs/cgroup" + worker.Cgroup(r.layout) + "/go-*")
		if len(left)+len(unified) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("an interrupted build goes on: %v", left)
		}
	}
}

func goPrune(t *testing.T, r *rig) {
	freed, err := r.client.Prune(context.Background(), 0)
	if err != nil || freed < 100<<20 {
		t.Errorf("freed %d bytes, %v", freed, err)
	}
	left, err := filepath.Glob(filepath.Join(r.layout.BuilderData(), "go/toolchains/*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
