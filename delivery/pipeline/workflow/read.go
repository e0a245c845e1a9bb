package workflow

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
)

// Parse reads a workflow file. The workflow is nil when the issues have a fault.
func Parse(path string, data []byte) (*Workflow, Issues) {
	r := &reader{path: path}
	root := r.load(data)
	var w *Workflow
	if root != nil {
		w = r.workflow(root)
		r.treat(root, "")
		r.checkJobs(w)
		r.takeLinted()
	}
	issues := r.issues.sorted()
	if issues.Err() != nil {
		return nil, issues
	}
	return w, issues
}

// reader reads one file.
type reader struct {
	path   string
	issues Issues
	linted Issues
	action bool // the file is an action's, whose steps have fewer contexts
}

// load reads the YAML and has its shape checked. Without a root nothing can be read.
func (r *reader) load(data []byte) *yaml.Node {
	root, aliases, err := parseYAML(data)
	if err != nil {
		p, text := yamlPlace(err)
		r.fail(p, "", "%s", text)
		return nil
	}
	r.lint(data, root, aliases)
	if aliases {
		root = written(root)
	}
	if root.Kind != yaml.MappingNode {
		r.fail(at(root), "", "a workflow is a mapping with the keys on and jobs")
		return nil
	}
	return root
}

var yamlLine = regexp.MustCompile(`(?:line (\d+)(?:, column (\d+))?|(\d+):(\d+))`)

// yamlPlace takes the place out of a YAML library's message.
func yamlPlace(err error) (Position, string) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	m := yamlLine.FindStringSubmatch(text)
	if m == nil {
		return Position{}, text
	}
	number := func(a, b string) int { n, _ := strconv.Atoi(a + b); return n }
	return Position{number(m[1], m[3]), max(1, number(m[2], m[4]))}, "this is not YAML: " + text
}

func (r *reader) fail(p Position, key, format string, args ...any) {
	r.issues = append(r.issues, Issue{File: r.path, Line: p.Line, Column: p.Column, Key: key, Message: fmt.Sprintf(format, args...), Kind: maru.Invalid})
}

func (r *reader) refuse(p Position, key, message, hint string) {
	r.issues = append(r.issues, Issue{File: r.path, Line: p.Line, Column: p.Column, Key: key, Message: message, Hint: hint, Kind: maru.Unsupported})
}

func (r *reader) warn(p Position, key, message, hint string) {
	r.issues = append(r.issues, Issue{File: r.path, Line: p.Line, Column: p.Column, Key: key, Message: message, Hint: hint})
}

// text reads a scalar with expressions. where is the key of GitHub's table of contexts, "" where no
// expression may be.
func (r *reader) text(n *yaml.Node, where string) expr.Text {
	if n == nil || n.Kind != yaml.ScalarNode {
		return expr.Text{}
	}
	t, err := expr.ParseText(words(n))
	if err != nil {
		r.badExpression(n, err)
		return expr.Text{}
	}
	r.checkNames(n, t.Exprs(), where)
	return t
}

// whole gives the expression that a value is instead of a mapping or a list.
func (r *reader) whole(n *yaml.Node, where string) *expr.Text {
	if n == nil || n.Kind != yaml.ScalarNode || isNull(n) {
		return nil
	}
	t := r.text(n, where)
	if t.Whole() == nil {
		return nil
	}
	return &t
}

func (r *reader) condition(n *yaml.Node, where string) expr.Condition {
	if n == nil || n.Kind != yaml.ScalarNode {
		return expr.Condition{}
	}
	c, err := expr.ParseCondition(words(n))
	if err != nil {
		r.badExpression(n, err)
		return expr.Condition{}
	}
	r.checkNames(n, c.Exprs(), where)
	if c.Mixed() {
		r.warn(at(n), "", "this condition is a text with expressions in it, which always holds", "put all of it between ${{ and }}, or leave both out")
	}
	return c
}

// within gives the place of something in a scalar's text.
func within(n *yaml.Node, line, column int) Position {
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return Position{n.Line + line, column}
	case line == 1 && plain(n):
		return Position{n.Line, n.Column + column - 1}
	case line == 1:
		return Position{n.Line, n.Column + column}
	}
	return Position{n.Line + line - 1, column}
}

func (r *reader) badExpression(n *yaml.Node, err error) {
	var e *expr.SyntaxError
	if errors.As(err, &e) {
		r.fail(within(n, e.Line, e.Column), "", "the expression can't be read: %s", e.Message)
	}
}

// checkNames tells of contexts and functions that are not there, or not available where they are.
func (r *reader) checkNames(n *yaml.Node, all []expr.Placed, where string) {
	if len(all) == 0 {
		return
	}
	if where == "" {
		r.fail(within(n, all[0].Line, all[0].Column), "", "no expression can be here: the value is needed before there are any contexts")
		return
	}
	contexts, functions := actionlint.WorkflowKeyAvailability(where)
	if r.action {
		contexts = slices.DeleteFunc(slices.Clone(contexts), func(c string) bool { return c == "secrets" || c == "needs" })
	}
	for _, p := range all {
		usedContexts, usedFunctions := p.Expr.Names()
		place := func(name expr.Name) Position {
			line, column := p.Line+name.Line-1, name.Column
			if name.Line == 1 {
				column += p.Column - 1
			}
			return within(n, line, column)
		}
		for _, c := range usedContexts {
			if !slices.Contains(contexts, c.Name) {
				r.fail(place(c), "", "%s", noContext(c.Name, contexts))
			}
		}
		for _, f := range usedFunctions {
			if wrong := expr.CheckCall(f); wrong != "" {
				r.fail(place(f), "", "%s", wrong)
			} else if _, special := actionlint.SpecialFunctionNames[f.Name]; special && !slices.Contains(functions, f.Name) {
				r.fail(place(f), "", "the function %s is not available here", f.Name)
			}
		}
		if slices.Contains(p.Expr.Properties("secrets"), "github_token") || slices.Contains(p.Expr.Properties("github"), "token") {
			r.warn(place(expr.Name{Line: 1, Column: 1}), "", "Maru makes no token of GitHub's; this is empty unless a secret of this name is set", "set a secret of your own for what needs one")
		}
	}
}

func noContext(name string, available []string) string {
	if _, ok := actionlint.BuiltinGlobalVariableTypes[name]; !ok {
		return fmt.Sprintf("there is no context %s", name)
	}
	return fmt.Sprintf("the context %s is not available here; these are: %s", name, strings.Join(available, ", "))
}

// vars reads a mapping of names and values.
func (r *reader) vars(n *yaml.Node, where string) []Var {
	var all []Var
	for k, v := range fields(n) {
		all = append(all, Var{Name: k.Value, Value: r.text(v, where), At: at(k)})
	}
	return all
}

func (r *reader) env(n *yaml.Node, where string) Vars {
	if whole := r.whole(n, where); whole != nil {
		return Vars{Whole: whole}
	}
	return Vars{List: r.vars(n, where)}
}
