package maru

import "time"

// Deployment is a wish to bring an app, or some services of it, to a state.
type Deployment struct {
	Scope    Scope
	App      App                      // the whole file; the content of external configs filled in
	Services []string                 // only these; empty: all, and what the file no longer has is removed
	Images   map[string]Image         // by service: what each of those deployed runs
	Secrets  map[string]SecretVersion // by key in App.Secrets: the present version
	Sources  map[string]string        // by service: commit, or digest of the build context
	By       string
	Message  string
	Origin   *Origin // in Git; nil: it is from elsewhere
	Force    bool    // new releases also where nothing changed
	Again    bool    // also what the judge had taken back
	Seed     bool    // services that have a seed run it, once in this environment
}

// ServiceChange is what a deployment would do to one service.
type ServiceChange struct {
	Service     string       `json:"service"`
	Action      ChangeAction `json:"action"`
	Strategy    Strategy     `json:"strategy,omitempty"` // of an update that replaces instances
	Differences []Difference `json:"differences,omitempty"`
	Note        string       `json:"note,omitempty"` // what it means, in words
}

// ChangeAction says what happens to a service.
type ChangeAction string

// The actions. An update replaces instances; to scale only adds or takes some.
const (
	ChangeCreate ChangeAction = "create"
	ChangeUpdate ChangeAction = "update"
	ChangeScale  ChangeAction = "scale"
	ChangeStart  ChangeAction = "start"
	ChangeRemove ChangeAction = "remove"
	ChangeNone   ChangeAction = "none"
)

// Difference is one value that differs. An empty side is not there. Values that may be secret are masked.
type Difference struct {
	Path string `json:"path"` // to the value in the service's JSON form, such as container.env.PORT
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// State sums up how an app or service is.
type State string

// The states. Degraded serves with fewer instances than wanted; Failed serves not at all.
const (
	StateRunning  State = "running"
	StateStarting State = "starting" // not ready yet, and nothing went wrong so far
	StateUpdating State = "updating" // a rollout moves it
	StateDegraded State = "degraded"
	StateStopped  State = "stopped"
	StateRemoving State = "removing"
	StateDone     State = "done" // a job that completed
	StateFailed   State = "failed"
)

// AppStatus is the present state of an app.
type AppStatus struct {
	Scope    Scope           `json:"scope"`
	State    State           `json:"state"`
	Rollout  *Rollout        `json:"rollout,omitempty"` // the latest
	Services []ServiceStatus `json:"services"`          // sorted by name
}

// ServiceStatus is the present state of a service.
type ServiceStatus struct {
	Name           string           `json:"name"`
	Kind           ServiceKind      `json:"kind"`
	Release        int              `json:"release"` // serving; 0: none yet
	Image          string           `json:"image,omitempty"`
	Wanted         int              `json:"wanted"`
	Ready          int              `json:"ready"`             // of the releases that serve
	Serving        []Weight         `json:"serving,omitempty"` // releases that share its traffic, if several do
	Scaled         bool             `json:"scaled,omitempty"`
	Stopped        bool             `json:"stopped,omitempty"`
	State          State            `json:"state"`
	Message        string           `json:"message,omitempty"` // what is wrong and why, or what it waits for
	VirtualAddress Addresses        `json:"virtualAddress"`
	Routes         []Route          `json:"routes,omitempty"`
	Publish        []PublishedPort  `json:"publish,omitempty"` // with their host ports
	Instances      []InstanceStatus `json:"instances,omitempty"`
	Updated        time.Time        `json:"updated,omitzero"` // when its release was made
}

// InstanceStatus is an instance as observed, with its place and in words.
type InstanceStatus struct {
	Instance
	Workload string `json:"workload"`      // the number of its release, or the name of a one-off job
	Why      string `json:"why,omitempty"` // it is not ready: exit code, signal, limits, probe, last lines
}

// AppSummary is an app in one line.
type AppSummary struct {
	Scope    Scope     `json:"scope"`
	Services int       `json:"services"`
	Wanted   int       `json:"wanted"`
	Ready    int       `json:"ready"`
	State    State     `json:"state"`
	Rollout  int       `json:"rollout"` // the latest
	Updated  time.Time `json:"updated,omitzero"`
	Routes   []Route   `json:"routes,omitempty"`
}
