package pipeline_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline"
	"github.com/marucloud/maru/delivery/pipeline/keep"
	"github.com/marucloud/maru/delivery/pipeline/machine/process"
	"github.com/marucloud/maru/delivery/pipeline/runner"
	"github.com/marucloud/maru/delivery/pipeline/schedule"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// rig runs workflows in processes of this host.
type rig struct {
	t         *testing.T
	pipeline  *pipeline.Pipeline
	artifacts *keep.Artifacts
	runs      int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, artifacts: &keep.Artifacts{Dir: filepath.Join(dir, "artifacts")}}
	r.pipeline = pipeline.New(&runner.Runner{
		Machine:   &process.Machine{Root: filepath.Join(dir, "jobs"), Images: func(ref string) bool { return ref == "host" }},
		Labels:    runner.Labels{"ubuntu-latest": "host"},
		Cache:     &keep.Cache{Dir: filepath.Join(dir, "cache")},
		Artifacts: r.artifacts,
	}, 3)
	return r
}

// result is what a run told.
type result struct {
	conclusion maru.Conclusion
	events     []maru.RunEvent
}

// log are the lines, without those of debugging.
func (r result) log() string {
	var lines []string
	for _, e := range r.events {
		if e.Kind == maru.RunLine && e.Step > 0 {
			lines = append(lines, e.Text)
		}
	}
	return strings.Join(lines, "\n")
}

// of gives the events of a kind as text, for comparing.
func (r result) of(kind maru.RunEventKind) string {
	var all []string
	for _, e := range r.events {
		if e.Kind != kind {
			continue
		}
		switch kind {
		case maru.RunAnnotation:
			all = append(all, fmt.Sprintf("%s %s:%d %s", e.Level, e.File, e.Line, e.Text))
		case maru.StepEnded:
			all = append(all, fmt.Sprintf("%s %s", e.Conclusion, e.Name))
		case maru.JobEnded:
			all = append(all, fmt.Sprintf("%s %s", e.Conclusion, e.Job))
		default:
			all = append(all, e.Name+e.Text)
		}
	}
	return strings.Join(all, "\n")
}

func (r *rig) project(files map[string]string) (*workflow.Project, string) {
	r.t.Helper()
	dir := r.t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	p, issues := workflow.Load(os.DirFS(dir), ".maru/workflows")
	if err := issues.Err(); err != nil {
		r.t.Fatal(err)
	}
	return p, dir
}

