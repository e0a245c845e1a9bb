package runner

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/machine"
	"github.com/marucloud/maru/delivery/pipeline/schedule"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// job is a job at work. Its steps run one after the other, so that it needs no lock but for what
// cancels it.
type job struct {
	*Runner
	task   Task
	def    *workflow.Job
	masks  *Masks
	debug  bool
	c      machine.Container
	github *expr.Object
	runner *expr.Object
	info   *expr.Object      // the context job
	env    variables         // of the workflow, the job, and what steps wrote to GITHUB_ENV
	path   []string          // folders that steps wrote to GITHUB_PATH, the last first
	posts  []post            // to run at the end, the last first
	images map[string]string // that steps handed over, by service
	failed bool
	number int // of the step at work, from 1

	cancelled atomic.Pointer[string]
	stop      chan struct{} // closed when cancelled
	notes     int
	files     int
	unwritten map[string]string // files for the folder of temporary ones, which the next process finds there
}

// nextFile gives a number for the name of a file.
func (j *job) nextFile() int {
	j.files++
	return j.files
}

// post is what an action does at the end of the job.
type post struct {
	name string
	step *workflow.Step
	when expr.Condition
	do   func(ctx context.Context, s *stepRun) error
	in   *frame
}

func newJob(r *Runner, task Task) *job {
	j := &job{Runner: r, task: task, def: task.Job.Def, masks: &Masks{}, debug: task.Debug, stop: make(chan struct{})}
	secrets := task.Job.Contexts.Secrets
	for _, key := range secrets.Keys() {
		j.masks.Add(expr.String(secrets.Get(key)))
	}
	return j
}

// emit tells an event of the job.
func (j *job) emit(e maru.RunEvent) {
	e.Job = j.task.Job.ID
	j.task.Emit(e)
}

// maxNotes bounds the annotations of a job.
const maxNotes = 500

func (j *job) annotate(e maru.RunEvent) {
	if j.notes++; j.notes > maxNotes {
		return
	}
	e.Kind = maru.RunAnnotation
	e.Text, e.Name, e.File = j.masks.Replace(e.Text), j.masks.Replace(e.Name), j.masks.Replace(e.File)
	j.emit(e)
}

func (j *job) run(ctx context.Context, cancel <-chan string) schedule.Result {
	ctx, finish := context.WithCancelCause(ctx)
	defer finish(nil)
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case why := <-cancel:
			j.cancel(why)
			select {
			case <-time.After(afterCancel):
				finish(maru.Errorf(maru.Interrupted, "the job was cancelled, and did not end in %s", afterCancel))
			case <-over:
			}
		case <-over:
		}
	}()
	result := j.steps(ctx)
	result.Message = j.masks.Replace(result.Message)
	return result
}

func (j *job) cancel(why string) {
	if j.cancelled.CompareAndSwap(nil, &why) {
		close(j.stop)
	}
}

// steps runs the job, from the making of its container to its removal.
func (j *job) steps(ctx context.Context) schedule.Result {
	fail := func(err error) schedule.Result {
		if j.cancelled.Load() != nil {
			return schedule.Result{Conclusion: maru.Cancelled, Message: *j.cancelled.Load()}
		}
		j.annotate(maru.RunEvent{Level: "error", Text: problem(err)})
		return schedule.Result{Conclusion: maru.Failure, Message: problem(err)}
	}
	timeout, err := j.timeout()
	if err != nil {
		return fail(err)
	}
	deadline := time.AfterFunc(timeout, func() { j.cancel(fmt.Sprintf("it did not end in %s", timeout)) })
	defer deadline.Stop()
	if err := j.begin(ctx); err != nil {
		return fail(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), time.Minute, maru.Errorf(maru.Unavailable, "the machine does not answer"))
		defer cancel()
		if err := j.c.Remove(ctx); err != nil {
			j.annotate(maru.RunEvent{Level: "warning", Text: "the job's container could not be removed: " + err.Error()})
		}
	}()
	f := &frame{job: j, steps: expr.NewObject(), inputs: j.task.Job.Contexts.Inputs, top: true, defaults: []workflow.Defaults{j.def.Defaults, j.task.Job.Workflow.Defaults}}
	for _, s := range j.def.Steps {
		j.number++
		f.step(ctx, s)
	}
	j.runPosts(ctx)
	j.takeReports(ctx)
	outputs, err := j.outputs(f)
	switch {
	case j.cancelled.Load() != nil:
		return schedule.Result{Conclusion: maru.Cancelled, Outputs: outputs, Message: *j.cancelled.Load()}
	case err != nil:
		return fail(err)
	case j.failed:
		return schedule.Result{Conclusion: maru.Failure, Outputs: outputs, Message: "a step failed"}
	}
	return schedule.Result{Conclusion: maru.Success, Outputs: outputs, Images: j.images}
}

