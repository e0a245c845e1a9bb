// Package schedule decides which jobs of a workflow run next. It is pure: it is told what ended, and
// says what to start and what to cancel. Jobs become known as the run goes on, since a matrix may
// depend on what jobs before it gave.
package schedule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// Contexts are what the workflow's expressions know from the beginning.
type Contexts struct {
	GitHub  *expr.Object
	Vars    *expr.Object
	Inputs  *expr.Object
	Secrets *expr.Object
}

// Result is how a job ended.
type Result struct {
	Conclusion maru.Conclusion
	Outputs    map[string]string
	Images     map[string]string // that it hands over, by service: NAME@sha256:…
	Message    string            // why, unless it is success
}

// Run is the state of one run of a workflow. It is not safe for concurrent use.
type Run struct {
	project   *workflow.Project
	root      *scope
	kept      map[string]Result
	cancelled bool
	ids       map[string]*Job
}

// scope is a workflow with its jobs: that of the run, or one that a job uses.
type scope struct {
	workflow *workflow.Workflow
	contexts Contexts
	prefix   string // of its jobs' IDs
	groups   []*group
	cut      string // why it is cancelled, though the run is not
}

// group is what becomes of one job of the file: the jobs of its matrix.
type group struct {
	scope    *scope
	def      *workflow.Job
	decided  bool // whether it runs, and as how many jobs
	jobs     []*Job
	failFast bool
	parallel int // at once; 0: all
	again    bool
	done     bool
	result   maru.Conclusion
	outputs  *expr.Object
}

// Job is one job to run.
type Job struct {
	ID       string // unique in the run
	Name     string
	Def      *workflow.Job
	Workflow *workflow.Workflow
	Contexts Contexts
	Needs    *expr.Object
	Matrix   *expr.Object // nil without one
	Strategy *expr.Object

	group           *group
	state           state
	cut             string // why it is cancelled, though the run is not
	result          Result
	continueOnError bool
	called          *scope
}

type state int

const (
	queued state = iota
	running
	cancelling
	ended
)

// Kind is what an Action does.
type Kind string

// The kinds of action.
const (
	Queue  Kind = "queue"  // the job is known, and will run
	Start  Kind = "start"  // run it, and tell its end with Ended
	Cancel Kind = "cancel" // it was started: end it, and tell its end with Ended
	End    Kind = "end"    // it is over without having run: Result says how
)

// Action is what is to be done about a job.
type Action struct {
	Kind   Kind
	Job    *Job
	Result Result // of End
}

// New begins a run. Jobs in kept that need nothing that runs again count as ended so.
func New(project *workflow.Project, w *workflow.Workflow, contexts Contexts, kept map[string]Result) *Run {
	r := &Run{project: project, kept: kept, ids: map[string]*Job{}}
	r.root = newScope(w, contexts, "")
	return r
}

func newScope(w *workflow.Workflow, contexts Contexts, prefix string) *scope {
	s := &scope{workflow: w, contexts: contexts, prefix: prefix}
	for _, j := range w.Jobs {
		s.groups = append(s.groups, &group{scope: s, def: j})
	}
	return s
}

// Next gives all that is to be done now, in the order of the file. It gives each action once.
func (r *Run) Next() []Action {
	var all []Action
	for {
		actions, moved := r.advance(r.root)
		all = append(all, actions...)
		if !moved {
			return all
		}
	}
}

// Ended tells how a job ended that was started.
func (r *Run) Ended(id string, result Result) {
	if j := r.ids[id]; j != nil && j.state != ended {
		r.end(j, result)
	}
}

// Cancel ends the run: jobs under way are cancelled, and of those to come only the ones run whose
// condition says so.
func (r *Run) Cancel() { r.cancelled = true }

// Done tells whether all is over.
func (r *Run) Done() bool { return r.root.done() }

// Conclusion is how the run ended: with the worst of its jobs' ends.
func (r *Run) Conclusion() maru.Conclusion {
	if r.cancelled && r.root.conclusion() != maru.Failure {
		return maru.Cancelled
	}
	return r.root.conclusion()
}

func (s *scope) done() bool {
	return !slices.ContainsFunc(s.groups, func(g *group) bool { return !g.done })
}

func (s *scope) conclusion() maru.Conclusion {
	all := make([]maru.Conclusion, len(s.groups))
	for i, g := range s.groups {
		all[i] = g.result
	}
	return worst(all)
}

// worst is failure before cancelled before success; skipped only when all are.
func worst(all []maru.Conclusion) maru.Conclusion {
	for _, c := range []maru.Conclusion{maru.Failure, maru.Cancelled, maru.Success} {
		if slices.Contains(all, c) {
			return c
		}
	}
	return maru.Skipped
}