// run runs w.yml of the files; change may be nil.
func (r *rig) run(ctx context.Context, files map[string]string, change func(*pipeline.Request), watch func(maru.RunEvent)) result {
	r.t.Helper()
	p, dir := r.project(files)
	r.runs++
	req := pipeline.Request{
		ID: fmt.Sprint("run-", r.runs), Project: p, Source: pipeline.Folder(dir), Trusted: true,
		Secrets: map[string]string{"TOKEN": "s3cr3t-value"}, Vars: map[string]string{"V": "variable"},
		Event: pipeline.Event{Name: "push", Ref: "refs/heads/main", SHA: "0123456789012345678901234567890123456789", Actor: "me", Repository: "team/shop", DefaultBranch: "main"},
	}
	for _, w := range p.Workflows {
		if w.Path == ".maru/workflows/w.yml" {
			req.Workflow = w
		}
	}
	if change != nil {
		change(&req)
	}
	var got result
	var err error
	got.conclusion, err = r.pipeline.Run(ctx, req, func(e maru.RunEvent) {
		got.events = append(got.events, e)
		if watch != nil {
			watch(e)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if last := got.events[len(got.events)-1]; last.Kind != maru.RunEnded || last.Conclusion != got.conclusion {
		r.t.Errorf("the last event is %+v", last)
	}
	return got
}

func workflowOf(steps string) map[string]string {
	return map[string]string{".maru/workflows/w.yml": "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n" + steps}
}

// TestSteps: what steps do, and what becomes of it.
func TestSteps(t *testing.T) {
	for _, c := range []struct {
		name, steps string
		conclusion  maru.Conclusion
		log         string
		annotations string
		ends        string
	}{
		{name: "a script", steps: "      - run: |\n          echo one\n          echo two\n", conclusion: maru.Success, log: "one\ntwo"},
		{name: "its errors", steps: "      - run: echo two >&2\n", conclusion: maru.Success, log: "two"},
		{name: "a failure", steps: "      - run: exit 3\n      - run: echo not\n      - if: failure()\n        run: echo after\n", conclusion: maru.Failure, log: "after",
			annotations: "error :0 the process ended with exit code 3", ends: "failure Run exit 3\nskipped Run echo not\nsuccess Run echo after"},
		{name: "pipefail with bash", steps: "      - {run: 'false | true', shell: bash}\n", conclusion: maru.Failure},
		{name: "no pipefail without", steps: "      - run: false | true\n", conclusion: maru.Success},
		{name: "python", steps: "      - {run: \"import os; print('x' + os.environ['A'])\", shell: python, env: {A: 1}}\n", conclusion: maru.Success, log: "x1"},
		{name: "a shell of one's own", steps: "      - {run: 'print qq(hi\\n)', shell: 'perl {0}'}\n", conclusion: maru.Success, log: "hi"},
		{name: "outputs", steps: "      - id: o\n        run: |\n          echo a=1 >> $GITHUB_OUTPUT\n          printf 'b<<EOF\\nx\\ny=z\\nEOF\\n' >> $GITHUB_OUTPUT\n      - run: echo ${{ steps.o.outputs.a }} '${{ toJSON(steps.o.outputs.b) }}' ${{ steps.o.outcome }}\n",
			conclusion: maru.Success, log: `1 "x\ny=z" success`},
		{name: "environment", steps: "      - run: |\n          echo A=1 >> $GITHUB_ENV\n          mkdir bin; printf '#!/bin/sh\\necho mine' > bin/tool; chmod +x bin/tool; echo $PWD/bin >> $GITHUB_PATH\n      - run: echo $A ${{ env.A }} $B; tool\n        env: {B: \"${{ env.A }}2\"}\n",
			conclusion: maru.Success, log: "1 1 12\nmine"},
		{name: "reserved", steps: "      - run: echo GITHUB_SHA=x >> $GITHUB_ENV\n", conclusion: maru.Failure, annotations: "error :0 GITHUB_ENV: the variable GITHUB_SHA can't be set for the steps to come (use another name, or the step's env)"},
		{name: "bad file", steps: "      - run: echo nonsense >> $GITHUB_OUTPUT\n", conclusion: maru.Failure, annotations: "error :0 GITHUB_OUTPUT: line 1: \"nonsense\" is neither NAME=VALUE nor NAME<<DELIMITER"},
		{name: "commands", steps: "      - run: |\n          echo '::error file=a.go,line=7,col=2,title=T::some%0Athing'\n          echo '::warning::w'\n          echo '::notice::n'\n          echo '::group::g'\n          echo '::debug::d'\n          echo '::endgroup::'\n          echo '::stop-commands::tok'\n          echo '::error::not'\n          echo '::tok::'\n          echo '::add-mask::hide'\n          echo hide me\n          echo ':: not a command'\n",
			conclusion: maru.Success, log: "::error::not\n*** me\n:: not a command", annotations: "error a.go:7 some\nthing\nwarning :0 w\nnotice :0 n"},
		{name: "set-env", steps: "      - run: echo '::set-env name=A::b'\n", conclusion: maru.Failure},
		{name: "secrets", steps: "      - run: |\n          echo \"$T\"; echo \"$T\" | base64; echo x | tr -d '\\n'; printf %s \"$T\" | base64\n          printf 'ab%s' \"$T\" | base64\n        env: {T: \"${{ secrets.TOKEN }}\"}\n", conclusion: maru.Success, log: "***\n***Cg==\nx***\nYWJ***U="},
		{name: "continue on error", steps: "      - {id: x, run: 'false', continue-on-error: true}\n      - run: echo ${{ steps.x.outcome }} ${{ steps.x.conclusion }}\n", conclusion: maru.Success, log: "failure success"},
		{name: "timeout", steps: "      - {run: 'exec sleep 60', timeout-minutes: 0.002}\n", conclusion: maru.Failure, annotations: "error :0 the step did not end in 120ms"},
		{name: "working directory", steps: "      - run: mkdir -p d\n      - {run: 'basename $PWD', working-directory: d}\n", conclusion: maru.Success, log: "d"},
		{name: "contexts", steps: "      - run: echo ${{ github.ref_name }} ${{ github.event_name }} ${{ vars.V }} ${{ runner.os }} ${{ job.status }} $GITHUB_REPOSITORY $CI ${{ github.event.after == github.sha }} $(grep -c refs/heads/main $GITHUB_EVENT_PATH)\n", conclusion: maru.Success, log: "main push variable Linux success team/shop true true 1"},
		{name: "checkout and hashFiles", steps: "      - uses: actions/checkout@v4\n      - run: ls .maru/workflows; echo ${{ hashFiles('**/w.yml') != '' }} ${{ hashFiles('none') == '' }}\n", conclusion: maru.Success, log: "w.yml\ntrue true"},
		{name: "checkout elsewhere", steps: "      - uses: actions/checkout@v4\n        with: {path: ../x}\n", conclusion: maru.Failure, annotations: "error :0 the path \"../x\" leads out of the workspace"},
		{name: "expression in a condition fails", steps: "      - if: fromJSON('x') == 1\n        run: echo\n", conclusion: maru.Failure},
		{name: "tests", steps: "      - run: |\n          echo '--- FAIL: TestX (0.1s)'\n          echo '    x_test.go:5: no'\n", conclusion: maru.Success, log: "--- FAIL: TestX (0.1s)\n    x_test.go:5: no"},
		{name: "no such shell", steps: "      - {run: x, shell: fish}\n", conclusion: maru.Failure},
		{name: "node there", steps: "      - uses: actions/setup-node@v4\n        id: n\n        with: {node-version: '>=12'}\n      - run: '[ -n \"${{ steps.n.outputs.node-version }}\" ]'\n", conclusion: maru.Success},
		{name: "node too old", steps: "      - uses: actions/setup-node@v4\n        with: {node-version: '99'}\n", conclusion: maru.Failure},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := newRig(t).run(t.Context(), workflowOf(c.steps), nil, nil)
			if got.conclusion != c.conclusion {
				t.Errorf("%s, want %s:\n%s\n%s", got.conclusion, c.conclusion, got.of(maru.RunAnnotation), got.log())
			}
			if log := got.log(); c.log != "" && log != c.log {
				t.Errorf("log\n%s\nwant\n%s", log, c.log)
			}
			if all := got.of(maru.RunAnnotation); c.annotations != "" && all != c.annotations {
				t.Errorf("annotations\n%s\nwant\n%s", all, c.annotations)
			}
			if all := got.of(maru.StepEnded); c.ends != "" && all != c.ends {
				t.Errorf("steps\n%s\nwant\n%s", all, c.ends)
			}
		})
	}
}

// TestJobs: outputs from job to job, a matrix, artifacts, a called workflow, actions of the tree.
func TestJobs(t *testing.T) {
	r := newRig(t)
	files := map[string]string{
		".maru/workflows/w.yml": `
on: push
jobs:
  plan:
    runs-on: ubuntu-latest
    outputs: {list: "${{ steps.l.outputs.list }}"}
    steps: [{id: l, run: "echo 'list=[\"x\",\"y\"]' >> $GITHUB_OUTPUT"}]
  build:
    needs: plan
    runs-on: ubuntu-latest
    strategy: {matrix: {v: "${{ fromJSON(needs.plan.outputs.list) }}"}}
    steps:
      - run: mkdir -p out/deep; echo built ${{ matrix.v }} > out/deep/file; echo no > out/.hidden
      - uses: actions/upload-artifact@v4
        with: {name: "bin-${{ matrix.v }}", path: out}
  use:
    needs: build
    runs-on: ubuntu-latest
    steps:
      - uses: actions/download-artifact@v4
        with: {path: all}
      - run: cat all/bin-x/deep/file all/bin-y/deep/file; ls -A all/bin-x
      - uses: actions/checkout@v4
      - uses: ./greet
        id: g
        with: {who: you}
      - run: echo ${{ steps.g.outputs.said }}
  call:
    needs: use
    uses: ./.maru/workflows/called.yml
    with: {n: 2}
    secrets: inherit
  last:
    needs: call
    runs-on: ubuntu-latest
    steps: [{run: "echo got ${{ needs.call.outputs.o }}"}]
`,
		".maru/workflows/called.yml": `
on: {workflow_call: {inputs: {n: {type: number}}, outputs: {o: {value: "${{ jobs.j.outputs.o }}"}}}}
jobs:
  j:
    runs-on: ubuntu-latest
    outputs: {o: "${{ steps.s.outputs.o }}"}
    steps: [{id: s, run: "echo o=called-${{ inputs.n }} >> $GITHUB_OUTPUT; echo ${{ secrets.TOKEN }}"}]
`,
		"greet/action.yml": `
name: greet
inputs: {who: {required: true}, how: {default: hello}}
outputs: {said: {value: "${{ steps.s.outputs.said }}"}}
runs:
  using: composite
  steps:
    - {id: s, shell: bash, run: "echo said=\"$HOW ${{ inputs.who }}\" >> $GITHUB_OUTPUT; ls $GITHUB_ACTION_PATH", env: {HOW: "${{ inputs.how }}"}}
    - {if: "${{ inputs.who != 'you' }}", shell: bash, run: exit 1}
    - {uses: ./js, with: {name: n}}
`,
		"js/action.yml": "name: js\ninputs: {name: {}, other: {default: d}}\nruns: {using: node20, main: main.js, post: post.js}\n",
		"js/main.js":    "const fs = require('fs'); console.log('js', process.env.INPUT_NAME, process.env.INPUT_OTHER); fs.appendFileSync(process.env.GITHUB_STATE, 'k=kept\\n')\n",
		"js/post.js":    "console.log('post', process.env.STATE_k)\n",
	}
	got := r.run(t.Context(), files, nil, nil)
	want := "built x\nbuilt y\ndeep\naction.yml\njs n d\nhello you\npost kept\n***\ngot called-2"
	var lines []string
	for line := range strings.SplitSeq(got.log(), "\n") {
		if !strings.Contains(line, "sha256:") && !strings.HasPrefix(line, "artifact ") {
			lines = append(lines, line)
		}
	}
	if log := strings.Join(lines, "\n"); got.conclusion != maru.Success || log != want {
		t.Errorf("%s\n%s\nwant\n%s\n%s", got.conclusion, log, want, got.of(maru.RunAnnotation))
	}
	if names, _ := r.artifacts.List(t.Context(), "run-1"); strings.Join(names, " ") != "bin-x bin-y" {
		t.Errorf("artifacts %q", names)
	}
}

func TestCache(t *testing.T) {
	r := newRig(t)
	files := workflowOf(`      - uses: actions/cache@v4
        id: c
        with: {path: "~/.kept", key: "k-${{ github.run_id }}", restore-keys: k-}
      - run: echo hit=${{ steps.c.outputs.cache-hit }} $(cat ~/.kept/file); mkdir -p ~/.kept; echo ${{ github.run_id }} > ~/.kept/file
`)
	// Home is a folder of its own for each job here, so that the path is not the same: it is given.
	files[".maru/workflows/w.yml"] = strings.ReplaceAll(files[".maru/workflows/w.yml"], "~/.kept", filepath.Join(t.TempDir(), "kept"))
	main := func(req *pipeline.Request) {}
	untrusted := func(req *pipeline.Request) { req.Event.Ref, req.Trusted = "refs/heads/other", false }
	for i, c := range []struct {
		change func(*pipeline.Request)
		want   string
	}{{main, "hit= "}, {main, "hit=false run-1"}, {untrusted, "hit=false run-2"}, {main, "hit=false run-2"}} {
		got := r.run(t.Context(), files, c.change, nil)
		if got.conclusion != maru.Success || !strings.Contains(got.log(), strings.TrimSpace(c.want)) {
			t.Errorf("run %d: %s %s\n%s", i+1, got.conclusion, got.log(), got.of(maru.RunAnnotation))
		}
	}
}

func TestUntrustedHasNoSecrets(t *testing.T) {
	got := newRig(t).run(t.Context(), workflowOf("      - run: echo \"[${{ secrets.TOKEN }}]\"\n"), func(req *pipeline.Request) { req.Trusted = false }, nil)
	if got.log() != "[]" {
		t.Errorf("%s", got.log())
	}
}

// TestCancel: the step at work ends, and those run whose condition says so.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	got := newRig(t).run(ctx, map[string]string{".maru/workflows/w.yml": "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo begun; exec sleep 600\n      - run: echo not\n      - if: always()\n        run: echo always ${{ job.status }}\n      - if: cancelled()\n        run: echo cancelled\n  b:\n    needs: a\n    runs-on: ubuntu-latest\n    steps: [{run: echo never}]\n"}, nil, func(e maru.RunEvent) {
		if e.Kind == maru.RunLine && e.Text == "begun" {
			once.Do(cancel)
		}
	})
	if got.conclusion != maru.Cancelled || got.log() != "begun\nalways cancelled\ncancelled" {
		t.Errorf("%s\n%s", got.conclusion, got.log())
	}
	if ends := got.of(maru.JobEnded); ends != "cancelled a\ncancelled b" {
		t.Errorf("%s", ends)
	}
}

