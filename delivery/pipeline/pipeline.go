// Package pipeline runs workflows: it takes a source tree, an event and a machine, and tells what
// happens. The parts are in folders of their own: workflow is the language and expr its expressions,
// schedule says which job is next, runner runs one, machine is where, keep is what stays.
package pipeline

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/runner"
	"github.com/marucloud/maru/delivery/pipeline/schedule"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// Pipeline runs workflows on one machine. Its methods are safe for concurrent use.
type Pipeline struct {
	runner *runner.Runner
	groups *Groups
	room   chan struct{} // a place for each job at work
}

// New makes a pipeline that has at most parallel jobs at work at once; 0: 2.
func New(r *runner.Runner, parallel int) *Pipeline {
	return &Pipeline{runner: r, groups: NewGroups(), room: make(chan struct{}, cmp.Or(max(parallel, 0), 2))}
}

// Request is one run of one workflow.
type Request struct {
	ID       string // unique: artifacts and containers are found by it
	Number   int    // of the workflow's runs, from 1
	Attempt  int    // from 1
	Project  *workflow.Project
	Workflow *workflow.Workflow
	Source   runner.Source
	Event    Event
	Inputs   map[string]string // of workflow_dispatch
	Vars     map[string]string

	// Secrets are given to the jobs if Trusted: the commit is on a branch that only those may push to
	// who may know them.
	Secrets map[string]string
	Trusted bool

	// Kept are jobs of an earlier attempt, by ID: those that succeeded are not run again, unless one
	// that they need is.
	Kept  map[string]schedule.Result
	Debug bool
}

// Event is what started a run.
type Event struct {
	Name          string // push, pull_request, workflow_dispatch, schedule
	Payload       []byte // JSON, as GitHub's webhooks have it; nil: made of the rest
	Ref           string // refs/heads/…, refs/tags/…, refs/pull/N/merge
	SHA           string
	Base          string // of a pull request: the branch that it is for
	Head          string // of a pull request: its branch
	Actor         string
	Repository    string // OWNER/NAME
	DefaultBranch string
	Message       string // of the commit
	Cron          string // of a schedule
	ServerURL     string
}

// Run runs a workflow to its end and tells of it by emit, which is called by one goroutine at a time,
// with RunEnded last. When ctx ends the run is cancelled, and still brought to its end. The conclusion
// is the run's; an error is of a request that can't be run at all.
func (p *Pipeline) Run(ctx context.Context, req Request, emit func(maru.RunEvent)) (maru.Conclusion, error) {
	contexts, payload, err := req.contexts()
	if err != nil {
		return "", err
	}
	r := &run{Pipeline: p, req: req, contexts: contexts, payload: payload, ended: make(chan end), emit: serially(req.Workflow.Path, emit)}
	conclusion := r.run(ctx)
	r.emit(maru.RunEvent{Kind: maru.RunEnded, Name: req.Workflow.Name, Conclusion: conclusion})
	return conclusion, nil
}

// CancelsInProgress tells whether the workflow says that a run of it is cancelled by the next of its concurrency
// group.
func (req Request) CancelsInProgress() bool {
	c := req.Workflow.Concurrency
	if c == nil {
		return false
	}
	contexts, _, err := req.contexts()
	if err != nil {
		return false
	}
	r := &run{req: req, contexts: contexts}
	group, err := c.Group.Eval(r.runEnv())
	if err != nil || group == "" {
		return false
	}
	cancels, err := c.CancelInProgress.Eval(r.runEnv())
	return err == nil && cancels == "true"
}

// serially gives events their time and passes them on one by one.
func serially(path string, emit func(maru.RunEvent)) func(maru.RunEvent) {
	var mu sync.Mutex
	return func(e maru.RunEvent) {
		mu.Lock()
		defer mu.Unlock()
		e.Time, e.Workflow = time.Now().UTC(), path
		emit(e)
	}
}

// run is one run at work.
type run struct {
	*Pipeline
	req      Request
	contexts schedule.Contexts
	payload  []byte
	schedule *schedule.Run
	ended    chan end
	cancels  map[string]chan string
	emit     func(maru.RunEvent)
}

type end struct {
	job    *schedule.Job
	result schedule.Result
}

func (r *run) run(ctx context.Context) maru.Conclusion {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	leave, err := r.enter(ctx, r.req.Workflow.Concurrency, r.runEnv(), func(why string) { cancel(maru.Errorf(maru.Interrupted, "%s", why)) })
	if err != nil {
		if ctx.Err() != nil || maru.KindOf(err) == maru.Interrupted {
			return maru.Cancelled
		}
		r.emit(maru.RunEvent{Kind: maru.RunAnnotation, Level: "error", Text: err.Error()})
		return maru.Failure
	}
	defer leave()
	r.schedule = schedule.New(r.req.Project, r.req.Workflow, r.contexts, r.req.Kept)
	r.cancels = map[string]chan string{}
	var jobs sync.WaitGroup
	defer jobs.Wait()
	gone := ctx.Done()
	for r.next(ctx, &jobs); !r.schedule.Done(); r.next(ctx, &jobs) {
		select {
		case e := <-r.ended:
			delete(r.cancels, e.job.ID)
			r.schedule.Ended(e.job.ID, e.result)
			r.tellEnd(e.job, e.result)
		case <-gone:
			gone = nil
			r.schedule.Cancel()
		}
	}
	return r.schedule.Conclusion()
}

