package schedule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// env gives what the group's expressions are evaluated with; also is set on top of the contexts.
func (r *Run) env(g *group, also *expr.Object) *expr.Env {
	c := g.scope.contexts
	contexts := expr.Map("github", c.GitHub, "vars", c.Vars, "inputs", c.Inputs, "needs", g.scope.needs(g))
	for _, key := range also.Keys() {
		contexts.Set(key, also.Get(key))
	}
	status := expr.Status{Success: !r.cancelled, Cancelled: r.cancelled}
	for _, a := range g.scope.ancestors(g) {
		status.Success = status.Success && a.result == maru.Success
		status.Failure = status.Failure || a.result == maru.Failure
	}
	return &expr.Env{Contexts: contexts, Status: status}
}

// needs is the context of that name.
func (s *scope) needs(g *group) *expr.Object {
	o := expr.NewObject()
	for _, n := range s.needed(g) {
		outputs := n.outputs
		if outputs == nil {
			outputs = expr.NewObject()
		}
		o.Set(n.def.ID, expr.Map("result", string(n.result), "outputs", outputs))
	}
	return o
}

// decide tells whether a group runs, and makes its jobs.
func (r *Run) decide(g *group) []Action {
	g.decided = true
	for _, n := range g.scope.needed(g) {
		g.again = g.again || n.again
	}
	if g.scope.cut != "" {
		return r.alone(g, Result{Conclusion: maru.Cancelled, Message: g.scope.cut})
	}
	env := r.env(g, nil)
	holds, err := g.def.If.Holds(env)
	if err == nil && !holds {
		conclusion, why := maru.Skipped, ""
		if r.cancelled {
			conclusion, why = maru.Cancelled, "the run was cancelled"
		}
		return r.alone(g, Result{Conclusion: conclusion, Message: why})
	}
	if err == nil {
		err = r.expand(g, env)
	}
	if err != nil {
		return r.alone(g, Result{Conclusion: maru.Failure, Message: err.Error()})
	}
	var actions []Action
	for _, j := range g.jobs {
		actions = append(actions, Action{Kind: Queue, Job: j})
	}
	return actions
}

// alone gives the group one job, which is over.
func (r *Run) alone(g *group, result Result) []Action {
	j := r.newJob(g, nil, 0, 1)
	j.Name = j.ID
	g.jobs = []*Job{j}
	return r.endUnstarted(j, result)
}

func (r *Run) expand(g *group, env *expr.Env) error {
	matrix := []*expr.Object{nil}
	if m := g.def.Strategy.Matrix; m != nil {
		var err error
		if matrix, err = m.Expand(env); err != nil {
			return fmt.Errorf("job %s: %w", g.def.ID, err)
		}
	}
	failFast, err := flag(g.def.Strategy.FailFast, env, true)
	if err != nil {
		return err
	}
	g.failFast = failFast
	if t := g.def.Strategy.MaxParallel; !t.IsZero() {
		v, err := t.Value(env)
		if err != nil {
			return err
		}
		if n := expr.Number(v); n >= 1 {
			g.parallel = int(n)
		}
	}
	var jobs []*Job
	for i, m := range matrix {
		j := r.newJob(g, m, i, len(matrix))
		if err := r.describe(j); err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	g.jobs = jobs
	return nil
}

func (r *Run) newJob(g *group, matrix *expr.Object, index, total int) *Job {
	id := g.scope.prefix + g.def.ID
	if matrix != nil {
		id += " (" + strings.Join(leaves(matrix), ", ") + ")"
	}
	for n := 2; r.ids[id] != nil; n++ {
		id = fmt.Sprintf("%s #%d", strings.TrimSuffix(id, fmt.Sprintf(" #%d", n-1)), n)
	}
	parallel := float64(total)
	if g.parallel > 0 {
		parallel = float64(g.parallel)
	}
	j := &Job{
		ID: id, Def: g.def, Workflow: g.scope.workflow, Contexts: g.scope.contexts, Needs: g.scope.needs(g), Matrix: matrix, group: g,
		Strategy: expr.Map("fail-fast", g.failFast, "job-index", float64(index), "job-total", float64(total), "max-parallel", parallel),
	}
	r.ids[id] = j
	return j
}

// describe evaluates what has to be known of a job before it starts.
func (r *Run) describe(j *Job) error {
	var matrix any
	if j.Matrix != nil {
		matrix = j.Matrix
	}
	env := r.env(j.group, expr.Map("matrix", matrix, "strategy", j.Strategy))
	name, err := j.Def.Name.Eval(env)
	if err != nil {
		return err
	}
	switch {
	case name == "":
		j.Name = j.ID
	case j.Matrix != nil && j.Def.Name.IsLiteral():
		j.Name = j.group.scope.prefix + name + " (" + strings.Join(leaves(j.Matrix), ", ") + ")"
	default:
		j.Name = j.group.scope.prefix + name
	}
	j.continueOnError, err = flag(j.Def.ContinueOnError, env, false)
	return err
}

// leaves are the values in a value that have none below.
func leaves(v any) []string {
	switch v := v.(type) {
	case *expr.Object:
		var all []string
		for _, key := range v.Keys() {
			all = append(all, leaves(v.Get(key))...)
		}
		return all
	case *expr.Array:
		var all []string
		for _, item := range v.Items {
			all = append(all, leaves(item)...)
		}
		return all
	}
	return []string{expr.String(v)}
}

func flag(t expr.Text, env *expr.Env, without bool) (bool, error) {
	if t.IsZero() {
		return without, nil
	}
	v, err := t.Value(env)
	if err != nil {
		return false, err
	}
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		if v == "true" || v == "false" {
			return v == "true", nil
		}
	}
	return false, maru.Errorf(maru.Invalid, "%s is %q, and neither true nor false", t.Source(), expr.String(v))
}