// TestConcurrency: a later run of a group takes the place of the one that waits, and cancels the one at
// work.
func TestConcurrency(t *testing.T) {
	r := newRig(t)
	files := workflowOf("      - run: echo begun; [ ${{ github.run_id }} = run-3 ] || exec sleep 600\n")
	files[".maru/workflows/w.yml"] = "concurrency: {group: \"${{ github.ref }}\", cancel-in-progress: true}\n" + files[".maru/workflows/w.yml"]
	first := make(chan maru.Conclusion, 1)
	begun := make(chan struct{})
	p, dir := r.project(files)
	request := func(id string) pipeline.Request {
		return pipeline.Request{ID: id, Project: p, Workflow: p.Workflows[0], Source: pipeline.Folder(dir), Event: pipeline.Event{Name: "push", Ref: "refs/heads/main", Repository: "a/b"}}
	}
	go func() {
		c, _ := r.pipeline.Run(t.Context(), request("run-1"), func(e maru.RunEvent) {
			if e.Kind == maru.RunLine && e.Text == "begun" {
				close(begun)
			}
		})
		first <- c
	}()
	<-begun
	c, err := r.pipeline.Run(t.Context(), request("run-3"), func(maru.RunEvent) {})
	if err != nil || c != maru.Success {
		t.Errorf("%s %v", c, err)
	}
	if c := <-first; c != maru.Cancelled {
		t.Errorf("the first: %s", c)
	}
}

