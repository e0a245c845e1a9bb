package workflow

import (
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru/delivery/pipeline/expr"
)

func (r *reader) workflow(root *yaml.Node) *Workflow {
	w := &Workflow{Path: r.path, Name: words(field(root, "name"))}
	if w.Name == "" {
		w.Name = r.path
	}
	w.RunName = r.text(field(root, "run-name"), "run-name")
	r.triggers(w, field(root, "on"))
	w.Env = r.env(field(root, "env"), "env")
	w.Defaults = r.defaults(field(root, "defaults"), "")
	w.Concurrency = r.concurrency(field(root, "concurrency"), "concurrency")
	for k, v := range fields(field(root, "jobs")) {
		w.Jobs = append(w.Jobs, r.job(k, v))
	}
	return w
}

func (r *reader) triggers(w *Workflow, n *yaml.Node) {
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		for _, item := range items(n) {
			r.trigger(w, item, nil)
		}
		return
	}
	for k, v := range fields(n) {
		r.trigger(w, k, v)
	}
}

func (r *reader) trigger(w *Workflow, name, n *yaml.Node) {
	t := Trigger{Event: name.Value, At: at(name)}
	switch t.Event {
	case "workflow_dispatch":
		w.Inputs = r.inputs(field(n, "inputs"), "")
	case "workflow_call":
		w.Call = &Call{
			Inputs:  r.inputs(field(n, "inputs"), "on.workflow_call.inputs.<inputs_id>.default"),
			Secrets: r.inputs(field(n, "secrets"), ""),
		}
		for k, v := range fields(field(n, "outputs")) {
			w.Call.Outputs = append(w.Call.Outputs, Var{k.Value, r.text(field(v, "value"), "on.workflow_call.outputs.<output_id>.value"), at(k)})
		}
	case "schedule":
		for _, item := range items(n) {
			s := Schedule{Cron: words(field(item, "cron")), Timezone: words(field(item, "timezone")), At: at(item)}
			if _, err := s.parse(); err != nil {
				r.fail(s.At, "on.schedule", "%v", err)
			}
			t.Schedules = append(t.Schedules, s)
		}
	default:
		filters := map[string]*[]string{
			"types": &t.Types, "branches": &t.Branches, "branches-ignore": &t.BranchesIgnore, "tags": &t.Tags,
			"tags-ignore": &t.TagsIgnore, "paths": &t.Paths, "paths-ignore": &t.PathsIgnore,
		}
		for k, v := range fields(n) {
			if list := filters[k.Value]; list != nil {
				*list = allWords(v)
				if k.Value != "types" {
					r.checkPatterns(v)
				}
			}
		}
	}
	w.On = append(w.On, t)
}

func (r *reader) checkPatterns(n *yaml.Node) {
	for _, item := range items(n) {
		if _, err := compilePattern(words(item)); err != nil {
			r.fail(at(item), "", "the pattern %q can't be read: %v", words(item), err)
		}
	}
}

func (r *reader) inputs(n *yaml.Node, where string) []Input {
	var all []Input
	for k, v := range fields(n) {
		in := Input{
			Name: k.Value, Description: words(field(v, "description")), Type: words(field(v, "type")),
			Required: words(field(v, "required")) == "true", Options: allWords(field(v, "options")), At: at(k),
		}
		if in.Type == "" {
			in.Type = "string"
		}
		if d := field(v, "default"); d != nil {
			t := expr.Literal(words(d))
			if where != "" {
				t = r.text(d, where)
			}
			in.Default = &t
		}
		all = append(all, in)
	}
	return all
}

func (r *reader) defaults(n *yaml.Node, where string) Defaults {
	run := field(n, "run")
	return Defaults{Shell: r.text(field(run, "shell"), where), WorkingDirectory: r.text(field(run, "working-directory"), where)}
}

func (r *reader) concurrency(n *yaml.Node, where string) *Concurrency {
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.ScalarNode:
		return &Concurrency{Group: r.text(n, where)}
	}
	return &Concurrency{Group: r.text(field(n, "group"), where), CancelInProgress: r.text(field(n, "cancel-in-progress"), where)}
}