// call begins the workflow that a job uses.
func (r *Run) call(j *Job) error {
	w := r.project.Called(j.Def.Uses)
	if w == nil || w.Call == nil {
		return maru.Errorf(maru.Invalid, "%s is not there", j.Def.Uses)
	}
	var matrix any
	if j.Matrix != nil {
		matrix = j.Matrix
	}
	c := j.Contexts
	env := r.env(j.group, expr.Map("matrix", matrix, "strategy", j.Strategy, "secrets", c.Secrets))
	inputs := expr.NewObject()
	for _, in := range w.Call.Inputs {
		v, err := callInput(in, j.Def.With, env, c)
		if err != nil {
			return err
		}
		inputs.Set(in.Name, v)
	}
	secrets := c.Secrets
	if !j.Def.InheritSecrets {
		secrets = expr.NewObject()
		for _, v := range j.Def.Secrets {
			value, err := v.Value.Eval(env)
			if err != nil {
				return err
			}
			secrets.Set(v.Name, value)
		}
	}
	for _, in := range w.Call.Secrets {
		if in.Required && expr.String(secrets.Get(in.Name)) == "" {
			return maru.WithHint(maru.Errorf(maru.Invalid, "%s needs the secret %s, which is not set", j.Def.Uses, in.Name), "set it, or see whether this branch is trusted with secrets")
		}
	}
	j.called = newScope(w, Contexts{GitHub: c.GitHub, Vars: c.Vars, Inputs: inputs, Secrets: secrets}, j.ID+" / ")
	return nil
}

// callInput gives an input its value, of the type that it says.
func callInput(in workflow.Input, with []workflow.Var, env *expr.Env, c Contexts) (any, error) {
	i := slices.IndexFunc(with, func(v workflow.Var) bool { return strings.EqualFold(v.Name, in.Name) })
	if i < 0 {
		if in.Default == nil {
			return TypedInput(in, nil)
		}
		v, err := in.Default.Value(&expr.Env{Contexts: expr.Map("github", c.GitHub, "vars", c.Vars, "inputs", expr.NewObject())})
		if err != nil {
			return nil, err
		}
		return TypedInput(in, v)
	}
	v, err := with[i].Value.Value(env)
	if err != nil {
		return nil, err
	}
	return TypedInput(in, v)
}

// TypedInput makes a value one of the input's type. nil gives the type's own: "", 0 or false.
func TypedInput(in workflow.Input, v any) (any, error) {
	text := expr.String(v)
	switch in.Type {
	case "boolean":
		switch text {
		case "true", "false":
			return text == "true", nil
		case "":
			return false, nil
		}
		return nil, maru.Errorf(maru.Invalid, "the input %s is %q, and neither true nor false", in.Name, text)
	case "number":
		f := expr.Number(v)
		if f != f {
			return nil, maru.Errorf(maru.Invalid, "the input %s is %q, and no number", in.Name, text)
		}
		return f, nil
	case "choice":
		if !slices.Contains(in.Options, text) && (text != "" || in.Required) {
			return nil, maru.Errorf(maru.Invalid, "the input %s is %q, and not one of %s", in.Name, text, strings.Join(in.Options, ", "))
		}
	}
	return text, nil
}

// endCall takes the end of the workflow that a job uses for the job's.
func (r *Run) endCall(j *Job) {
	result := Result{Conclusion: j.called.conclusion(), Outputs: map[string]string{}}
	if result.Conclusion == maru.Skipped {
		result.Conclusion = maru.Success
	}
	jobs := expr.NewObject()
	for _, g := range j.called.groups {
		jobs.Set(g.def.ID, expr.Map("result", string(g.result), "outputs", g.outputs))
	}
	c := j.called.contexts
	env := &expr.Env{Contexts: expr.Map("jobs", jobs, "github", c.GitHub, "inputs", c.Inputs, "vars", c.Vars)}
	for _, v := range j.called.workflow.Call.Outputs {
		text, err := v.Value.Eval(env)
		if err != nil {
			result = Result{Conclusion: maru.Failure, Message: err.Error()}
			break
		}
		result.Outputs[v.Name] = text
	}
	r.end(j, result)
}