// built stands for a builder whose images are one that is there.
type built struct{ requests []string }

func (b *built) Build(_ context.Context, req runner.BuildRequest, archive io.Reader, progress func(string)) (string, error) {
	var names []string
	for in := tar.NewReader(archive); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		if h.Typeflag == tar.TypeReg {
			names = append(names, path.Clean(h.Name))
		}
	}
	slices.Sort(names)
	b.requests = append(b.requests, fmt.Sprint(req.Dockerfile, " of ", names, " ", req.Args, req.Target))
	progress("step 1")
	return "tool@sha256:0", nil
}

// TestImageActions: steps that are images see the workspace, change it, and give outputs.
func TestImageActions(t *testing.T) {
	r := newRig(t)
	builder := &built{}
	tool := maru.ImageConfig{Entrypoint: []string{"sh", "-c", `echo "$0 $* in $(basename "$PWD"), with $INPUT_WORD $INPUT_OTHER $OWN $STEP"; cat there; echo more > made; rm -f gone; echo o=$INPUT_WORD >> $GITHUB_OUTPUT; [ -s $GITHUB_EVENT_PATH ]`}, Command: []string{"without", "args"}}
	r.pipeline = pipeline.New(&runner.Runner{
		Machine: &process.Machine{Root: t.TempDir(), Configs: map[string]maru.ImageConfig{"tool:1": tool, "tool@sha256:0": tool}},
		Labels:  runner.Labels{"ubuntu-latest": "host"}, Builder: builder,
	}, 1)
	got := r.run(t.Context(), map[string]string{
		".maru/actions/one/action.yml": "name: one\ninputs: {word: {default: tea}}\nruns:\n  using: docker\n  image: Dockerfile\n  args: ['first ${{ inputs.word }}', second]\n  env: {OWN: own}\n  post-entrypoint: pwd\n",
		".maru/actions/one/Dockerfile": "FROM scratch\n",
		".maru/workflows/w.yml": `on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: echo here > there; echo x > gone
      - uses: ./.maru/actions/one
        id: one
        env: {STEP: step}
      - run: echo "got ${{ steps.one.outputs.o }} $(cat made) $(ls gone 2>&1 | wc -l)"; ls gone || true
      - uses: docker://tool:1
        with: {args: "'with space' b", other: o}
      - uses: docker://tool:1
      - uses: docker://tool:1
        with: {entrypoint: echo, args: by itself}
      - uses: docker/setup-buildx-action@v3
      - uses: docker/build-push-action@v6
        id: image
        with: {context: .maru/actions/one, build-args: "A=1", target: t}
      - run: echo "built ${{ steps.image.outputs.digest }}"
`}, nil, nil)
	if got.conclusion != maru.Success {
		t.Fatalf("%s\n%s\n%s", got.conclusion, got.log(), got.of(maru.RunAnnotation))
	}
	for _, want := range []string{
		"first tea second in workspace, with tea  own step\nhere\n", "got tea more 1", "with space b in workspace, with  o  \n", "without args in workspace", "\nby itself\n",
		"built sha256:0", "\nstep 1\n", "/workspace",
	} {
		if !strings.Contains(got.log()+"\n", want) {
			t.Errorf("the log lacks %q:\n%s", want, got.log())
		}
	}
	if want := "Dockerfile of [Dockerfile action.yml] map[], Dockerfile of [Dockerfile action.yml] map[A:1]t"; strings.Join(builder.requests, ", ") != want {
		t.Errorf("built: %s", strings.Join(builder.requests, ", "))
	}
}