func (r *reader) job(id, n *yaml.Node) *Job {
	const j = "jobs.<job_id>."
	job := &Job{
		ID: id.Value, At: at(id),
		Name:            r.text(field(n, "name"), j+"name"),
		Needs:           allWords(field(n, "needs")),
		If:              r.condition(field(n, "if"), j+"if"),
		RunsOn:          r.runsOn(field(n, "runs-on")),
		Concurrency:     r.concurrency(field(n, "concurrency"), j+"concurrency"),
		Outputs:         r.vars(field(n, "outputs"), j+"outputs.<output_id>"),
		Env:             r.env(field(n, "env"), j+"env"),
		Defaults:        r.defaults(field(n, "defaults"), j+"defaults.run"),
		TimeoutMinutes:  r.text(field(n, "timeout-minutes"), j+"timeout-minutes"),
		ContinueOnError: r.text(field(n, "continue-on-error"), j+"continue-on-error"),
		Uses:            words(field(n, "uses")),
		With:            r.vars(field(n, "with"), j+"with.<with_id>"),
	}
	if e := field(n, "environment"); e != nil && e.Kind == yaml.ScalarNode {
		job.Environment = r.text(e, j+"environment")
	} else {
		job.Environment, job.EnvironmentURL = r.text(field(e, "name"), j+"environment"), r.text(field(e, "url"), j+"environment.url")
	}
	if s := field(n, "secrets"); s != nil && s.Kind == yaml.ScalarNode {
		job.InheritSecrets = s.Value == "inherit"
	} else {
		job.Secrets = r.vars(s, j+"secrets.<secrets_id>")
	}
	if s := field(n, "strategy"); s != nil {
		job.Strategy = Strategy{
			Matrix:      r.matrix(field(s, "matrix")),
			FailFast:    r.text(field(s, "fail-fast"), j+"strategy"),
			MaxParallel: r.text(field(s, "max-parallel"), j+"strategy"),
		}
	}
	if c := field(n, "container"); c != nil && !isNull(c) {
		job.Container = r.container(c, "container")
	}
	if job.ServicesWhole = r.whole(field(n, "services"), j+"services"); job.ServicesWhole == nil {
		for k, v := range fields(field(n, "services")) {
			job.Services = append(job.Services, Service{k.Value, r.container(v, "services")})
		}
	}
	for _, s := range items(field(n, "steps")) {
		job.Steps = append(job.Steps, r.step(s))
	}
	return job
}

func (r *reader) runsOn(n *yaml.Node) Data {
	if n != nil && n.Kind == yaml.MappingNode {
		n = field(n, "labels")
	}
	return r.data(n, "jobs.<job_id>.runs-on")
}

// container reads the container of a job or a service.
func (r *reader) container(n *yaml.Node, of string) *Container {
	image, below := "jobs.<job_id>.container.image", "jobs.<job_id>.container."
	if of == "services" {
		image, below = "jobs.<job_id>.services", "jobs.<job_id>.services.<service_id>."
	}
	c := &Container{At: at(n)}
	if n.Kind == yaml.ScalarNode {
		c.Image = r.text(n, image)
		return c
	}
	c.Image = r.text(field(n, "image"), image)
	credentials := field(n, "credentials")
	c.Username, c.Password = r.text(field(credentials, "username"), below+"credentials"), r.text(field(credentials, "password"), below+"credentials")
	c.Env = r.env(field(n, "env"), below+"env.<env_id>")
	c.Options = r.text(field(n, "options"), image)
	for _, p := range items(field(n, "ports")) {
		c.Ports = append(c.Ports, r.text(p, image))
	}
	if c.Options.IsLiteral() {
		if _, err := ParseOptions(c.Options.Source()); err != nil {
			r.refuse(at(field(n, "options")), "jobs.*."+of, err.Error(), strings.Join([]string{"leave the option out; these are done:", optionNames()}, " "))
		}
	}
	return c
}

func (r *reader) step(n *yaml.Node) *Step {
	const s = "jobs.<job_id>.steps."
	return &Step{
		ID: words(field(n, "id")), At: at(n),
		Name:             r.text(field(n, "name"), s+"name"),
		If:               r.condition(field(n, "if"), s+"if"),
		Env:              r.env(field(n, "env"), s+"env"),
		ContinueOnError:  r.text(field(n, "continue-on-error"), s+"continue-on-error"),
		TimeoutMinutes:   r.text(field(n, "timeout-minutes"), s+"timeout-minutes"),
		Run:              r.text(field(n, "run"), s+"run"),
		Shell:            r.text(field(n, "shell"), ""),
		WorkingDirectory: r.text(field(n, "working-directory"), s+"working-directory"),
		Uses:             words(field(n, "uses")),
		With:             r.vars(field(n, "with"), s+"with"),
	}
}
