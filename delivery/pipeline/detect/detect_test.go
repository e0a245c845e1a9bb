package detect_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline"
	"github.com/marucloud/maru/delivery/pipeline/detect"
	"github.com/marucloud/maru/delivery/pipeline/machine/process"
	"github.com/marucloud/maru/delivery/pipeline/runner"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

func TestWorkflow(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string // the jobs: ID, image and scripts
	}{
		"nothing":  {map[string]string{"README.md": ""}, ""},
		"go":       {map[string]string{"go.mod": "module x\n\ngo 1.26.8\n", "vendor/go.mod": "module y"}, "go golang:1.26 [export GOMODCACHE=~/go/pkg/mod; go vet ./... && go test -vet=off ./...]"},
		"node":     {map[string]string{"package.json": `{"scripts": {"test": "jest", "build": "tsc"}, "engines": {"node": ">=20"}}`, "package-lock.json": "{}"}, "node node:20 [npm ci --no-audit --no-fund|npm run build|npm run test]"},
		"npm init": {map[string]string{"package.json": `{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}`}, "node node:22 [npm install --no-audit --no-fund]"},
		"pnpm":     {map[string]string{"web/package.json": `{"scripts": {"test": "x"}}`, "web/pnpm-lock.yaml": ""}, "node-web node:22 [corepack enable && pnpm install --frozen-lockfile|pnpm run test]"},
		"python":   {map[string]string{"pyproject.toml": "[project]\nrequires-python = \">=3.11\"\n[tool.pytest]\n", "requirements.txt": "x"}, "python python:3.11 [python -m pip install --upgrade pip|pip install -r requirements.txt|pip install -e .|pip install pytest|pytest]"},
		"django":   {map[string]string{"requirements.txt": "django", "manage.py": ""}, "python python:3 [python -m pip install --upgrade pip|pip install -r requirements.txt|python manage.py test]"},
		"maven":    {map[string]string{"pom.xml": "<java.version>17</java.version>", "mvnw": ""}, "java maven:3-eclipse-temurin-17 [sh ./mvnw --batch-mode --no-transfer-progress verify]"},
		"gradle":   {map[string]string{"build.gradle.kts": "jvmToolchain(21)", "sub/build.gradle": ""}, "java gradle:jdk21 [gradle --no-daemon build]"},
		"rust":     {map[string]string{"Cargo.toml": "[package]\nrust-version = \"1.80\""}, "rust rust:1.80 [CARGO_HOME=~/.cargo cargo build --all-targets|CARGO_HOME=~/.cargo cargo test]"},
		"two":      {map[string]string{"go.mod": "go 1.26", "ui/package.json": "{}"}, "go golang:1.26 [export GOMODCACHE=~/go/pkg/mod; go vet ./... && go test -vet=off ./...]\nnode-ui node:22 [npm install --no-audit --no-fund]"},
		"quotes":   {map[string]string{"a: \"b\"/package.json": "{}"}, "node-a-b node:22 [npm install --no-audit --no-fund]"},
	} {
		tree := fstest.MapFS{}
		for file, text := range c.files {
			tree[file] = &fstest.MapFile{Data: []byte(text)}
		}
		projects, err := detect.Search(tree)
		if err != nil {
			t.Fatal(err)
		}
		w, text, err := projects.Workflow()
		if err != nil {
			t.Errorf("%s: %v in\n%s", name, err, text)
			continue
		}
		var jobs []string
		if w != nil {
			for _, j := range w.Jobs {
				var run []string
				for _, s := range j.Steps {
					if s.Uses == "" {
						run = append(run, s.Run.Source())
					}
				}
				jobs = append(jobs, j.ID+" "+j.Container.Image.Source()+" ["+strings.Join(run, "|")+"]")
			}
		}
		if got := strings.Join(jobs, "\n"); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
	}
}

// TestTested: which projects have tests.
func TestTested(t *testing.T) {
	for name, c := range map[string]struct {
		files  []string
		tested string
		others string
	}{
		"go":           {[]string{"go.mod", "a/b_test.go"}, "Go", ""},
		"go vendored":  {[]string{"go.mod", "vendor/x/x_test.go", "testdata/x_test.go"}, "", "Go"},
		"python":       {[]string{"api/requirements.txt", "api/tests/test_x.py"}, "Python in api", ""},
		"script":       {[]string{"requirements.txt", "latest.py"}, "", "Python"},
		"java":         {[]string{"pom.xml", "core/src/test/java/X.java"}, "Java", ""},
		"java without": {[]string{"build.gradle", "src/main/java/X.java"}, "", "Java"},
		"rust":         {[]string{"Cargo.toml", "tests/x.rs"}, "Rust", ""},
		"both":         {[]string{"go.mod", "x_test.go", "web/package.json"}, "Go", "Node.js in web"},
	} {
		tree := fstest.MapFS{}
		for _, file := range c.files {
			tree[file] = &fstest.MapFile{Data: []byte("{}")}
		}
		projects, err := detect.Search(tree)
		if err != nil {
			t.Fatal(err)
		}
		tested, others := projects.Tested()
		if got := strings.Join(tested.Names(), ", "); got != c.tested || strings.Join(others, ", ") != c.others {
			t.Errorf("%s: tested %q, others %q", name, got, others)
		}
	}
}

// TestGoRuns runs the default workflow of a Go module with a test that fails, and finds where.
func TestGoRuns(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/x\n\ngo 1.26\n", "x_test.go": "package x\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {\n\tt.Error(\"no\")\n}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	projects, err := detect.Search(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	w, _, err := projects.Workflow()
	if err != nil {
		t.Fatal(err)
	}
	project := &workflow.Project{}
	p := pipeline.New(&runner.Runner{Machine: &process.Machine{Root: t.TempDir(), Env: buildCache(t)}}, 1)
	var tests *maru.TestReport
	var log []string
	conclusion, err := p.Run(t.Context(), pipeline.Request{ID: "r", Project: project, Workflow: w, Source: pipeline.Folder(dir), Event: pipeline.Event{Name: "push", Ref: "refs/heads/main"}}, func(e maru.RunEvent) {
		if e.Tests != nil {
			tests = e.Tests
		}
		log = append(log, e.Text)
	})
	if err != nil || conclusion != maru.Failure || tests == nil || len(tests.Tests) != 1 || tests.Tests[0].File != "x_test.go" || tests.Tests[0].Line != 6 {
		t.Errorf("%s %v %+v\n%s", conclusion, err, tests, strings.Join(log, "\n"))
	}
}

// buildCache lets jobs use this host's build cache.
func buildCache(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"GOCACHE": strings.TrimSpace(string(out)), "GOFLAGS": "-trimpath -buildvcs=false", "CGO_ENABLED": "0"}
}