// TestImagesAreHandedOver: what a job hands over comes with its end, and is one image by digest for a service.
func TestImagesAreHandedOver(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for lines, want := range map[string]string{
		"web=example.com/shop/web:1@" + digest + "\\n# by hand\\nworker=shop/worker@" + digest: "web example.com/shop/web:1@" + digest + ", worker docker.io/shop/worker@" + digest,
		"web=shop/web:1":                         "has no digest",
		"web":                                    "web",
		"=x@" + digest:                           "is not SERVICE=IMAGE",
		"web=:@" + digest:                        "the image of web",
		"web=a@" + digest + "\\nweb=b@" + digest: "is docker.io/library/a@" + digest + " already",
	} {
		r := newRig(t)
		got := r.run(t.Context(), map[string]string{".maru/workflows/w.yml": "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: 'printf \"" + lines + "\" >> $MARU_IMAGES'}]\n"}, nil, nil)
		var told []string
		for _, e := range got.events {
			if e.Kind == maru.JobEnded {
				for _, service := range slices.Sorted(maps.Keys(e.Images)) {
					told = append(told, service+" "+e.Images[service])
				}
			}
		}
		if got.conclusion == maru.Failure {
			told = append(told, got.of(maru.RunAnnotation))
		}
		if text := strings.Join(told, ", "); !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %s", lines, text, want)
		}
	}
}

