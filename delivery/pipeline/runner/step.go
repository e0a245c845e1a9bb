package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/machine"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// frame is a list of steps at work: the job's, or those of a composite action.
type frame struct {
	job      *job
	top      bool
	steps    *expr.Object // the context steps
	inputs   *expr.Object
	env      variables // of the steps that use the action, from the outside in
	folder   string    // of the action, in the container
	defaults []workflow.Defaults
	failed   bool
}

// stepRun is one step at work.
type stepRun struct {
	*frame
	def     *workflow.Step
	number  int
	env     variables // what comes over the job's
	outputs *expr.Object
	state   variables // for the action's end
	files   string    // folder of its file commands; "" without
	late    bool      // it began when the job was cancelled already
	timeout time.Duration
	seen    func(line string)
}

// errStopped is the error of a step that was at work when the job was cancelled.
var errStopped = errors.New("the job was cancelled")

// envFor gives what expressions are evaluated with; over comes over the environment variables.
func (f *frame) envFor(over *variables) *expr.Env {
	j := f.job
	env := j.startEnv()
	all := j.env.clone()
	for _, v := range []*variables{&f.env, over} {
		if v != nil {
			for _, name := range v.names {
				all.set(name, v.values[name])
			}
		}
	}
	status := "success"
	if j.failed {
		status = "failure"
	}
	cancelled := j.cancelled.Load() != nil
	if cancelled {
		status = "cancelled"
	}
	j.info.Set("status", status)
	c := env.Contexts
	c.Set("env", all.object())
	c.Set("job", j.info)
	c.Set("runner", j.runner)
	c.Set("steps", f.steps)
	c.Set("inputs", f.inputs)
	failed := j.failed
	if !f.top {
		failed = f.failed
		github := j.github.Clone()
		github.Set("action_path", f.folder)
		github.Set("action_status", map[bool]string{false: "success", true: "failure"}[failed])
		c.Set("github", github)
		c.Set("secrets", expr.NewObject())
		c.Set("needs", expr.NewObject())
	}
	env.Status = expr.Status{Success: !failed && !cancelled, Failure: failed && !cancelled, Cancelled: cancelled}
	env.HashFiles = j.hashFiles
	return env
}

// step runs a step, if its condition holds.
func (f *frame) step(ctx context.Context, def *workflow.Step) {
	s := &stepRun{frame: f, def: def, number: f.job.number, outputs: expr.NewObject(), late: f.job.cancelled.Load() != nil}
	var holds bool
	err := s.env.add(def.Env, f.envFor(nil))
	if err == nil {
		holds, err = def.If.Holds(f.envFor(&s.env))
	}
	name := s.name()
	if err == nil && !holds {
		if f.top {
			f.job.emit(maru.RunEvent{Kind: maru.StepEnded, Step: s.number, Name: name, Conclusion: maru.Skipped})
		}
		f.record(def, s.outputs, maru.Skipped, maru.Skipped)
		return
	}
	s.begin(name)
	if err == nil {
		err = s.run(ctx)
	}
	s.end(name, err)
}

func (f *frame) record(def *workflow.Step, outputs *expr.Object, outcome, conclusion maru.Conclusion) {
	if def.ID != "" {
		f.steps.Set(def.ID, expr.Map("outputs", outputs, "outcome", string(outcome), "conclusion", string(conclusion)))
	}
}

func (s *stepRun) begin(name string) {
	if s.top {
		s.job.emit(maru.RunEvent{Kind: maru.StepStarted, Step: s.number, Name: name})
	} else {
		s.job.emit(maru.RunEvent{Kind: maru.RunGroup, Step: s.number, Text: name})
	}
}

