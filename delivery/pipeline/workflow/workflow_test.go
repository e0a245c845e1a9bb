package workflow

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
)

func parse(t *testing.T, text string) *Workflow {
	t.Helper()
	w, issues := Parse("w.yml", []byte(text))
	if err := issues.Err(); err != nil {
		t.Fatal(err)
	}
	return w
}

const simple = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: make\n"

// TestFaults: what is wrong or not done is told at its place.
func TestFaults(t *testing.T) {
	job := func(lines string) string {
		return simple[:strings.Index(simple, "    steps")] + lines + "    steps: [{run: make}]\n"
	}
	step := func(lines string) string { return strings.TrimSuffix(simple, "      - run: make\n") + lines }
	for _, c := range []struct {
		name, text string
		want       string // begins an issue
		kind       maru.Kind
	}{
		{"no YAML", "on: [push\n", "w.yml:", maru.Invalid},
		{"empty", "", "w.yml: the file is empty", maru.Invalid},
		{"no jobs", "on: push\n", "w.yml:1:1: \"jobs\" section is missing", maru.Invalid},
		{"unknown key", simple + "extra: 1\n", "w.yml:7:1: unexpected key \"extra\"", maru.Invalid},
		{"no such context", step("      - run: echo ${{ nothing.x }}\n"), "w.yml:6:23: there is no context nothing", maru.Invalid},
		{"not here", job("    if: matrix.x == 1\n"), "w.yml:5:9: the context matrix is not available here", maru.Invalid},
		{"secrets in if", step("      - if: secrets.x != ''\n        run: make\n"), "w.yml:6:13: the context secrets is not available here", maru.Invalid},
		{"syntax", step("      - run: |\n          one\n          two ${{ a b }}\n"), "w.yml:8:", maru.Invalid},
		{"no function", step("      - run: ${{ nothing(1) }}\n"), "w.yml:6:18: there is no function nothing", maru.Invalid},
		{"hashFiles in if of a job", job("    if: hashFiles('x') != ''\n"), "w.yml:5:9: the function hashfiles is not available here", maru.Invalid},
		{"arguments", step("      - run: ${{ contains('a') }}\n"), "w.yml:6:18: the function contains has 2 arguments at least", maru.Invalid},
		{"expression in uses", step("      - uses: ${{ 'actions/checkout@v4' }}\n"), "", maru.Unsupported},
		{"foreign action", step("      - uses: golangci/golangci-lint-action@v8\n"), "w.yml:6:9: Maru fetches no actions", maru.Unsupported},
		{"push of an image", step("      - uses: docker/build-push-action@v6\n        with: {push: true}\n"), "w.yml:7:16: docker/build-push-action: the input push can't be true", maru.Unsupported},
		{"other ref", step("      - uses: actions/checkout@v4\n        with: {submodules: recursive}\n"), "w.yml:7:16: actions/checkout: the input submodules can't be recursive", maru.Unsupported},
		{"no path", step("      - uses: actions/cache@v4\n        with: {key: k}\n"), "w.yml:6:9: actions/cache needs the input path", maru.Invalid},
		{"macos", strings.Replace(simple, "ubuntu-latest", "macos-14", 1), "w.yml:4:5: Maru runs Linux only", maru.Unsupported},
		{"group", strings.Replace(simple, "ubuntu-latest", "{group: g}", 1), "w.yml:4:15: There are no groups", maru.Unsupported},
		{"pull_request_target", strings.Replace(simple, "push", "pull_request_target", 1), "w.yml:1:5: A pull request's code would run", maru.Unsupported},
		{"volumes", job("    container: {image: debian, volumes: ['/:/host']}\n"), "w.yml:5:32: Folders of the host are not mounted", maru.Unsupported},
		{"options", job("    container: {image: debian, options: --privileged}\n"), "w.yml:5:41: the option --privileged is not done here", maru.Unsupported},
		{"needs", job("    needs: b\n"), "w.yml:3:3: the job a needs b, which is not there", maru.Invalid},
		{"loop", job("    needs: a\n"), "w.yml:3:3: the job a needs itself", maru.Invalid},
		{"other repository", "on: push\njobs:\n  a:\n    uses: o/r/.github/workflows/x.yml@v1\n", "w.yml:4:5: Maru fetches no workflows", maru.Unsupported},
		{"pattern", "on: {push: {branches: ['[a']}}\n" + simple[len("on: push\n"):], "w.yml:1:24: the pattern", maru.Invalid},
		{"cron", "on: {schedule: [{cron: '61 * * * *'}]}\n" + simple[len("on: push\n"):], "w.yml:1:17: the schedule", maru.Invalid},
		{"two steps", step("      - {id: x, run: a}\n      - {id: X, run: b}\n"), "w.yml:7:9: two steps have the ID X", maru.Invalid},
		{"shell", step("      - {run: dir, shell: cmd}\n"), "w.yml:6:20: This shell is there on Windows only", maru.Unsupported},
		{"bomb", "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n", "w.yml: the file has more than 100000 values", maru.Invalid},
		{"anchors", "on: push\njobs:\n  a: &a\n    runs-on: ubuntu-latest\n    steps: [{run: 'x ${{ nope.x }}'}]\n  b: *a\n", "w.yml:5:26: there is no context nope", maru.Invalid},
		{"anchored key", "on: push\njobs:\n  a: &a\n    runs-on: ubuntu-latest\n    wrong: 1\n    steps: [{run: x}]\n  b: *a\n", "w.yml:5:5: unexpected key \"wrong\"", maru.Invalid},
	} {
		_, issues := Parse("w.yml", []byte(c.text))
		found := slices.ContainsFunc(issues, func(i Issue) bool {
			return i.Kind != "" && strings.HasPrefix(i.String(), c.want) && (c.want != "" && i.Kind == c.kind || c.want == "")
		})
		if !found {
			t.Errorf("%s: want %q of the kind %s, have\n%v", c.name, c.want, c.kind, issues)
		}
	}
}

