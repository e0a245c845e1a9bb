package maru

import "time"

// RepositoryID names a Git repository. It has the commits of one app, for all environments.
type RepositoryID struct {
	Project string `json:"project"`
	App     string `json:"app"`
}

// String gives "project/app".
func (r RepositoryID) String() string { return r.Project + "/" + r.App }

// In gives the app's scope in an environment.
func (r RepositoryID) In(environment string) Scope { return Scope{r.Project, environment, r.App} }

// Validate tells whether both parts are names, as Invalid.
func (r RepositoryID) Validate() error {
	if err := CheckName("project", r.Project); err != nil {
		return err
	}
	return CheckName("app", r.App)
}

// RefUpdate is a ref that a push moves. A side without a commit is empty: the ref is made, or deleted.
type RefUpdate struct {
	Ref string // such as refs/heads/main
	Old string // object names, in hexadecimal
	New string
}

// Push is what somebody sends to a repository.
type Push struct {
	ID         string // of its own
	Repository RepositoryID
	Updates    []RefUpdate
	Options    []string // git push -o
	By         Token
}

// Run is one execution of what follows from a commit: its workflows are run, and its app is built and deployed. Runs of one app in one
// environment go one after the other; one that waits is given up for a newer one.
type Run struct {
	Scope   Scope     `json:"scope"`
	Number  int       `json:"number"` // counts per app and environment, from 1
	Branch  string    `json:"branch"`
	Commit  string    `json:"commit"`
	Message string    `json:"message,omitempty"` // the commit's subject
	By      string    `json:"by"`                // whose push
	Of      int       `json:"of,omitempty"`      // the run that this one tries again
	Phase   RunPhase  `json:"phase"`
	Reason  string    `json:"reason,omitempty"` // why it did not succeed, in words
	Hint    string    `json:"hint,omitempty"`
	Manual  bool      `json:"manual,omitempty"` // waits for approval before it deploys
	Rollout int       `json:"rollout,omitempty"`
	Created time.Time `json:"created"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`

	Tested     time.Time `json:"tested,omitzero"` // its workflows said that the commit is good, or there is none
	Approved   time.Time `json:"approved,omitzero"`
	ApprovedBy string    `json:"approvedBy,omitempty"`
}

// RunPhase is how far a run is.
type RunPhase string

// The phases, in their order; from RunSucceeded on they are final.
const (
	RunQueued     RunPhase = "queued"
	RunTesting    RunPhase = "testing" // the commit's workflows run
	RunWaiting    RunPhase = "waiting" // for approval
	RunBuilding   RunPhase = "building"
	RunDeploying  RunPhase = "deploying"
	RunSucceeded  RunPhase = "succeeded"
	RunFailed     RunPhase = "failed"
	RunRolledBack RunPhase = "rolled-back" // its rollout failed, and what ran before runs again
	RunCancelled  RunPhase = "cancelled"
	RunSuperseded RunPhase = "superseded" // by a newer one, before it began or while its workflows said that they may be
)

// Final tells whether the phase is one that nothing follows.
func (p RunPhase) Final() bool {
	switch p {
	case RunSucceeded, RunFailed, RunRolledBack, RunCancelled, RunSuperseded:
		return true
	}
	return false
}

// RunLogLine is a line of a run's log.
type RunLogLine struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service,omitempty"` // that it is about; "": the run
	Output  bool      `json:"output,omitempty"`  // a build or release step wrote it; else it is Maru's
	Text    string    `json:"text"`
}

// String gives the line as a terminal shows it.
func (l RunLogLine) String() string {
	switch {
	case l.Output:
		return l.Service + " | " + l.Text
	case l.Service != "":
		return l.Service + ": " + l.Text
	}
	return l.Text
}