// next does what the schedule says is to be done now.
func (r *run) next(ctx context.Context, jobs *sync.WaitGroup) {
	for _, a := range r.schedule.Next() {
		j := a.Job
		switch a.Kind {
		case schedule.Queue:
			r.emit(maru.RunEvent{Kind: maru.JobQueued, Job: j.ID, Name: j.Name})
		case schedule.End:
			r.tellEnd(j, a.Result)
		case schedule.Cancel:
			select {
			case r.cancels[j.ID] <- a.Result.Message:
			default: // it is being cancelled
			}
		case schedule.Start:
			cancel := make(chan string, 1)
			r.cancels[j.ID] = cancel
			// The job outlives ctx: it is cancelled by the schedule, and then still has steps to do.
			jobs.Go(func() { r.ended <- end{j, r.job(context.WithoutCancel(ctx), j, cancel)} })
		}
	}
}

func (r *run) tellEnd(j *schedule.Job, result schedule.Result) {
	r.emit(maru.RunEvent{Kind: maru.JobEnded, Job: j.ID, Name: j.Name, Conclusion: result.Conclusion, Text: result.Message, Outputs: result.Outputs, Images: result.Images})
}

// job runs one job when there is room for it, and its group lets it.
func (r *run) job(ctx context.Context, j *schedule.Job, cancel chan string) schedule.Result {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Until the job is at work its waiting is what cancel ends.
	waiting, begin := context.WithCancelCause(ctx)
	begun, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case why := <-cancel:
			begin(maru.Errorf(maru.Interrupted, "%s", why))
		case <-begun:
		}
	}()
	onCancel := func(why string) {
		select {
		case cancel <- why:
		default: // it is being cancelled
		}
	}
	leave, err := r.enter(waiting, j.Def.Concurrency, r.jobEnv(j), onCancel)
	if err == nil {
		defer leave()
		select {
		case r.room <- struct{}{}:
			defer func() { <-r.room }()
		case <-waiting.Done():
			err = context.Cause(waiting)
		}
	}
	close(begun)
	<-watched
	if err == nil && waiting.Err() != nil {
		err = context.Cause(waiting)
	}
	begin(nil)
	if err != nil {
		conclusion := maru.Failure
		if maru.KindOf(err) == maru.Interrupted {
			conclusion = maru.Cancelled
		}
		return schedule.Result{Conclusion: conclusion, Message: err.Error()}
	}
	return r.runner.Run(ctx, r.task(j), cancel)
}

func (r *run) task(j *schedule.Job) runner.Task {
	// What nobody vouched for keeps its caches apart: nothing of it gets into trusted runs.
	scope := r.req.Event.Ref
	if !r.req.Trusted {
		scope = "untrusted " + scope + " " + r.req.Event.Actor
	}
	scopes := []string{scope}
	for _, also := range []string{r.req.Event.Base, r.req.Event.DefaultBranch} {
		if ref := "refs/heads/" + also; also != "" && ref != scope {
			scopes = append(scopes, ref)
		}
	}
	return runner.Task{
		Run: r.req.ID, Job: j, Project: r.req.Project, Source: r.req.Source, Event: r.payload,
		CacheScopes: scopes, CacheScope: scope, Debug: r.req.Debug, Emit: r.emit,
	}
}

// enter waits until the group of a run or a job has room.
func (r *run) enter(ctx context.Context, c *workflow.Concurrency, env *expr.Env, cancel func(string)) (leave func(), err error) {
	if c == nil {
		return func() {}, nil
	}
	group, err := c.Group.Eval(env)
	if err != nil {
		return nil, err
	}
	inProgress, err := c.CancelInProgress.Eval(env)
	if err != nil {
		return nil, err
	}
	if group == "" {
		return func() {}, nil
	}
	return r.groups.Enter(ctx, r.req.Event.Repository+"\x00"+group, inProgress == "true", cancel)
}

func (r *run) runEnv() *expr.Env {
	return &expr.Env{Contexts: expr.Map("github", r.contexts.GitHub, "inputs", r.contexts.Inputs, "vars", r.contexts.Vars)}
}

func (r *run) jobEnv(j *schedule.Job) *expr.Env {
	var matrix any
	if j.Matrix != nil {
		matrix = j.Matrix
	}
	return &expr.Env{Contexts: expr.Map("github", j.Contexts.GitHub, "inputs", j.Contexts.Inputs, "vars", j.Contexts.Vars,
		"needs", j.Needs, "strategy", j.Strategy, "matrix", matrix)}
}
