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
	Reason  string    `json:"reason,omitempty"` // why it did not succeed, or waits, in words
	Hint    string    `json:"hint,omitempty"`
	Manual  bool      `json:"manual,omitempty"`  // waits for approval before it deploys
	Domain  string    `json:"domain,omitempty"`  // where the environment's routes are; "": where the file has them
	Preview *Preview  `json:"preview,omitempty"` // of a run in an environment of one branch
	From    *Promoted `json:"from,omitempty"`    // of a run that promotes
	Again   bool      `json:"again,omitempty"`   // what was taken back may come back by it
	Rollout int       `json:"rollout,omitempty"`
	Created time.Time `json:"created"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`

	Tested     time.Time         `json:"tested,omitzero"`  // its workflows said that the commit is good, or there is none
	Images     map[string]string `json:"images,omitempty"` // that its jobs handed over, by service: NAME@sha256:…
	Approved   time.Time         `json:"approved,omitzero"`
	ApprovedBy string            `json:"approvedBy,omitempty"`
}

// Preview is what makes an environment that of one branch.
type Preview struct {
	Of    string `json:"of"`              // its entry in the file, whose values and secrets it sees beside its own
	Clone string `json:"clone,omitempty"` // the environment whose volumes it begins with; "": it is seeded
}

// Promoted is where a run that promotes takes its images from. Nothing of it is built.
type Promoted struct {
	Environment string            `json:"environment"`
	Rollout     int               `json:"rollout"`
	Images      map[string]string `json:"images"` // by service: NAME@sha256:…
}

// Repository is what is known of an app's Git repository.
type Repository struct {
	ID        RepositoryID `json:"id"`
	Default   string       `json:"default"`             // branch
	Branches  []Branch     `json:"branches,omitempty"`  // sorted by name
	Protected []string     `json:"protected,omitempty"` // patterns that were set of branches that can't be rewound or deleted
}

// Following is a repository elsewhere that an app's repository follows: what is pushed there is fetched, and goes the
// way of a push.
type Following struct {
	ID          RepositoryID  `json:"id"`
	URL         string        `json:"url"`                   // https or http, without a user
	Branches    []string      `json:"branches,omitempty"`    // patterns of those that are followed; none: all
	Every       time.Duration `json:"every"`                 // it is looked for news this often
	Credentials string        `json:"credentials,omitempty"` // name of the app's secret in production with a token, or USER:PASSWORD; "": none
	Webhook     string        `json:"webhook,omitempty"`     // name of the secret that webhooks are signed with; "": none are taken
	Forge       Forge         `json:"forge"`                 // whose webhooks and commit statuses
	API         string        `json:"api,omitempty"`         // address of the forge's API, for commit statuses; "": none are told
	By          string        `json:"by"`
	Since       time.Time     `json:"since"`
}

// Forge is a kind of server with Git repositories.
type Forge string

// The forges.
const (
	GitHub       Forge = "github"
	GitLab       Forge = "gitlab"
	Gitea        Forge = "gitea"
	GenericForge Forge = "generic" // webhooks as in standardwebhooks.com; no commit statuses
)

// FollowingStatus is how following goes.
type FollowingStatus struct {
	Following
	Looked time.Time `json:"looked,omitzero"` // when the repository was last asked
	Error  string    `json:"error,omitempty"` // why that failed
}

// Branch is one of a repository.
type Branch struct {
	Name        string `json:"name"`
	Commit      string `json:"commit"`
	Environment string `json:"environment,omitempty"` // where its commits are deployed; "": nowhere
	Protected   bool   `json:"protected,omitempty"`   // it can't be rewound or deleted
}

// Environment is one that a branch has of its own. It goes with its branch, or when its time is up: with all
// that is in it.
type Environment struct {
	Scope   Scope     `json:"scope"`
	Branch  string    `json:"branch"`
	Of      string    `json:"of"` // its entry in the file
	Domain  string    `json:"domain,omitempty"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`              // when the last run in it was made
	Expires time.Time `json:"expires,omitzero"`  // zero: it stays as long as its branch
	Begun   bool      `json:"begun,omitempty"`   // something of it may be on the engine
	Leaving string    `json:"leaving,omitempty"` // why it is being taken away; "": it stays
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