// end tells how the step ended.
func (s *stepRun) end(name string, err error) {
	outcome := maru.Success
	switch {
	case errors.Is(err, errStopped):
		outcome = maru.Cancelled
	case err != nil:
		outcome = maru.Failure
		s.job.annotate(maru.RunEvent{Step: s.number, Level: "error", Text: problem(err)})
	}
	conclusion := outcome
	if outcome == maru.Failure {
		goOn, flagErr := s.boolean(s.def.ContinueOnError)
		if flagErr != nil {
			s.job.annotate(maru.RunEvent{Step: s.number, Level: "error", Text: problem(flagErr)})
		}
		if goOn {
			conclusion = maru.Success
		} else {
			s.fail()
		}
	}
	s.record(s.def, s.outputs, outcome, conclusion)
	if !s.top {
		s.job.emit(maru.RunEvent{Kind: maru.RunGroupEnd, Step: s.number})
		return
	}
	e := maru.RunEvent{Kind: maru.StepEnded, Step: s.number, Name: name, Conclusion: conclusion}
	if err != nil {
		e.Text = s.job.masks.Replace(err.Error())
	}
	s.job.emit(e)
}

func (s *stepRun) fail() {
	s.failed = true
	if s.top {
		s.job.failed = true
	}
}

func (s *stepRun) expressions() *expr.Env { return s.envFor(&s.env) }

func (s *stepRun) boolean(t expr.Text) (bool, error) {
	if t.IsZero() {
		return false, nil
	}
	v, err := t.Value(s.expressions())
	if err != nil {
		return false, err
	}
	switch text := expr.String(v); text {
	case "true", "false", "":
		return text == "true", nil
	default:
		return false, maru.Errorf(maru.Invalid, "%s is %q, and neither true nor false", t.Source(), text)
	}
}

// name is what the step is called, secrets masked.
func (s *stepRun) name() string {
	name, err := s.def.Name.Eval(s.expressions())
	if err != nil {
		name = s.def.Name.Source()
	}
	switch {
	case name != "":
	case s.def.Uses != "":
		name = "Run " + s.def.Uses
	default:
		script, err := s.def.Run.Eval(s.expressions())
		if err != nil {
			script = s.def.Run.Source()
		}
		line, _, _ := strings.Cut(strings.TrimSpace(script), "\n")
		name = "Run " + shorten(line, 80)
	}
	return s.job.masks.Replace(name)
}

// run does what the step says.
func (s *stepRun) run(ctx context.Context) (err error) {
	if s.timeout, err = minutes(s.def.TimeoutMinutes, s.expressions(), 0); err != nil {
		return err
	}
	if s.def.Uses == "" {
		return s.script(ctx)
	}
	with := variables{}
	for _, v := range s.def.With {
		text, err := v.Value.Eval(s.expressions())
		if err != nil {
			return err
		}
		with.set(strings.ToLower(v.Name), text)
	}
	if b, ok := workflow.FindBuiltin(s.def.Uses); ok {
		return s.builtin(ctx, b, with)
	}
	if a, ok := workflow.ImageAction(s.def); ok {
		return s.image(ctx, a, with.object(), with)
	}
	a := s.job.task.Project.Action(s.def.Uses)
	if a == nil {
		return maru.Errorf(maru.Invalid, "the action %s was not in the source tree when the run began", s.def.Uses)
	}
	inputs, err := s.actionInputs(a, with)
	if err != nil {
		return err
	}
	switch a.Using {
	case workflow.Composite:
		return s.composite(ctx, a, inputs)
	case workflow.Docker:
		return s.image(ctx, a, inputs, with)
	}
	return s.javaScript(ctx, a, inputs)
}

// site is where a process of a step runs: the job's container, or that of an action that is an image.
type site interface {
	// run unpacks an archive in the folder of temporary files, and runs a command.
	run(ctx context.Context, archive io.Reader, cmd maru.ExecCommand, stdout, stderr io.Writer) (int, error)
	// pack packs a folder into a tar stream, with names relative to it.
	pack(ctx context.Context, dir string, w io.Writer) error
}

// inJob is the job's container.
type inJob struct{ machine.Container }

func (c inJob) run(ctx context.Context, archive io.Reader, cmd maru.ExecCommand, stdout, stderr io.Writer) (int, error) {
	return machine.CopyInExec(ctx, c, c.Paths().Temp, archive, cmd, stdout, stderr)
}