func TestWarnings(t *testing.T) {
	_, issues := Parse("w.yml", []byte("on: [push, release]\npermissions: read-all\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: actions/checkout@v4\n        with: {nothing: 1, token: \"${{ secrets.GITHUB_TOKEN }}\"}\n      - if: ${{ true }} == true\n        run: echo ${{ github.event.issue.title }}\n"))
	if err := issues.Err(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"w.yml:1:12: This event does not happen here", "w.yml:2:1: There is no token", "w.yml:8:16: actions/checkout has no input nothing", "w.yml:8:", "w.yml:9:13: this condition is a text", "untrusted"} {
		if !slices.ContainsFunc(issues, func(i Issue) bool { return strings.Contains(i.String(), want) }) {
			t.Errorf("no warning %q in\n%v", want, issues)
		}
	}
}

func TestParse(t *testing.T) {
	w := parse(t, `
name: all
run-name: by ${{ github.actor }}
on:
  push: {branches: [main, 'v[0-9]+'], paths-ignore: docs/**}
  workflow_dispatch: {inputs: {level: {type: choice, options: [a, b], default: a, required: true}}}
env: {V: 1.10, B: true, N: null, Q: "1.10"}
defaults: {run: {shell: sh}}
concurrency: {group: "${{ github.ref }}", cancel-in-progress: true}
jobs:
  second:
    needs: first
    runs-on: [self-hosted, linux]
    timeout-minutes: 5
    strategy: {matrix: {v: [1.10, "1.10", {a: 1}]}, fail-fast: false, max-parallel: 2}
    services: {db: {image: "postgres:16", ports: [5432], env: {A: b}, options: "--health-cmd 'pg_isready -U x' --health-interval=2s"}}
    container: debian:${{ matrix.v }}
    outputs: {o: "${{ steps.s.outputs.x }}"}
    steps:
      - id: s
        if: failure()
        name: n
        run: |
          one
        working-directory: d
        continue-on-error: ${{ matrix.v == 1 }}
      - uses: actions/checkout@v4
        with: {path: src}
  first:
    runs-on: ubuntu-latest
    steps: [{run: "true"}]
`)
	if w.Name != "all" || w.Jobs[0].ID != "second" || w.Jobs[1].ID != "first" {
		t.Errorf("names %q %q", w.Name, w.Jobs[0].ID)
	}
	var env []string
	for _, v := range w.Env.List {
		env = append(env, v.Name+"="+v.Value.Source())
	}
	if got := strings.Join(env, " "); got != "V=1.1 B=true N= Q=1.10" {
		t.Errorf("env %q", got)
	}
	j := w.Jobs[0]
	if j.Services[0].Container.Ports[0].Source() != "5432" || j.Container.Image.IsLiteral() || j.Steps[0].Run.Source() != "one\n" {
		t.Errorf("job %+v", j)
	}
	o, err := ParseOptions(j.Services[0].Container.Options.Source())
	if err != nil || o.HealthCommand != "pg_isready -U x" || o.HealthInterval != 2*time.Second {
		t.Errorf("options %+v %v", o, err)
	}
	runsOn, _ := j.RunsOn.Eval(&expr.Env{Contexts: expr.NewObject()})
	if got, _ := expr.ToJSON(runsOn); strings.Join(strings.Fields(got), "") != `["self-hosted","linux"]` {
		t.Errorf("runs-on %s", got)
	}
}