// TestAgain runs what failed alone again, with what an event stream kept of the rest.
func TestAgain(t *testing.T) {
	r := newRig(t)
	files := map[string]string{".maru/workflows/w.yml": "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    outputs: {o: \"${{ steps.s.outputs.o }}\"}\n    steps: [{id: s, run: 'echo first; echo o=1 >> $GITHUB_OUTPUT'}]\n  b:\n    needs: a\n    runs-on: ubuntu-latest\n    steps: [{run: '[ ${{ github.run_attempt }} = 2 ] && echo o=${{ needs.a.outputs.o }}'}]\n"}
	one := r.run(t.Context(), files, nil, nil)
	kept := map[string]schedule.Result{}
	for _, e := range one.events {
		if e.Kind == maru.JobEnded {
			kept[e.Job] = schedule.Result{Conclusion: e.Conclusion, Outputs: e.Outputs}
		}
	}
	two := r.run(t.Context(), files, func(req *pipeline.Request) { req.Kept, req.Attempt = kept, 2 }, nil)
	if one.conclusion != maru.Failure || two.conclusion != maru.Success || two.log() != "o=1" {
		t.Errorf("%s, then %s: %s", one.conclusion, two.conclusion, two.log())
	}
}

func TestDispatchInputs(t *testing.T) {
	files := map[string]string{".maru/workflows/w.yml": "on: {workflow_dispatch: {inputs: {flag: {type: boolean}, level: {type: choice, options: [a, b], default: a}, need: {required: true}}}}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    if: inputs.flag\n    steps: [{run: 'echo ${{ inputs.level }} ${{ inputs.need }} ${{ github.event.inputs.flag }}'}]\n"}
	r := newRig(t)
	got := r.run(t.Context(), files, func(req *pipeline.Request) {
		req.Event.Name, req.Inputs = "workflow_dispatch", map[string]string{"flag": "true", "need": "x"}
	}, nil)
	if got.log() != "a x true" {
		t.Errorf("%s %s", got.log(), got.conclusion)
	}
	p, _ := r.project(files)
	for _, inputs := range []map[string]string{{}, {"need": "x", "level": "z"}, {"need": "x", "flag": "maybe"}, {"need": "x", "other": "y"}} {
		if _, err := r.pipeline.Run(t.Context(), pipeline.Request{ID: "x", Project: p, Workflow: p.Workflows[0], Event: pipeline.Event{Name: "workflow_dispatch"}, Inputs: inputs}, func(maru.RunEvent) {}); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%v: %v", inputs, err)
		}
	}
}

