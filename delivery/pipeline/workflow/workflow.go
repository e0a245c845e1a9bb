// Package workflow is the language of pipelines: GitHub's workflow files, as
// https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax describes them.
// It reads them into plain data whose texts are expressions yet to be evaluated, tells at file, line
// and column what is wrong with them or not done here, and knows which events start them. It runs
// nothing and reads nothing but the files that it is given.
package workflow

import (
	"github.com/marucloud/maru/delivery/pipeline/expr"
)

// Position is a place in a file, from 1.
type Position struct {
	Line   int
	Column int
}

// Workflow is one workflow file.
type Workflow struct {
	Path        string // in the source tree
	Name        string // without one, the path
	RunName     expr.Text
	On          []Trigger
	Inputs      []Input // of workflow_dispatch
	Call        *Call   // workflow_call: others may use it
	Env         Vars
	Defaults    Defaults
	Concurrency *Concurrency
	Jobs        []*Job // in the order of the file
}

// Job finds a job by its ID, whatever its case.
func (w *Workflow) Job(id string) *Job {
	for _, j := range w.Jobs {
		if sameName(j.ID, id) {
			return j
		}
	}
	return nil
}

// Trigger is one event of `on`.
type Trigger struct {
	Event          string
	Types          []string // activities; nil: the event's default ones
	Branches       []string
	BranchesIgnore []string
	Tags           []string
	TagsIgnore     []string
	Paths          []string
	PathsIgnore    []string
	Schedules      []Schedule
	At             Position
}

// Schedule is one entry of on.schedule.
type Schedule struct {
	Cron     string // minute, hour, day of the month, month, day of the week
	Timezone string // IANA; "": UTC
	At       Position
}

// Input is an input of a workflow or an action.
type Input struct {
	Name        string
	Description string
	Type        string // string, number, boolean, choice, environment
	Required    bool
	Default     *expr.Text // nil: none
	Options     []string   // of a choice
	At          Position
}

// Call is what a workflow takes from and gives to those that use it.
type Call struct {
	Inputs  []Input
	Secrets []Input // Name, Description and Required
	Outputs []Var
}

// Var is a name with a value, in the order of the file.
type Var struct {
	Name  string
	Value expr.Text
	At    Position
}

// Vars are environment variables, or one expression that gives all of them.
type Vars struct {
	List  []Var
	Whole *expr.Text
}

// Defaults are how steps run unless they say otherwise.
type Defaults struct {
	Shell            expr.Text
	WorkingDirectory expr.Text
}

// Concurrency keeps runs or jobs of one group from being at work at the same time.
type Concurrency struct {
	Group            expr.Text
	CancelInProgress expr.Text // a boolean
}

// Job is one job. With Uses it is another workflow's jobs, and has no steps.
type Job struct {
	ID              string
	Name            expr.Text
	Needs           []string
	If              expr.Condition
	RunsOn          Data // a string or an array of strings
	Environment     expr.Text
	EnvironmentURL  expr.Text
	Concurrency     *Concurrency
	Outputs         []Var
	Env             Vars
	Defaults        Defaults
	Steps           []*Step
	TimeoutMinutes  expr.Text // a number
	Strategy        Strategy
	ContinueOnError expr.Text // a boolean
	Container       *Container
	Services        []Service
	ServicesWhole   *expr.Text // an expression that gives the services

	Uses           string // a workflow of the source tree, such as ./.maru/workflows/test.yml
	With           []Var
	Secrets        []Var
	InheritSecrets bool
	At             Position
}

// Strategy makes several jobs of one.
type Strategy struct {
	Matrix      *Matrix
	FailFast    expr.Text // a boolean; without it true
	MaxParallel expr.Text // a number
}

// Container is the container that a job or a service runs in. All texts may be expressions.
type Container struct {
	Image    expr.Text
	Username expr.Text
	Password expr.Text
	Env      Vars
	Ports    []expr.Text
	Options  expr.Text
	At       Position
}

// Service is a container beside the job, reached under its name.
type Service struct {
	Name      string
	Container *Container
}

// Step is one step: a script, or an action.
type Step struct {
	ID               string
	Name             expr.Text
	If               expr.Condition
	Env              Vars
	ContinueOnError  expr.Text // a boolean
	TimeoutMinutes   expr.Text // a number
	Run              expr.Text
	Shell            expr.Text
	WorkingDirectory expr.Text
	Uses             string
	With             []Var
	At               Position
}
