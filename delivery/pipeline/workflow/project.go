package workflow

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxCalls is how deep workflows, and how deep composite actions, may use others. It is GitHub's limit.
const maxCalls = 10

// Project is the workflows of a source tree, with the workflows and actions that they use.
type Project struct {
	Workflows []*Workflow // of the folder, sorted by path
	called    map[string]*Workflow
	actions   map[string]*Action
}

// Folder is where the workflows of an app are: .github/workflows once the app says so.
func Folder(github bool) string {
	if github {
		return ".github/workflows"
	}
	return ".maru/workflows"
}

// Load reads the workflows of a folder, and what they use. A folder that is not there has none. Of
// what has faults nothing is given; the issues say why.
func Load(tree fs.FS, folder string) (*Project, Issues) {
	l := &loader{tree: tree, project: &Project{called: map[string]*Workflow{}, actions: map[string]*Action{}}}
	entries, err := fs.ReadDir(tree, folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.issues = append(l.issues, Issue{File: folder, Message: err.Error(), Kind: "invalid"})
	}
	for _, e := range entries {
		if ext := path.Ext(e.Name()); e.IsDir() || ext != ".yml" && ext != ".yaml" {
			continue
		}
		if w := l.workflow(path.Join(folder, e.Name())); w != nil {
			l.project.Workflows = append(l.project.Workflows, w)
		}
	}
	for _, w := range slices.Clone(l.project.Workflows) {
		l.calls(w, []string{w.Path})
	}
	l.project.Workflows = slices.DeleteFunc(l.project.Workflows, func(w *Workflow) bool { return l.broken[w.Path] })
	return l.project, l.issues.sorted()
}

// Add puts a workflow into the project that is in no file, such as the default one.
func (p *Project) Add(w *Workflow) { p.Workflows = append(p.Workflows, w) }

// Called gives the workflow that a job uses, nil for one that the project does not know.
func (p *Project) Called(uses string) *Workflow { return p.called[clean(uses)] }

// Action gives the action of the source tree that a step uses, nil for one that the project does not
// know.
func (p *Project) Action(uses string) *Action { return p.actions[clean(uses)] }

func clean(uses string) string { return path.Clean(strings.TrimPrefix(uses, "./")) }

type loader struct {
	tree    fs.FS
	project *Project
	issues  Issues
	broken  map[string]bool
}

func (l *loader) fail(file string, p Position, key, format string, args ...any) {
	l.issues = append(l.issues, Issue{File: file, Line: p.Line, Column: p.Column, Key: key, Message: fmt.Sprintf(format, args...), Kind: "invalid"})
	if l.broken == nil {
		l.broken = map[string]bool{}
	}
	l.broken[file] = true
}

// workflow reads a file once.
func (l *loader) workflow(file string) *Workflow {
	if w, ok := l.project.called[file]; ok {
		return w
	}
	data, err := readFile(l.tree, file)
	if err != nil {
		l.fail(file, Position{}, "", "%v", err)
		return nil
	}
	w, issues := Parse(file, data)
	l.issues = append(l.issues, issues...)
	l.project.called[file] = w
	return w
}

func readFile(tree fs.FS, file string) ([]byte, error) {
	info, err := fs.Stat(tree, file)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no file")
	case info.Size() > maxFile:
		return nil, fmt.Errorf("the file has more than %d bytes", maxFile)
	}
	return fs.ReadFile(tree, file)
}

// calls reads what a workflow uses, and checks how.
func (l *loader) calls(w *Workflow, path []string) {
	for _, j := range w.Jobs {
		l.steps(w.Path, j.Steps, nil)
		if j.Uses == "" {
			continue
		}
		const key = "jobs.*.uses"
		file := clean(j.Uses)
		if slices.Contains(path, file) || len(path) >= maxCalls {
			l.fail(w.Path, j.At, key, "the job %s uses %s, which uses it in turn, or more than %d deep", j.ID, j.Uses, maxCalls)
			continue
		}
		if _, err := fs.Stat(l.tree, file); err != nil || !fs.ValidPath(file) {
			l.fail(w.Path, j.At, key, "the job %s uses %s, which is not in the source tree", j.ID, j.Uses)
			continue
		}
		called := l.workflow(file)
		switch {
		case called == nil:
			l.fail(w.Path, j.At, key, "the job %s uses %s, which has faults", j.ID, j.Uses)
		case called.Call == nil:
			l.fail(w.Path, j.At, key, "the job %s uses %s, which does not have on: workflow_call", j.ID, j.Uses)
		default:
			l.arguments(w.Path, j, called.Call)
			l.calls(called, append(slices.Clip(path), file))
		}
	}
}

// arguments checks what a job gives the workflow that it uses.
func (l *loader) arguments(file string, j *Job, c *Call) {
	check := func(what string, given []Var, wanted []Input) {
		for _, v := range given {
			if !slices.ContainsFunc(wanted, func(in Input) bool { return sameName(in.Name, v.Name) }) {
				l.fail(file, v.At, "jobs.*."+what, "%s has no %s of the name %s", j.Uses, strings.TrimSuffix(what, "s"), v.Name)
			}
		}
		for _, in := range wanted {
			if in.Required && !slices.ContainsFunc(given, func(v Var) bool { return sameName(v.Name, in.Name) }) {
				l.fail(file, j.At, "jobs.*."+what, "%s needs %s in %s", j.Uses, in.Name, what)
			}
		}
	}
	check("with", j.With, c.Inputs)
	if !j.InheritSecrets {
		check("secrets", j.Secrets, c.Secrets)
	}
}

// steps reads the actions of the source tree that steps use.
func (l *loader) steps(file string, steps []*Step, above []string) {
	for _, s := range steps {
		if !strings.HasPrefix(s.Uses, "./") {
			continue
		}
		const key = "jobs.*.steps.uses"
		folder := clean(s.Uses)
		if slices.Contains(above, folder) || len(above) >= maxCalls {
			l.fail(file, s.At, key, "%s uses itself, or others more than %d deep", s.Uses, maxCalls)
			continue
		}
		a, known := l.project.actions[folder]
		if !known {
			a = l.action(file, folder, s)
			l.project.actions[folder] = a
		}
		if a == nil {
			l.fail(file, s.At, key, "the action %s is not there, or has faults", s.Uses)
			continue
		}
		for _, in := range a.Inputs {
			if in.Required && in.Default == nil && !slices.ContainsFunc(s.With, func(v Var) bool { return sameName(v.Name, in.Name) }) {
				l.issues = append(l.issues, Issue{File: file, Line: s.At.Line, Column: s.At.Column, Key: "jobs.*.steps.with",
					Message: s.Uses + " wants the input " + in.Name, Hint: "give it in with"})
			}
		}
		l.steps(path.Join(folder, "action.yml"), a.Steps, append(slices.Clip(above), folder))
	}
}

func (l *loader) action(file, folder string, s *Step) *Action {
	if !fs.ValidPath(folder) {
		l.fail(file, s.At, "jobs.*.steps.uses", "%s is not in the source tree", s.Uses)
		return nil
	}
	for _, name := range []string{"action.yml", "action.yaml"} {
		at := path.Join(folder, name)
		data, err := readFile(l.tree, at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			l.fail(at, Position{}, "", "%v", err)
			return nil
		}
		a, issues := parseAction(at, folder, data)
		l.issues = append(l.issues, issues...)
		return a
	}
	l.fail(file, s.At, "jobs.*.steps.uses", "there is no %s", path.Join(folder, "action.yml"))
	return nil
}