// advance goes through the scope once, and tells whether anything changed by it.
func (r *Run) advance(s *scope) (all []Action, moved bool) {
	for _, g := range s.groups {
		if g.done {
			continue
		}
		if !g.decided && s.ready(g) {
			all, moved = append(all, r.decide(g)...), true
		}
		for _, j := range g.jobs {
			actions, did := r.advanceJob(j)
			all, moved = append(all, actions...), moved || did
		}
		if g.decided && !slices.ContainsFunc(g.jobs, func(j *Job) bool { return j.state != ended }) {
			g.finish()
			moved = true
		}
	}
	return all, moved
}

// ready tells whether all that the group needs is over.
func (s *scope) ready(g *group) bool {
	return !slices.ContainsFunc(s.needed(g), func(n *group) bool { return !n.done })
}

func (s *scope) needed(g *group) []*group {
	var all []*group
	for _, other := range s.groups {
		if slices.ContainsFunc(g.def.Needs, func(need string) bool { return strings.EqualFold(need, other.def.ID) }) {
			all = append(all, other)
		}
	}
	return all
}

// ancestors are all groups that the group needs, through others as well.
func (s *scope) ancestors(g *group) []*group {
	all := s.needed(g)
	for i := 0; i < len(all); i++ {
		for _, n := range s.needed(all[i]) {
			if !slices.Contains(all, n) {
				all = append(all, n)
			}
		}
	}
	return all
}

func (r *Run) advanceJob(j *Job) ([]Action, bool) {
	why := j.cut
	if why == "" && r.cancelled && !j.group.survives(r) {
		why = "the run was cancelled"
	}
	switch {
	case j.called != nil && j.state != ended:
		j.called.cutAll(j.cut)
		actions, moved := r.advance(j.called)
		if j.called.done() {
			r.endCall(j)
			moved = true
		}
		return actions, moved
	case j.state == queued && why != "":
		return r.endUnstarted(j, Result{Conclusion: maru.Cancelled, Message: why}), true
	case j.state == queued && j.group.room():
		return r.start(j)
	case j.state == running && why != "":
		j.state = cancelling
		return []Action{{Kind: Cancel, Job: j, Result: Result{Conclusion: maru.Cancelled, Message: why}}}, true
	}
	return nil, false
}

// cutAll cancels the jobs of a scope, also those that are not known yet.
func (s *scope) cutAll(why string) {
	if why == "" || s.cut != "" {
		return
	}
	s.cut = why
	for _, g := range s.groups {
		for _, j := range g.jobs {
			j.cut = why
		}
	}
}

// survives tells whether the group's condition holds although the run is cancelled.
func (g *group) survives(r *Run) bool {
	holds, err := g.def.If.Holds(r.env(g, nil))
	return err == nil && holds
}

func (g *group) room() bool {
	busy := 0
	for _, j := range g.jobs {
		if j.state == running || j.state == cancelling {
			busy++
		}
	}
	return g.parallel == 0 || busy < g.parallel
}

func (r *Run) start(j *Job) ([]Action, bool) {
	if result, ok := r.kept[j.ID]; ok && result.Conclusion == maru.Success && !j.group.again {
		return r.endUnstarted(j, result), true
	}
	j.group.again = true
	j.state = running
	if j.Def.Uses == "" {
		return []Action{{Kind: Start, Job: j}}, true
	}
	if err := r.call(j); err != nil {
		return r.endUnstarted(j, Result{Conclusion: maru.Failure, Message: err.Error()}), true
	}
	return nil, true
}

func (r *Run) endUnstarted(j *Job, result Result) []Action {
	r.end(j, result)
	return []Action{{Kind: End, Job: j, Result: result}}
}

// end takes a job's end, and has the others of its matrix cancelled if it failed.
func (r *Run) end(j *Job, result Result) {
	j.state, j.result = ended, result
	if result.Conclusion != maru.Failure || !j.group.failFast || j.continueOnError {
		return
	}
	for _, other := range j.group.jobs {
		if other.state != ended && other.cut == "" {
			other.cut = fmt.Sprintf("%s failed, and fail-fast is on", j.ID)
		}
	}
}

// finish takes the jobs' ends together.
func (g *group) finish() {
	g.done = true
	var all []maru.Conclusion
	g.outputs = expr.NewObject()
	for _, j := range g.jobs {
		c := j.result.Conclusion
		if c == maru.Failure && j.continueOnError {
			c = maru.Success
		}
		all = append(all, c)
		for _, v := range g.outputNames() {
			if value, ok := j.result.Outputs[v]; ok && (value != "" || !g.outputs.Has(v)) {
				g.outputs.Set(v, value)
			}
		}
	}
	g.result = worst(all)
}

func (g *group) outputNames() []string {
	var names []string
	for _, v := range g.def.Outputs {
		names = append(names, v.Name)
	}
	for _, j := range g.jobs {
		if j.called != nil && j.called.workflow.Call != nil {
			for _, v := range j.called.workflow.Call.Outputs {
				names = append(names, v.Name)
			}
			break
		}
	}
	return names
}
