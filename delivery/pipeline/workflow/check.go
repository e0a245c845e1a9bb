package workflow

import (
	"regexp"
	"slices"
	"strings"
)

var validID = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// checkJobs tells what is wrong with jobs and steps together: IDs, needs, inputs of actions.
func (r *reader) checkJobs(w *Workflow) {
	for _, j := range w.Jobs {
		if !validID.MatchString(j.ID) {
			r.fail(j.At, "jobs.*", "the job's ID %q is not letters, digits, - and _ with a letter or _ at the beginning", j.ID)
		}
		for i, need := range j.Needs {
			if w.Job(need) == nil {
				r.fail(j.At, "jobs.*.needs", "the job %s needs %s, which is not there", j.ID, need)
			}
			if slices.ContainsFunc(j.Needs[:i], func(o string) bool { return sameName(o, need) }) {
				r.warn(j.At, "jobs.*.needs", "the job "+j.ID+" needs "+need+" twice", "write it once")
			}
		}
		r.checkSteps(j.Steps)
	}
	if loop := findLoop(w.Jobs); loop != nil {
		r.fail(loop.At, "jobs.*.needs", "the job %s needs itself, through others", loop.ID)
	}
}

// findLoop gives a job that waits for itself, nil if none does.
func findLoop(jobs []*Job) *Job {
	left := slices.Clone(jobs)
	for {
		next := slices.DeleteFunc(slices.Clone(left), func(j *Job) bool {
			return !slices.ContainsFunc(j.Needs, func(need string) bool {
				return slices.ContainsFunc(left, func(o *Job) bool { return sameName(o.ID, need) })
			})
		})
		switch {
		case len(next) == 0:
			return nil
		case len(next) == len(left):
			return next[0]
		}
		left = next
	}
}

func (r *reader) checkSteps(steps []*Step) {
	seen := map[string]bool{}
	for _, s := range steps {
		if s.ID != "" {
			id := strings.ToLower(s.ID)
			if seen[id] {
				r.fail(s.At, "jobs.*.steps.id", "two steps have the ID %s", s.ID)
			}
			seen[id] = true
		}
		if b, ok := FindBuiltin(s.Uses); ok {
			r.checkInputs(b, s)
		}
	}
}

// checkInputs tells of the inputs of a built-in action that are not done. Those whose value is an
// expression are asked again when it is known.
func (r *reader) checkInputs(b *Builtin, s *Step) {
	for _, v := range s.With {
		in := b.Input(v.Name)
		if in == nil {
			r.warn(v.At, "jobs.*.steps.with.*", b.Name+" has no input "+v.Name, "leave it out")
			continue
		}
		if v.Value.IsLiteral() {
			if wrong := in.Check(v.Value.Source()); wrong != "" {
				r.refuse(v.At, "jobs.*.steps.with.*", b.Name+": "+wrong, in.Instead)
			}
		}
	}
	for _, in := range b.Inputs {
		if in.Required && !slices.ContainsFunc(s.With, func(v Var) bool { return sameName(v.Name, in.Name) }) {
			r.fail(s.At, "jobs.*.steps.with", "%s needs the input %s", b.Name, in.Name)
		}
	}
}
