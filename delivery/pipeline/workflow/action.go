package workflow

import (
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru/delivery/pipeline/expr"
)

// Using is what an action is made of.
type Using string

// The kinds of action that run here.
const (
	Composite  Using = "composite"
	JavaScript Using = "node"
	Docker     Using = "docker" // an image
)

// ImagePrefix begins what names an image, where it could be something else.
const ImagePrefix = "docker://"

// Action is an action of the source tree.
type Action struct {
	Folder  string // in the source tree
	Name    string
	Inputs  []Input
	Outputs []Var // of a composite action
	Using   Using
	Steps   []*Step

	Main, Pre, Post string // of a JavaScript action: files in Folder; of an image: its entry points, "" for its own
	PreIf, PostIf   expr.Condition

	Image string // docker://IMAGE, or a Dockerfile in Folder
	Args  []expr.Text
	Env   Vars
}

// ImageAction is what a step is that uses docker://IMAGE.
func ImageAction(s *Step) (a *Action, ok bool) {
	if !strings.HasPrefix(s.Uses, ImagePrefix) {
		return nil, false
	}
	return &Action{Using: Docker, Image: s.Uses}, true
}

// parseAction reads an action.yml.
func parseAction(path, folder string, data []byte) (*Action, Issues) {
	r := &reader{path: path, action: true}
	root, _, err := parseYAML(data)
	if err != nil {
		p, text := yamlPlace(err)
		r.fail(p, "", "%s", text)
		return nil, r.issues
	}
	root = written(root)
	a := &Action{Folder: folder, Name: words(field(root, "name")), Inputs: r.inputs(field(root, "inputs"), "jobs.<job_id>.steps.with")}
	runs := field(root, "runs")
	if runs == nil {
		r.fail(at(root), "", "the action has no runs")
		return nil, r.issues
	}
	using := words(field(runs, "using"))
	switch {
	case using == string(Composite):
		a.Using = Composite
		r.composite(a, root, runs)
	case strings.HasPrefix(using, "node"):
		a.Using = JavaScript
		a.Main, a.Pre, a.Post = words(field(runs, "main")), words(field(runs, "pre")), words(field(runs, "post"))
		a.PreIf, a.PostIf = r.alwaysUnless(field(runs, "pre-if")), r.alwaysUnless(field(runs, "post-if"))
		for _, file := range []string{a.Main, a.Pre, a.Post} {
			if !local(file) {
				r.fail(at(runs), "", "the file %q is not one of the action's folder", file)
			}
		}
		if a.Main == "" {
			r.fail(at(runs), "", "a JavaScript action has the key main")
		}
	case using == "docker":
		a.Using = Docker
		r.docker(a, runs)
	default:
		r.fail(at(runs), "", "runs.using is %q, and not composite, docker, or node20 or the like", using)
	}
	issues := r.issues.sorted()
	if issues.Err() != nil {
		return nil, issues
	}
	return a, issues
}

func (r *reader) docker(a *Action, runs *yaml.Node) {
	a.Image = words(field(runs, "image"))
	a.Main, a.Pre, a.Post = words(field(runs, "entrypoint")), words(field(runs, "pre-entrypoint")), words(field(runs, "post-entrypoint"))
	a.PreIf, a.PostIf = r.alwaysUnless(field(runs, "pre-if")), r.alwaysUnless(field(runs, "post-if"))
	a.Env = r.env(field(runs, "env"), "jobs.<job_id>.steps.env")
	for _, n := range items(field(runs, "args")) {
		a.Args = append(a.Args, r.text(n, "jobs.<job_id>.steps.with"))
	}
	switch {
	case a.Image == "" || a.Image == ImagePrefix:
		r.fail(at(runs), "", "an action that is an image has the key image: a Dockerfile, or docker://IMAGE")
	case !strings.HasPrefix(a.Image, ImagePrefix) && !local(a.Image):
		r.fail(at(field(runs, "image")), "", "the Dockerfile %q is not one of the action's folder", a.Image)
	}
}

// alwaysUnless reads pre-if and post-if, which are always() when they are not there.
func (r *reader) alwaysUnless(n *yaml.Node) expr.Condition {
	if n == nil {
		c, _ := expr.ParseCondition("always()")
		return c
	}
	return r.condition(n, "jobs.<job_id>.steps.if")
}

func (r *reader) composite(a *Action, root, runs *yaml.Node) {
	for k, v := range fields(field(root, "outputs")) {
		a.Outputs = append(a.Outputs, Var{k.Value, r.text(field(v, "value"), "jobs.<job_id>.outputs.<output_id>"), at(k)})
	}
	steps := field(runs, "steps")
	for _, n := range items(steps) {
		s := r.step(n)
		a.Steps = append(a.Steps, s)
		switch {
		case s.Uses == "" && field(n, "run") == nil:
			r.fail(s.At, "jobs.*.steps", "a step has run or uses")
		case s.Uses == "" && s.Shell.IsZero():
			r.fail(s.At, "jobs.*.steps.shell", "a step of a composite action says its shell")
		}
		for k, v := range fields(n) {
			key := "jobs.*.steps." + k.Value
			if _, ok := table()[key]; !ok {
				r.fail(at(k), key, "a step has no key %s", k.Value)
			}
			r.treatKey(k, v, key)
		}
	}
	if len(a.Steps) == 0 {
		r.fail(at(runs), "", "a composite action has steps")
	}
	r.checkSteps(a.Steps)
}

// local tells whether a path stays in its folder.
func local(path string) bool {
	for _, part := range strings.Split(path, "/") {
		if part == ".." {
			return false
		}
	}
	return !strings.HasPrefix(path, "/")
}