// problem is an error with its hint.
func problem(err error) string {
	if hint := maru.HintOf(err); hint != "" {
		return err.Error() + " (" + hint + ")"
	}
	return err.Error()
}

func (j *job) timeout() (time.Duration, error) {
	return minutes(j.def.TimeoutMinutes, j.startEnv(), defaultTimeout)
}

func minutes(t expr.Text, env *expr.Env, without time.Duration) (time.Duration, error) {
	if t.IsZero() {
		return without, nil
	}
	v, err := t.Value(env)
	if err != nil {
		return 0, err
	}
	n := expr.Number(v)
	if !(n > 0 && n < 1e6) {
		return 0, maru.Errorf(maru.Invalid, "timeout-minutes is %q, and no number above 0", expr.String(v))
	}
	return time.Duration(n * float64(time.Minute)), nil
}

// startEnv is what expressions are evaluated with before there are steps.
func (j *job) startEnv() *expr.Env {
	c := j.task.Job.Contexts
	github := j.github
	if github == nil {
		github = c.GitHub
	}
	var matrix any
	if j.task.Job.Matrix != nil {
		matrix = j.task.Job.Matrix
	}
	contexts := expr.Map("github", github, "needs", j.task.Job.Needs, "strategy", j.task.Job.Strategy, "matrix", matrix,
		"vars", c.Vars, "secrets", c.Secrets, "inputs", c.Inputs, "env", j.env.object())
	return &expr.Env{Contexts: contexts, Status: expr.Status{Success: true}}
}

// begin makes the container and what steps find in it.
func (j *job) begin(ctx context.Context) error {
	j.emit(maru.RunEvent{Kind: maru.JobStarted, Name: j.task.Job.Name})
	if err := j.beginEnv(); err != nil {
		return err
	}
	spec, err := j.spec()
	if err != nil {
		return err
	}
	making, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-j.stop:
			stop(maru.Errorf(maru.Interrupted, "the job was cancelled"))
		case <-making.Done():
		}
	}()
	if j.c, err = j.Machine.Start(making, spec); err != nil {
		return err
	}
	paths := j.c.Paths()
	j.github = j.task.Job.Contexts.GitHub.Clone()
	j.github.Set("job", j.def.ID)
	j.github.Set("workspace", paths.Workspace)
	j.github.Set("event_path", paths.Temp+"/event.json")
	j.github.Set("workflow", j.task.Job.Workflow.Name)
	j.runner = expr.Map("os", "Linux", "arch", architecture(), "name", "maru", "environment", "self-hosted", "temp", paths.Temp,
		"tool_cache", paths.Temp+"/tools", "debug", map[bool]string{true: "1", false: ""}[j.debug])
	services := expr.NewObject()
	for _, s := range spec.Services {
		ports := expr.NewObject()
		for _, p := range s.Ports {
			ports.Set(maru.Itoa(int(p.Container)), maru.Itoa(int(p.Host)))
		}
		services.Set(s.Name, expr.Map("id", s.Name, "network", spec.ID, "ports", ports))
	}
	j.info = expr.Map("status", "success", "services", services, "container", expr.Map("id", spec.ID, "network", spec.ID))
	j.unwritten = map[string]string{"event.json": string(j.task.Event)}
	return nil
}

// beginEnv evaluates the environment variables of the workflow and the job.
func (j *job) beginEnv() error {
	for _, vars := range []workflow.Vars{j.task.Job.Workflow.Env, j.def.Env} {
		if err := j.env.add(vars, j.startEnv()); err != nil {
			return err
		}
	}
	return nil
}

var notInID = regexp.MustCompile(`[^a-z0-9]+`)

