package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/delivery/build/golang"
	"github.com/marucloud/maru/test/host"
)

// measureUnchanged measures a deploy of ten services that all run as they should already.
func measureUnchanged(ctx context.Context, o options) ([]row, error) {
	return with(func(m *host.Machine, _ *client.Client) ([]row, error) {
		if err := m.Load(ctx, smallest, "examples/hello"); err != nil {
			return nil, err
		}
		var text strings.Builder
		text.WriteString("name: ten\nservices:\n")
		for n := range 10 {
			fmt.Fprintf(&text, "  s%d:\n    image: %s\n    x-maru: {health: /, route: s%d.localhost}\n", n, smallest, n)
		}
		path, err := m.Compose(text.String())
		if err != nil {
			return nil, err
		}
		if _, err := m.Run(ctx, "deploy", "-f", path); err != nil {
			return nil, err
		}
		before, err := m.Status(ctx, "ten")
		if err != nil {
			return nil, err
		}
		var took times
		for range o.runs {
			began := time.Now()
			if _, err := m.Run(ctx, "deploy", "-f", path); err != nil {
				return nil, err
			}
			took = append(took, time.Since(began))
		}
		after, err := m.Status(ctx, "ten")
		if err != nil {
			return nil, err
		}
		for n, s := range before.Services {
			if s.Instances[0] != after.Services[n].Instances[0] {
				return nil, fmt.Errorf("%s was restarted", s.Name)
			}
		}
		return []row{{what: "deploy with nothing changed, ten services", bar: "0.3 s", measured: took.String(), met: took.at(50) <= 300*time.Millisecond}}, nil
	})
}

const changing = `package main

import (
	"fmt"
	"log"
	"net/http"
)

func answer(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "version %d") }

func main() {
	http.HandleFunc("/", answer)
	log.Fatal(http.ListenAndServe(":8080", nil))
}
`

const changed = `
name: changed
services:
  web:
    build: .
    expose: ["8080"]
    x-maru: {route: changed.localhost, health: /, drain: 1s}
`

const noToolchain = "not measured: the Go toolchain could not be fetched"

// serveModules serves the Go toolchain to builds, and gives what they need in their environment; nil: there is none.
func serveModules() (server *http.Server, environment []string, err error) {
	modules := os.Getenv("MARU_BENCH_MODULES")
	if modules == "none" {
		return nil, nil, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	server = &http.Server{Handler: http.FileServer(http.Dir(modules)), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	return server, []string{"GOPROXY=http://" + listener.Addr().String(), "GOSUMDB=off", "GONOSUMDB=*", "GOFLAGS="}, nil
}

// measureChanged measures from deploy with one changed Go file until all traffic is on the new release.
func measureChanged(ctx context.Context, o options) ([]row, error) {
	modules, environment, err := serveModules()
	if err != nil {
		return nil, err
	}
	if modules == nil {
		return []row{{what: "one changed Go file to all traffic on the new release", measured: noToolchain}}, nil
	}
	defer modules.Close()
	return with(func(m *host.Machine, _ *client.Client) ([]row, error) {
		path, err := m.Compose(changed)
		if err != nil {
			return nil, err
		}
		folder := filepath.Dir(path)
		if err := os.WriteFile(filepath.Join(folder, "go.mod"), []byte("module changed\n\ngo 1.26\n"), 0o644); err != nil {
			return nil, err
		}
		var ours, theirs, left times
		for n := range min(o.runs, 10) + 1 {
			if err := os.WriteFile(filepath.Join(folder, "main.go"), fmt.Appendf(nil, changing, n), 0o644); err != nil {
				return nil, err
			}
			build, err := goBuild(ctx, folder)
			if err != nil {
				return nil, err
			}
			took, err := untilServed(ctx, m, fmt.Sprint("version ", n), func() error {
				_, err := m.Run(ctx, "deploy", "-f", path)
				return err
			})
			if err != nil {
				return nil, err
			}
			if n > 0 { // the first fetches the toolchain and compiles the standard library
				ours, theirs, left = append(ours, took), append(theirs, build), append(left, took-build)
			}
		}
		return []row{{what: "one changed Go file: deploy to all traffic on the new release, less go build", bar: "1.0 s", met: left.at(50) <= time.Second,
			measured: fmt.Sprintf("%s (whole: %s)", left, ours), peer: "go build: " + theirs.String()}}, nil
	}, environment...)
}

// goBuild builds what is about to be deployed.
func goBuild(ctx context.Context, folder string) (time.Duration, error) {
	return goRun(ctx, folder, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", os.DevNull, ".")
}

// goRun runs the go command, with a cache of its own that is as warm as the builder's.
func goRun(ctx context.Context, folder string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOCACHE="+filepath.Join(filepath.Dir(folder), "go-cache"))
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go %s: %w\n%s", args[0], err, out)
	}
	return time.Since(began), nil
}

// untilServed deploys and gives the time until the last answer of another version.
func untilServed(ctx context.Context, m *host.Machine, version string, deploy func() error) (time.Duration, error) {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	began, last := time.Now(), time.Duration(0)
	running.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			if body := gateway(m, "changed.localhost"); body != version {
				last = time.Since(began)
			}
			select {
			case <-tick.C:
			case <-asking.Done():
				return
			}
		}
	})
	err := deploy()
	stop()
	running.Wait()
	if err == nil && gateway(m, "changed.localhost") != version {
		err = errors.New("the new release does not serve")
	}
	return last, err
}

func gateway(m *host.Machine, asHost string) string {
	request, err := http.NewRequest(http.MethodGet, "http://"+m.HTTP+"/", nil)
	if err != nil {
		return err.Error()
	}
	request.Host = asHost
	response, err := asker.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// fetchModules fetches the Go toolchain that builds use, and gives the folder of the module cache that
// holds it; "none" when it can't be had.
func fetchModules() string {
	cmd := exec.Command("go", "mod", "download", "golang.org/toolchain@v0.0.1-go"+golang.Version+".linux-amd64")
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOFLAGS=-modcacherw=false", "GONOSUMDB=*", "GOTOOLCHAIN=local")
	if err := cmd.Run(); err != nil {
		return "none"
	}
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return "none"
	}
	return filepath.Join(strings.TrimSpace(string(out)), "cache", "download")
}
