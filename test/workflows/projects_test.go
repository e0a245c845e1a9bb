package workflows

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/marucloud/maru/test/host"
	"github.com/marucloud/maru/test/images"
)

func TestMain(m *testing.M) {
	inside, code := host.Enter()
	if !inside {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// faults are what a red project says, besides that its workflow failed.
var faults = map[string]string{
	"go-library":       "failed: TestSteep/green at tea_test.go:",
	"go-lint-and-race": "[lint] job ended: failure",
	"go-service":       "failed: TestRedis at integration_test.go:",
	"node-matrix":      "failed: total at /maru/workspace/test/total.test.js:4",
	"node-monorepo":    "[test (b)",
	"node-artifacts":   "[smoke] job ended: failure",
	"python-app":       "[build] job ended: failure",
	"python-matrix":    "failed: tests.test_steep test_minutes[green-2]",
	"python-scripts":   "there are 3",
	"java-maven":       "artifact surefire",
	"java-gradle":      "java.lang.AssertionError: green tea",
	"java-plain":       "[compile (21)] job ended: failure",
}

// TestProjects runs the workflows of twelve projects, unchanged, as they are and with a fault.
func TestProjects(t *testing.T) {
	cache, err := filepath.Abs("../../.cache/images")
	if err != nil {
		t.Fatal(err)
	}
	recipes := append(append([]images.Recipe{}, images.Toolchains...), images.Servers...)
	if missing := images.Missing(cache, recipes); len(missing) > 0 {
		t.Skipf("%d of the images are not packed; to pack them: go run ./test/images/pack -toolchains .cache/images", len(missing))
	}
	registry, err := images.Serve(cache, recipes...)
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	m := host.Start(t, "MARU_MIRROR=docker.io="+registry.URL)
	archives, err := filepath.Glob("../../delivery/pipeline/testdata/workflows/*.txtar")
	if err != nil || len(archives) != len(faults) {
		t.Fatalf("%d projects, %v", len(archives), err)
	}
	t.Run("all", func(t *testing.T) {
		for _, file := range archives {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(filepath.Base(file), ".txtar")
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := project(t, archive)
				if out, code := run(t, m, dir); code != 0 {
					t.Fatalf("exit code %d\n%s", code, out)
				}
				for _, f := range archive.Files {
					if place, red := strings.CutPrefix(f.Name, "red/"); red {
						write(t, dir, place, f.Data)
					}
				}
				if out, code := run(t, m, dir); code != 1 || !strings.Contains(out, faults[name]) {
					t.Errorf("with a fault: exit code %d, and there should be %q\n%s", code, faults[name], out)
				}
			})
		}
	})
}

func project(t *testing.T, archive *txtar.Archive) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range archive.Files {
		if !strings.HasPrefix(f.Name, "red/") {
			write(t, dir, f.Name, f.Data)
		}
	}
	return dir
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, m *host.Machine, dir string) (out string, code int) {
	t.Helper()
	began := time.Now()
	result, err := m.Run(t.Context(), "ci", "run", "--github", "--dir", dir)
	if err != nil && result.Code <= 0 {
		t.Fatal(err)
	}
	t.Logf("%s", fmt.Sprint("took ", time.Since(began).Round(100*time.Millisecond)))
	return result.Out + result.Err, result.Code
}
