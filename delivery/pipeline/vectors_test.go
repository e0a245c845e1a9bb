package pipeline_test

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/schedule"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

var update = flag.Bool("update", false, "write the golden files anew")

// vector is a project as there are many, with its workflow.
type vector struct {
	name  string
	files fstest.MapFS
}

func vectors(t *testing.T) []vector {
	t.Helper()
	archives, err := filepath.Glob("testdata/workflows/*.txtar")
	if err != nil || len(archives) != 12 {
		t.Fatalf("%d projects, %v", len(archives), err)
	}
	var all []vector
	for _, file := range archives {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v := vector{strings.TrimSuffix(filepath.Base(file), ".txtar"), fstest.MapFS{}}
		for _, f := range archive.Files {
			v.files[f.Name] = &fstest.MapFile{Data: f.Data}
		}
		all = append(all, v)
	}
	return all
}

// TestVectors holds what becomes of workflows as projects have them: which events start them, the jobs in
// the order in which they run when all goes well, and what is warned about. test/workflows runs them.
func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		project, issues := workflow.Load(v.files, ".github/workflows")
		if err := issues.Err(); err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		var out strings.Builder
		for _, w := range project.Workflows {
			if w.Call == nil {
				plan(&out, project, w)
			}
		}
		for _, i := range issues {
			fmt.Fprintf(&out, "warning %s\n", i)
		}
		golden := "testdata/workflows/" + v.name + ".plan"
		if *update {
			if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if want, _ := os.ReadFile(golden); string(want) != out.String() {
			t.Errorf("%s:\n%s, want\n%s", v.name, out.String(), want)
		}
	}
}

func plan(out io.Writer, project *workflow.Project, w *workflow.Workflow) {
	for _, e := range []workflow.Event{
		{Name: "push", Ref: "refs/heads/main", Paths: []string{"main.go"}}, {Name: "push", Ref: "refs/heads/dependabot/x"}, {Name: "push", Ref: "refs/tags/v1"},
		{Name: "pull_request", Base: "main"}, {Name: "workflow_dispatch"}, {Name: "schedule"},
	} {
		if w.Triggers(e) {
			fmt.Fprintf(out, "on %s %s\n", e.Name, e.Ref+e.Base)
		}
	}
	contexts := schedule.Contexts{GitHub: expr.Map("ref", "refs/heads/main", "event_name", "push", "workflow", w.Name), Vars: expr.NewObject(), Inputs: expr.NewObject(), Secrets: expr.NewObject()}
	run := schedule.New(project, w, contexts, nil)
	for actions := run.Next(); len(actions) > 0; actions = run.Next() {
		for _, a := range actions {
			fmt.Fprintf(out, "%s %s\n", a.Kind, a.Job.Name)
			if a.Kind == schedule.Start {
				run.Ended(a.Job.ID, schedule.Result{Conclusion: maru.Success, Outputs: map[string]string{"packages": `["a","b"]`}})
			}
		}
	}
	fmt.Fprintf(out, "%s\n", run.Conclusion())
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
		s, err := pipeline.Select(os.DirFS(dir), pipeline.Choice{GitHub: c.github, Event: push, Names: c.names})
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
	if s, err := pipeline.Select(os.DirFS(dir), pipeline.Choice{Event: push}); err != nil || len(s.Workflows) != 1 || s.Default == "" {
		t.Errorf("%+v %v", s, err)
	}
	// Where only tests are wanted nothing else is built.
	if s, err := pipeline.Select(os.DirFS(dir), pipeline.Choice{Event: push, Tested: true}); err != nil || len(s.Workflows) != 0 || len(s.Found) != 0 || !slices.Equal(s.Untested, []string{"Go"}) {
		t.Errorf("%+v %v", s, err)
	}
	write("x_test.go", "")
	if s, err := pipeline.Select(os.DirFS(dir), pipeline.Choice{Event: push, Tested: true}); err != nil || len(s.Workflows) != 1 || !slices.Equal(s.Found, []string{"Go"}) || len(s.Untested) != 0 {
		t.Errorf("%+v %v", s, err)
	}
}