func TestMatrix(t *testing.T) {
	env := func() *expr.Env {
		v, _ := expr.FromJSON(`{"needs": {"p": {"outputs": {"m": "{\"os\": [\"x\", \"y\"], \"include\": [{\"os\": \"z\"}]}", "list": "[1, 2]"}}}}`)
		return &expr.Env{Contexts: v.(*expr.Object)}
	}
	for matrix, want := range map[string]string{
		"{a: [1, 2], b: [x, y]}":                                  "a=1,b=x a=1,b=y a=2,b=x a=2,b=y",
		"{a: [1, 2], b: [x, y], exclude: [{a: 1, b: x}, {b: y}]}": "a=2,b=x",
		"{include: [{a: 1}, {a: 2, b: 3}]}":                       "a=1 a=2,b=3",
		"{fruit: [apple, pear], animal: [cat, dog], include: [{color: green}, {color: pink, animal: cat}, {fruit: apple, shape: circle}, {fruit: banana}, {fruit: banana, animal: cat}]}": "fruit=apple,animal=cat,color=pink,shape=circle fruit=apple,animal=dog,color=green,shape=circle fruit=pear,animal=cat,color=pink fruit=pear,animal=dog,color=green fruit=banana fruit=banana,animal=cat",
		"${{ fromJSON(needs.p.outputs.m) }}":                        "os=x os=y os=z",
		"{n: \"${{ fromJSON(needs.p.outputs.list) }}\", v: [1.10]}": "n=1,v=1.1 n=2,v=1.1",
		"{a: [1]  , exclude: [{a: 1}]}":                             "error: no combination",
		"{a: \"${{ needs.p.outputs.list }}\"}":                      "error: has no list for a",
		"{a: [{x: 1, y: 2}, {x: 2}], exclude: [{a: {x: 1}}]}":       "a=Object",
	} {
		w := parse(t, strings.Replace(simple, "    steps", "    strategy:\n      matrix: "+matrix+"\n    steps", 1)+"  p:\n    runs-on: x\n    steps: [{run: x}]\n")
		all, err := w.Jobs[0].Strategy.Matrix.Expand(env())
		var got []string
		for _, c := range all {
			var one []string
			for _, k := range c.Keys() {
				one = append(one, k+"="+expr.String(c.Get(k)))
			}
			got = append(got, strings.Join(one, ","))
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = "error: " + err.Error()
		}
		if text != want && (!strings.HasPrefix(want, "error: ") || !strings.Contains(text, want[len("error: "):])) {
			t.Errorf("%s:\n%s, want\n%s", matrix, text, want)
		}
	}
}