// spec says what the job's container is to be.
func (j *job) spec() (machine.Spec, error) {
	id := strings.Trim(notInID.ReplaceAllString(strings.ToLower(j.task.Run+"-"+j.def.ID), "-"), "-")
	spec := machine.Spec{
		ID:  fmt.Sprintf("%.40s-%s", id, shortHash(j.task.Run+"\x00"+j.task.Job.ID)),
		Env: map[string]string{}, CPUs: j.CPUs, Memory: j.Memory,
		Progress: func(line string) { j.emit(maru.RunEvent{Kind: maru.RunLine, Text: j.masks.Replace(line)}) },
	}
	env := j.startEnv()
	runsOn, err := j.def.RunsOn.Eval(env)
	if err != nil {
		return spec, err
	}
	def := &workflow.Container{}
	if j.def.Container != nil {
		def = j.def.Container
	}
	c, err := evaluate(def, env)
	if err != nil {
		return spec, fmt.Errorf("container: %w", err)
	}
	if c.image.Reference == "" {
		var chosen bool
		if c.image.Reference, chosen, err = j.imageFor(runsOn); err != nil {
			return spec, err
		}
		if image := j.toolchainImage(env); image != "" && !chosen {
			c.image.Reference = image
			spec.Say("the job's image is %s, for its setup step", image)
		}
	}
	spec.Image, spec.User, spec.Hostname, spec.ShmSize, spec.Tmpfs = c.image, c.options.User, c.options.Hostname, c.options.ShmSize, c.options.Tmpfs
	maps.Copy(spec.Env, c.env)
	if c.options.CPUs > 0 {
		spec.CPUs = c.options.CPUs
	}
	if c.options.Memory > 0 {
		spec.Memory = c.options.Memory
	}
	if j.def.ServicesWhole != nil {
		return spec, maru.WithHint(maru.Errorf(maru.Unsupported, "services that an expression gives are not done"), "write the services out; each value in them can be an expression")
	}
	for _, s := range j.def.Services {
		c, err := evaluate(s.Container, env)
		if err != nil {
			return spec, fmt.Errorf("service %s: %w", s.Name, err)
		}
		if c.image.Reference == "" {
			continue // as on GitHub: an expression can leave a service out
		}
		spec.Services = append(spec.Services, c.service(s.Name))
	}
	return spec, nil
}

// outputs evaluates what the job gives.
func (j *job) outputs(f *frame) (map[string]string, error) {
	outputs := map[string]string{}
	for _, v := range j.def.Outputs {
		text, err := v.Value.Eval(f.envFor(nil))
		switch {
		case err != nil:
			return nil, fmt.Errorf("output %s: %w", v.Name, err)
		case len(text) > 1<<20:
			return nil, maru.Errorf(maru.Exhausted, "output %s has more than 1 MiB", v.Name)
		case j.masks.Replace(text) != text:
			j.annotate(maru.RunEvent{Level: "warning", Text: "the output " + v.Name + " is left out: there is a secret in it"})
			continue
		}
		outputs[v.Name] = text
	}
	return outputs, nil
}

// runPosts does what actions left for the end, in the opposite order.
func (j *job) runPosts(ctx context.Context) {
	for len(j.posts) > 0 {
		p := j.posts[len(j.posts)-1]
		j.posts = j.posts[:len(j.posts)-1]
		j.number++
		p.in.post(ctx, p)
	}
}

// variables are environment variables, in order.
type variables struct {
	names  []string
	values map[string]string
}

func (v *variables) set(name, value string) {
	if v.values == nil {
		v.values = map[string]string{}
	}
	if _, ok := v.values[name]; !ok {
		v.names = append(v.names, name)
	}
	v.values[name] = value
}

func (v *variables) clone() variables {
	return variables{slices.Clone(v.names), maps.Clone(v.values)}
}

func (v *variables) object() *expr.Object {
	o := expr.NewObject()
	for _, name := range v.names {
		o.Set(name, v.values[name])
	}
	return o
}

// add evaluates variables and sets them.
func (v *variables) add(vars workflow.Vars, env *expr.Env) error {
	if vars.Whole != nil {
		value, err := vars.Whole.Value(env)
		if err != nil {
			return err
		}
		o, _ := value.(*expr.Object)
		for _, key := range o.Keys() {
			v.set(key, expr.String(o.Get(key)))
		}
		return nil
	}
	for _, one := range vars.List {
		text, err := one.Value.Eval(env)
		if err != nil {
			return err
		}
		v.set(one.Name, text)
	}
	return nil
}