// TestEventsAreJSON: what a run tells can be kept and sent.
func TestEventsAreJSON(t *testing.T) {
	got := newRig(t).run(t.Context(), workflowOf("      - run: printf 'a\\377b\\n'; echo '# S' >> $GITHUB_STEP_SUMMARY\n"), nil, nil)
	for _, e := range got.events {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var again maru.RunEvent
		if err := json.Unmarshal(data, &again); err != nil {
			t.Fatal(err)
		}
	}
	if got.of(maru.RunSummary) != "# S\n" || got.log() != "a\uFFFDb" {
		t.Errorf("%q %q", got.of(maru.RunSummary), got.log())
	}
}

// TestReports: what tests wrote to JUnit's files is told at the end of the job.
func TestReports(t *testing.T) {
	got := newRig(t).run(t.Context(), workflowOf("      - run: |\n          mkdir -p build/test-results\n          echo '<testsuite name=\"s\"><testcase name=\"a\"/><testcase name=\"b\"><failure message=\"no s3cr3t-value\"/></testcase></testsuite>' > build/test-results/TEST-a.xml\n          echo '<other/>' > junit.xml; echo broken > test-x.xml\n"), nil, nil)
	var tests []string
	for _, e := range got.events {
		if e.Tests != nil {
			tests = append(tests, fmt.Sprintf("%d %d %v", e.Tests.Passed, e.Tests.Failed, e.Tests.Tests))
		}
	}
	if strings.Join(tests, ";") != "1 1 [{s b no ***  0}]" {
		t.Errorf("%q", tests)
	}
}

// TestWhichImage: the label's image that people chose is taken before that of a setup action, and that one before
// the usual one of the label.
func TestWhichImage(t *testing.T) {
	const setupGo = "actions/setup-go@v5\n        with: {go-version: '1.26'}"
	for _, c := range []struct{ runsOn, use, container, want string }{
		{"ubuntu-latest", setupGo, "", "docker.io/library/golang:1.26"},
		{"ubuntu-latest", "actions/checkout@v4", "", "docker.io/library/buildpack-deps:noble"},
		{"chosen", setupGo, "", "team/jobs:1"},
		{"chosen", setupGo, "container: named:1\n    ", "named:1"},
	} {
		r := newRig(t)
		var asked []string
		labels := runner.DefaultLabels()
		labels["chosen"] = "team/jobs:1"
		r.pipeline = pipeline.New(&runner.Runner{
			Machine: &process.Machine{Root: t.TempDir(), Images: func(ref string) bool { asked = append(asked, ref); return false }},
			Labels:  labels, Toolchains: runner.DefaultToolchains(),
		}, 1)
		r.run(t.Context(), map[string]string{".maru/workflows/w.yml": fmt.Sprintf(`on: push
jobs:
  j:
    runs-on: %s
    %ssteps:
      - uses: %s
`, c.runsOn, c.container, c.use)}, nil, nil)
		if len(asked) != 1 || asked[0] != c.want {
			t.Errorf("%s, %s: the image is %v, not %s", c.runsOn, c.use, asked, c.want)
		}
	}
}