func TestTriggers(t *testing.T) {
	push := func(ref string, paths ...string) Event { return Event{Name: Push, Ref: ref, Paths: paths} }
	for _, c := range []struct {
		on   string
		e    Event
		want bool
	}{
		{"push", push("refs/heads/x"), true},
		{"push", push("refs/tags/v1"), true},
		{"pull_request", push("refs/heads/x"), false},
		{"{push: {branches: [main, 'releases/**']}}", push("refs/heads/releases/a/b"), true},
		{"{push: {branches: [main, 'releases/**']}}", push("refs/heads/mainly"), false},
		{"{push: {branches: [main]}}", push("refs/tags/main"), false},
		{"{push: {tags: ['v*']}}", push("refs/tags/v1.0"), true},
		{"{push: {tags: ['v*']}}", push("refs/heads/v1"), false},
		{"{push: {tags: ['v*'], branches: ['*']}}", push("refs/heads/a/b"), false},
		{"{push: {branches: ['**', '!main']}}", push("refs/heads/main"), false},
		{"{push: {branches: ['!main', '**']}}", push("refs/heads/main"), true},
		{"{push: {branches-ignore: ['dependabot/**']}}", push("refs/heads/dependabot/go"), false},
		{"{push: {branches-ignore: ['dependabot/**']}}", push("refs/heads/main"), true},
		{"{push: {paths: ['**.go']}}", push("refs/heads/x", "a/b.go"), true},
		{"{push: {paths: ['**.go', '!vendor/**']}}", push("refs/heads/x", "vendor/b.go"), false},
		{"{push: {paths: ['src/**/x?.js']}}", push("refs/heads/x", "src/x.js"), true},
		{"{push: {paths-ignore: ['docs/**', '*.md']}}", push("refs/heads/x", "README.md", "docs/a"), false},
		{"{push: {paths-ignore: ['docs/**']}}", push("refs/heads/x", "README.md", "docs/a"), true},
		{"{push: {paths: [x]}}", push("refs/tags/v1", "y"), true},
		{"{push: {branches: ['v[0-9]+.x']}}", push("refs/heads/v12.x"), true},
		{"{push: {branches: ['größe-*']}}", push("refs/heads/größe-1"), true},
		{"{pull_request: {branches: [main]}}", Event{Name: PullRequest, Base: "main", Action: "opened"}, true},
		{"pull_request", Event{Name: PullRequest, Base: "main", Action: "labeled"}, false},
		{"{pull_request: {types: [labeled]}}", Event{Name: PullRequest, Base: "main", Action: "labeled"}, true},
		{"{schedule: [{cron: '0 3 * * *'}]}", Event{Name: ScheduleEvent, Cron: "0 3 * * *"}, true},
		{"{schedule: [{cron: '0 3 * * *'}]}", Event{Name: ScheduleEvent, Cron: "0 4 * * *"}, false},
		{"workflow_dispatch", Event{Name: WorkflowDispatch}, true},
	} {
		w := parse(t, strings.Replace(simple, "on: push", "on: "+c.on, 1))
		if got := w.Triggers(c.e); got != c.want {
			t.Errorf("on: %s, %+v: %v", c.on, c.e, got)
		}
	}
	s := Schedule{Cron: "30 5 * * 1-5", Timezone: "Europe/Berlin"}
	from := time.Date(2026, 12, 4, 12, 0, 0, 0, time.UTC) // a Friday
	if got := s.Next(from); !got.Equal(time.Date(2026, 12, 7, 4, 30, 0, 0, time.UTC)) {
		t.Errorf("next %v", got)
	}
}

