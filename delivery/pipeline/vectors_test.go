package pipeline_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/schedule"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestVectors holds what becomes of workflows as projects have them: which events start them, the jobs in
// the order in which they run when all goes well, and what is warned about.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/workflows/*.yml")
	if err != nil || len(files) != 12 {
		t.Fatalf("%d workflows, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		w, issues := workflow.Parse(filepath.Base(file), data)
		if err := issues.Err(); err != nil {
			t.Errorf("%v", err)
			continue
		}
		var out strings.Builder
		for _, e := range []workflow.Event{
			{Name: "push", Ref: "refs/heads/main", Paths: []string{"main.go"}}, {Name: "push", Ref: "refs/heads/dependabot/x"}, {Name: "push", Ref: "refs/tags/v1"},
			{Name: "pull_request", Base: "main"}, {Name: "workflow_dispatch"}, {Name: "schedule"},
		} {
			if w.Triggers(e) {
				fmt.Fprintf(&out, "on %s %s\n", e.Name, e.Ref+e.Base)
			}
		}
		contexts := schedule.Contexts{GitHub: expr.Map("ref", "refs/heads/main", "event_name", "push", "workflow", w.Name), Vars: expr.NewObject(), Inputs: expr.NewObject(), Secrets: expr.NewObject()}
		run := schedule.New(&workflow.Project{}, w, contexts, nil)
		for actions := run.Next(); len(actions) > 0; actions = run.Next() {
			for _, a := range actions {
				fmt.Fprintf(&out, "%s %s\n", a.Kind, a.Job.Name)
				if a.Kind == schedule.Start {
					run.Ended(a.Job.ID, schedule.Result{Conclusion: maru.Success, Outputs: map[string]string{"packages": `["a","b"]`}})
				}
			}
		}
		fmt.Fprintf(&out, "%s\n", run.Conclusion())
		for _, i := range issues {
			fmt.Fprintf(&out, "warning %s\n", i)
		}
		golden := strings.TrimSuffix(file, ".yml") + ".plan"
		if *update {
			if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if want, _ := os.ReadFile(golden); string(want) != out.String() {
			t.Errorf("%s:\n%s, want\n%s", file, out.String(), want)
		}
	}
}

// TestVectorsRun runs those whose toolchains are on this host.
func TestVectorsRun(t *testing.T) {
	for name, c := range map[string]struct {
		tools []string
		files map[string]string
	}{
		"node-monorepo": {[]string{"node"}, map[string]string{
			"packages/a/a.test.js": "require('node:test')('a', () => {})\n", "packages/b/b.test.js": "require('node:test')('b', () => {})\n"}},
		"node-artifacts": {[]string{"node"}, map[string]string{"x": ""}},
		"python-app":     {[]string{"python3"}, map[string]string{"test_x.py": "import unittest\nclass T(unittest.TestCase):\n    def test_x(self): pass\n"}},
		"python-scripts": {[]string{"python3"}, map[string]string{"a.py": "", "d/b.py": ""}},
		"java-plain":     {[]string{"java"}, map[string]string{"src/Main.java": "class Main { public static void main(String[] a) { System.out.println(\"hi\"); } }\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, tool := range c.tools {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skipf("there is no %s", tool)
				}
			}
			data, err := os.ReadFile("testdata/workflows/" + name + ".yml")
			if err != nil {
				t.Fatal(err)
			}
			c.files[".maru/workflows/w.yml"] = string(data)
			got := newRig(t).run(t.Context(), c.files, nil, nil)
			if got.conclusion != maru.Success {
				t.Errorf("%s\n%s\n%s", got.conclusion, got.of(maru.RunAnnotation), got.log())
			}
		})
	}
}

// TestSelect: those that the event starts, those that are named, the default one.
func TestSelect(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".github/workflows"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(".github/workflows/one.yml", "name: One\non: push\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n")
	write(".github/workflows/two.yml", "on: workflow_dispatch\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n")
	push := workflow.Event{Name: "push", Ref: "refs/heads/main"}
	for _, c := range []struct {
		github bool
		names  []string
		want   string
	}{
		{true, nil, "one.yml"}, {true, []string{"two"}, "two.yml"}, {true, []string{"One", "two.yml"}, "one.yml two.yml"}, {true, []string{"three"}, "error"}, {false, nil, "error"},
	} {
		s, err := pipeline.Select(os.DirFS(dir), c.github, push, c.names)
		var got []string
		for _, w := range s.Workflows {
			got = append(got, filepath.Base(w.Path))
		}
		if err != nil {
			got = []string{"error"}
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%+v: %q %v", c, got, err)
		}
	}
	write("go.mod", "module x\n\ngo 1.26\n")
	if s, err := pipeline.Select(os.DirFS(dir), false, push, nil); err != nil || len(s.Workflows) != 1 || s.Default == "" {
		t.Errorf("%+v %v", s, err)
	}
}
