package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/buildtest"
	"github.com/marucloud/maru/delivery/build/worker"
	"github.com/marucloud/maru/internal/layout"
)

// rig is a running worker with its containerd.
type rig struct {
	layout layout.Layout
	ctd    *containerd.Client
	client *build.Client
}

func newRig(tb testing.TB, change func(*worker.Config)) *rig {
	tb.Helper()
	l, ctd := buildtest.Containerd(tb)
	cfg := worker.Config{Layout: l, Runc: buildtest.Runc(tb), Idle: -1, Getenv: buildtest.Getenv}
	if change != nil {
		change(&cfg)
	}
	w, err := worker.New(cfg, buildtest.Log(tb))
	if err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("unix", l.BuilderSocket())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, listener) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			tb.Errorf("worker ended: %v", err)
		}
		if err := worker.Clean(l); err != nil {
			tb.Errorf("clean: %v", err)
		}
	})
	return &rig{layout: l, ctd: ctd, client: build.Dial(l.BuilderSocket())}
}

func (r *rig) build(tb testing.TB, req build.Request) (maru.Image, []build.Event, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var events []build.Event
	image, err := r.client.Build(ctx, req, func(e build.Event) {
		events = append(events, e)
		tb.Logf("%d %s %s %s %s", e.Step, e.Name, e.Status, e.Log, e.Completed.Sub(e.Started).Round(time.Millisecond))
	})
	return image, events, err
}

func folder(tb testing.TB, files map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func goRequest(dir string) build.Request {
	return build.Request{Name: "shop-web", Build: maru.Build{Context: dir, Go: &maru.GoBuild{Package: "."}}}
}

const hello = "package main\n\nimport \"net/http\"\n\nfunc main() { _ = http.ListenAndServe(\":8080\", nil) }\n"

func TestGoProgram(t *testing.T) {
	r := newRig(t, nil)
	dir := folder(t, map[string]string{"go.mod": "module example.com/web\n\ngo 1.26\n", "main.go": hello})
	first, _, err := r.build(t, goRequest(dir))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first.Reference, "docker.io/library/shop-web@sha256:") {
		t.Errorf("reference %s", first.Reference)
	}
	start := time.Now()
	again, _, err := r.build(t, goRequest(dir))
	if err != nil || again.Reference != first.Reference {
		t.Fatalf("the same source gave %v, %v", again.Reference, err)
	}
	t.Logf("no change: %v", time.Since(start))
	for i := range 4 {
		if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte("package main\n\nvar X = "+string(rune('0'+i))+"\n\nfunc init() { println(X) }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		if again, _, err = r.build(t, goRequest(dir)); err != nil || again.Reference == first.Reference {
			t.Fatalf("another source gave %v, %v", again.Reference, err)
		}
		t.Logf("one file changed: %v", time.Since(start))
	}
	_ = slog.Default
}

func TestDockerfile(t *testing.T) {
	r := newRig(t, nil)
	dir := folder(t, map[string]string{
		"Dockerfile": "FROM scratch AS tools\nCOPY probe /probe\nFROM tools AS b\nCOPY conf.txt /conf.txt\nRUN [\"/probe\", \"hello\"]\nFROM scratch\nCOPY --from=b /conf.txt /out.txt\nCOPY probe /app\nENTRYPOINT [\"/app\"]\n",
		"conf.txt":   "1",
	})
	buildtest.Program(t, filepath.Join(dir, "probe"), "package main\n\nimport (\"fmt\"; \"os\")\n\nfunc main() { fmt.Println(os.Args[1:]); x, _ := os.ReadDir(\"/\"); fmt.Println(x) }\n")
	req := build.Request{Name: "shop-web:1", Build: maru.Build{Context: dir}}
	for i := range 4 {
		start := time.Now()
		image, _, err := r.build(t, req)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d: %s %v", i, image.Reference, time.Since(start))
	}
	for i := range 4 {
		os.WriteFile(filepath.Join(dir, "conf.txt"), []byte{byte('2' + i)}, 0o644)
		start := time.Now()
		image, _, err := r.build(t, req)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("changed %d: %s %v", i, image.Reference, time.Since(start))
	}
}