func TestProject(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	call := "on: push\njobs:\n  c:\n    uses: ./.maru/workflows/called.yml\n    with: {a: 1}\n    secrets: inherit\n"
	tree := fstest.MapFS{
		".maru/workflows/a.yml":      file(call),
		".maru/workflows/called.yml": file("on: {workflow_call: {inputs: {a: {type: number, required: true}}, outputs: {o: {value: \"${{ jobs.x.outputs.o }}\"}}}}\njobs:\n  x:\n    runs-on: y\n    outputs: {o: 1}\n    steps: [{uses: ./act, with: {i: 1}}]\n"),
		"act/action.yml":             file("name: act\ninputs: {i: {required: true}, d: {default: \"${{ github.ref }}\"}}\noutputs: {o: {value: \"${{ steps.s.outputs.v }}\"}}\nruns:\n  using: composite\n  steps: [{id: s, run: echo, shell: bash}]\n"),
		"docker/action.yml":          file("name: image\nruns: {using: docker, image: Dockerfile, args: ['${{ inputs.x }}'], env: {A: b}}\n"),
		"js/action.yml":              file("name: js\nruns: {using: node20, main: dist/index.js}\n"),
	}
	p, issues := Load(tree, Folder(false))
	if err := issues.Err(); err != nil {
		t.Fatal(err)
	}
	if len(p.Workflows) != 2 || p.Called("./.maru/workflows/called.yml") == nil || p.Action("./act").Steps[0].ID != "s" {
		t.Errorf("%+v", p)
	}
	for name, c := range map[string]struct{ file, text, want string }{
		"unknown input":    {".maru/workflows/a.yml", strings.Replace(call, "a: 1", "a: 1, z: 2", 1), "has no with of the name z"},
		"missing input":    {".maru/workflows/a.yml", strings.Replace(call, "    with: {a: 1}\n", "", 1), "needs a in with"},
		"no such workflow": {".maru/workflows/a.yml", strings.Replace(call, "called", "none", 1), "not in the source tree"},
		"loop":             {".maru/workflows/called.yml", "on: workflow_call\njobs: {x: {uses: ./.maru/workflows/called.yml}}\n", "in turn"},
		"action's secrets": {"act/action.yml", "runs: {using: composite, steps: [{run: \"${{ secrets.x }}\", shell: sh}]}\n", "context secrets is not available"},
		"no image":         {"act/action.yml", "runs: {using: docker}\n", "has the key image"},
		"far Dockerfile":   {"act/action.yml", "runs: {using: docker, image: ../Dockerfile}\n", "not one of the action's folder"},
		"out of the tree":  {"act/action.yml", "runs: {using: node20, main: ../../x.js}\n", "not one of the action's folder"},
		"no shell":         {"act/action.yml", "runs: {using: composite, steps: [{run: x}]}\n", "says its shell"},
	} {
		changed := fstest.MapFS{}
		for k, v := range tree {
			changed[k] = v
		}
		changed[c.file] = file(c.text)
		_, issues := Load(changed, Folder(false))
		if err := issues.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(simple))
	f.Add([]byte("on: {push: {branches: ['a**']}}\njobs:\n  a: &a\n    runs-on: ${{ matrix.x }}\n    strategy: {matrix: {x: [1, *y], include: [{a: b}]}}\n    services: {d: {image: x, ports: [1], options: -m 1g}}\n    steps: [{uses: actions/cache@v4, with: {path: x, key: y}}]\n  b: *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, issues := Parse("f.yml", data)
		if (w == nil) != (issues.Err() != nil) {
			t.Fatal("a workflow and a fault, or none of both")
		}
		if w == nil {
			return
		}
		w.Triggers(Event{Name: Push, Ref: "refs/heads/main", Paths: []string{"a"}})
		for _, j := range w.Jobs {
			if j.Strategy.Matrix != nil {
				_, _ = j.Strategy.Matrix.Expand(&expr.Env{Contexts: expr.NewObject()})
			}
		}
		_ = fmt.Sprint(issues)
	})
}
