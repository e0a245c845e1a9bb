package runner

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// actionInputs gives an action's inputs their values.
func (s *stepRun) actionInputs(a *workflow.Action, with variables) (*expr.Object, error) {
	inputs := expr.NewObject()
	env := s.expressions()
	for _, in := range a.Inputs {
		text, given := with.values[strings.ToLower(in.Name)]
		if !given && in.Default != nil {
			var err error
			if text, err = in.Default.Eval(env); err != nil {
				return nil, err
			}
		}
		inputs.Set(in.Name, text)
	}
	for _, name := range with.names {
		if !inputs.Has(name) {
			s.job.annotate(maru.RunEvent{Step: s.number, Level: "warning", Text: s.def.Uses + " has no input " + name})
		}
	}
	return inputs, nil
}

// composite runs the steps of a composite action.
func (s *stepRun) composite(ctx context.Context, a *workflow.Action, inputs *expr.Object) error {
	inner := &frame{job: s.job, steps: expr.NewObject(), inputs: inputs, folder: s.job.folder(a.Folder), env: s.frame.env.clone()}
	for _, name := range s.env.names {
		inner.env.set(name, s.env.values[name])
	}
	for _, step := range a.Steps {
		inner.step(ctx, step)
	}
	for _, v := range a.Outputs {
		text, err := v.Value.Eval(inner.envFor(nil))
		if err != nil {
			return err
		}
		s.outputs.Set(v.Name, text)
	}
	switch {
	case s.job.cancelled.Load() != nil && !s.late:
		return errStopped
	case inner.failed:
		return maru.Errorf(maru.Invalid, "a step of %s failed", s.def.Uses)
	}
	return nil
}

// javaScript runs a JavaScript action.
func (s *stepRun) javaScript(ctx context.Context, a *workflow.Action, inputs *expr.Object) error {
	if !s.job.c.Tools().Programs["node"] {
		return maru.WithHint(maru.Errorf(maru.Invalid, "%s is written in JavaScript, and the job's image has no node", s.def.Uses), "name an image that has it in the job's container, such as node:22")
	}
	folder, env := s.job.folder(a.Folder), inputVariables(inputs)
	env["GITHUB_ACTION_PATH"] = folder
	return s.whole(ctx, a, a.Main, func(ctx context.Context, s *stepRun, file string) error {
		s.addState(env)
		return s.exec(ctx, []string{"node", path.Join(folder, file)}, s.job.c.Paths().Workspace, env, nil)
	})
}

// inputVariables are the environment variables that an action finds its inputs in.
func inputVariables(inputs *expr.Object) map[string]string {
	env := map[string]string{}
	for _, name := range inputs.Keys() {
		env["INPUT_"+strings.ToUpper(strings.ReplaceAll(name, " ", "_"))] = expr.String(inputs.Get(name))
	}
	return env
}

// addState adds what earlier parts of the action left for this one.
func (s *stepRun) addState(env map[string]string) {
	for _, name := range s.state.names {
		env["STATE_"+name] = s.state.values[name]
	}
}

// whole runs the parts of an action: what comes before, its main part, and at the end of the job what comes after.
func (s *stepRun) whole(ctx context.Context, a *workflow.Action, main string, run func(ctx context.Context, s *stepRun, part string) error) error {
	if a.Post != "" {
		s.job.posts = append(s.job.posts, post{name: "Post " + s.def.Uses, step: s.def, when: a.PostIf, in: s.frame, do: func(ctx context.Context, after *stepRun) error {
			after.state = s.state
			return run(ctx, after, a.Post)
		}})
	}
	if a.Pre != "" {
		holds, err := a.PreIf.Holds(s.expressions())
		if err != nil {
			return err
		}
		if holds {
			if err := run(ctx, s, a.Pre); err != nil {
				return err
			}
		}
	}
	return run(ctx, s, main)
}

// post does what an action left for the end.
func (f *frame) post(ctx context.Context, p post) {
	def := &workflow.Step{Uses: p.step.Uses, Env: p.step.Env}
	s := &stepRun{frame: f, def: def, number: f.job.number, outputs: expr.NewObject(), late: f.job.cancelled.Load() != nil}
	err := s.env.add(def.Env, f.envFor(nil))
	var holds bool
	if err == nil {
		holds, err = p.when.Holds(f.envFor(&s.env))
	}
	if err == nil && !holds {
		return
	}
	f.job.emit(maru.RunEvent{Kind: maru.StepStarted, Step: s.number, Name: p.name})
	if err == nil {
		err = p.do(ctx, s)
	}
	e := maru.RunEvent{Kind: maru.StepEnded, Step: s.number, Name: p.name, Conclusion: maru.Success}
	if err != nil {
		e.Conclusion, e.Text = maru.Failure, f.job.masks.Replace(err.Error())
		f.job.annotate(maru.RunEvent{Step: s.number, Level: "error", Text: problem(err)})
		f.job.failed = true
	}
	f.job.emit(e)
}

// builtin runs an action that Maru has built in.
func (s *stepRun) builtin(ctx context.Context, b *workflow.Builtin, given variables) error {
	with := map[string]string{}
	for _, in := range b.Inputs {
		text, ok := given.values[strings.ToLower(in.Name)]
		if !ok {
			text = in.Default
		}
		if wrong := in.Check(text); ok && wrong != "" {
			return maru.WithHint(maru.Errorf(maru.Unsupported, "%s", wrong), in.Instead)
		}
		with[in.Name] = text
	}
	if strings.HasPrefix(b.Name, "docker/setup-") {
		s.say("nothing is to be set up: images are built by Maru's builder")
		return nil
	}
	name := strings.TrimPrefix(b.Name, "actions/")
	do, ok := map[string]func(*stepRun, context.Context, map[string]string) error{
		"checkout": (*stepRun).checkout, "cache": (*stepRun).cache, "cache/restore": (*stepRun).cacheRestore, "cache/save": (*stepRun).cacheSave,
		"upload-artifact": (*stepRun).upload, "download-artifact": (*stepRun).download, "docker/build-push-action": (*stepRun).buildImage,
	}[name]
	if ok {
		_, err := s.watched(ctx, func(ctx context.Context, signals <-chan string) (int, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() {
				select {
				case <-signals: // nothing here can be told to end in an orderly way
					cancel()
				case <-ctx.Done():
				}
			}()
			return 0, do(s, ctx, with)
		})
		return err
	}
	language, ok := strings.CutPrefix(name, "setup-")
	if !ok || !slices.Contains([]string{"go", "node", "python", "java"}, language) {
		return maru.Errorf(maru.Unsupported, "%s is not built in", b.Name)
	}
	return s.setup(ctx, language, with, b)
}

// say adds a line to the step's log.
func (s *stepRun) say(text string) {
	s.job.emit(maru.RunEvent{Kind: maru.RunLine, Step: s.number, Text: s.job.masks.Replace(text)})
}
