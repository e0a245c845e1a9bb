package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/test/host"
	"github.com/marucloud/maru/test/images"
)

const changingTest = `package main

import (
	"net/http/httptest"
	"testing"
)

func TestAnswer(t *testing.T) {
	w := httptest.NewRecorder()
	answer(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 200 || w.Body.Len() == 0 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
`

// measurePush measures from a push with one changed Go file, whose tests are run, to all traffic on the new release.
func measurePush(ctx context.Context, o options) ([]row, error) {
	const what = "one changed Go file: git push to all traffic on the new release, less go build and go test"
	root, err := host.Root()
	if err != nil {
		return nil, err
	}
	cache := filepath.Join(root, ".cache", "images")
	if len(images.Missing(cache, images.Toolchains)) > 0 {
		return []row{{what: what, measured: "not measured: go run ./test/images/pack -toolchains .cache/images"}}, nil
	}
	registry, err := images.Serve(cache, images.Toolchains...)
	if err != nil {
		return nil, err
	}
	defer registry.Close()
	modules, environment, err := serveModules()
	if err != nil {
		return nil, err
	}
	if modules == nil {
		return []row{{what: what, measured: noToolchain}}, nil
	}
	defer modules.Close()
	return with(func(m *host.Machine, _ *client.Client) ([]row, error) {
		path, err := m.Compose(changed)
		if err != nil {
			return nil, err
		}
		folder := filepath.Dir(path)
		token, err := m.Run(ctx, "token", "create", "bench")
		if err != nil {
			return nil, err
		}
		remote := "http://bench:" + strings.TrimSpace(token.Out) + "@" + strings.Replace(m.HTTP, "127.0.0.1", "localhost", 1) + "/git/changed.git"
		for name, text := range map[string]string{"go.mod": "module changed\n\ngo 1.26\n", "main_test.go": changingTest} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
				return nil, err
			}
		}
		if err := git(ctx, folder, "init", "--quiet", "--initial-branch=main"); err != nil {
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
			test, err := goRun(ctx, folder, "test", "./...")
			if err != nil {
				return nil, err
			}
			for _, args := range [][]string{{"add", "."}, {"commit", "--quiet", "-m", fmt.Sprint("Version ", n)}} {
				if err := git(ctx, folder, args...); err != nil {
					return nil, err
				}
			}
			took, err := untilServed(ctx, m, fmt.Sprint("version ", n), func() error { return git(ctx, folder, "push", remote, "main") })
			if err != nil {
				return nil, err
			}
			if n > 0 { // the first fetches the toolchain, pulls the job's image and compiles the standard library
				ours, theirs, left = append(ours, took), append(theirs, build+test), append(left, took-build-test)
			}
		}
		return []row{{what: what, bar: "3.0 s", met: left.at(50) <= 3*time.Second,
			measured: fmt.Sprintf("%s (whole: %s)", left, ours), peer: "go build and go test: " + theirs.String()}}, nil
	}, append(environment, "MARU_MIRROR=docker.io="+registry.URL)...)
}

func git(ctx context.Context, folder string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=bench", "-c", "user.email=bench@example.test"}, args...)...)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w\n%s", args[0], err, out)
	}
	return nil
}