func (c inJob) pack(ctx context.Context, dir string, w io.Writer) error {
	return machine.CopyOut(ctx, c, dir, []string{"."}, w)
}

// exec runs a command of the step in the job's container.
func (s *stepRun) exec(ctx context.Context, args []string, dir string, env map[string]string, files map[string]string) error {
	all := maps.Clone(s.job.unwritten)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, files)
	s.job.unwritten = nil
	return s.execIn(ctx, inJob{s.job.c}, args, dir, env, all)
}

// execIn runs a command of the step, with files in the folder of temporary ones: its lines become the step's log, and the
// commands among them and in its files are done. An exit code other than 0 is an error.
func (s *stepRun) execIn(ctx context.Context, at site, args []string, dir string, env map[string]string, files map[string]string) error {
	j := s.job
	s.files = fmt.Sprintf("commands/%d-%d", s.number, j.nextFile())
	base := path.Join(j.c.Paths().Temp, s.files)
	contents := map[string]string{}
	all := s.processEnv(env)
	for _, f := range fileCommands {
		contents[path.Join(s.files, f.name)] = ""
		all[f.variable] = path.Join(base, f.name)
	}
	maps.Copy(contents, files)
	archive, err := pack(contents)
	if err != nil {
		return err
	}
	var refused []string
	code, err := s.watched(ctx, func(ctx context.Context, signals <-chan string) (int, error) {
		out := &output{job: j, step: s.number, seen: s.seen,
			sink:  func(name, value string) { s.outputs.Set(name, value) },
			state: func(name, value string) { s.state.set(name, value) }}
		var mu sync.Mutex
		stdout, stderr := &lines{mu: &mu, masks: j.masks, take: out.line}, &lines{mu: &mu, masks: j.masks, take: out.line}
		cmd := maru.ExecCommand{Args: args, Dir: dir, Env: all, Signals: signals}
		code, err := at.run(ctx, archive, cmd, stdout, stderr)
		stdout.Close()
		stderr.Close()
		refused = out.refused
		return code, err
	})
	if taken := s.takeFiles(ctx, at); err == nil && taken != nil {
		return taken
	}
	switch {
	case err != nil:
		return err
	case code != 0:
		return maru.Errorf(maru.Invalid, "the process ended with exit code %d", code)
	case refused != nil:
		return maru.WithHint(maru.Errorf(maru.Unsupported, "the command %s is not done any more, since whatever writes a line could use it", refused[0]),
			`write to the file instead: echo "NAME=VALUE" >> "$GITHUB_ENV", echo FOLDER >> "$GITHUB_PATH"`)
	}
	return nil
}

// How long a process has to end after each signal, when its job is cancelled or its step's time is up.
const (
	afterInterrupt = 7500 * time.Millisecond
	afterTerminate = 2500 * time.Millisecond
)

// watched runs something that ends when the job is cancelled or the step's time is up.
func (s *stepRun) watched(ctx context.Context, do func(context.Context, <-chan string) (int, error)) (int, error) {
	ctx, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	over, signals := make(chan struct{}), make(chan string, 2)
	var watch sync.WaitGroup
	var why error
	watch.Go(func() {
		stop := s.job.stop
		if s.late {
			stop = nil
		}
		var up <-chan time.Time
		if s.timeout > 0 {
			timer := time.NewTimer(s.timeout)
			defer timer.Stop()
			up = timer.C
		}
		select {
		case <-over:
			return
		case <-stop:
			why = errStopped
		case <-up:
			why = maru.Errorf(maru.Interrupted, "the step did not end in %s", s.timeout)
		}
		for _, next := range []struct {
			signal string
			wait   time.Duration
		}{{"SIGINT", afterInterrupt}, {"SIGTERM", afterTerminate}} {
			signals <- next.signal
			select {
			case <-over:
				return
			case <-time.After(next.wait):
			}
		}
		kill(why)
	})
	code, err := do(ctx, signals)
	close(over)
	watch.Wait()
	if why != nil {
		return 0, why
	}
	return code, err
}
