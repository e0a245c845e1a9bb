package maru

import "time"

// Release is immutable: one service's image, configuration and secret versions at one moment. Its
// number is that of the rollout that brought it, so that a rollout's number names a state of the app.
type Release struct {
	Service  ServiceID                `json:"service"`
	Number   int                      `json:"number"`
	Image    string                   `json:"image"` // reference with digest: NAME@sha256:…
	Spec     Service                  `json:"spec"`
	Networks map[string]Network       `json:"networks,omitempty"` // those that Spec.Networks names
	Volumes  map[string]Volume        `json:"volumes,omitempty"`  // those that Spec.Container.Mounts names
	Configs  map[string]Config        `json:"configs,omitempty"`  // those that Spec.Configs names
	Secrets  map[string]SecretVersion `json:"secrets,omitempty"`
	Source   string                   `json:"source,omitempty"` // commit, or digest of the build context
	Created  time.Time                `json:"created"`
	By       string                   `json:"by"`
	Message  string                   `json:"message,omitempty"`
}

// SecretVersion is a secret as a release uses it.
type SecretVersion struct {
	Name    string `json:"name"`
	Version int    `json:"version"`

	// Environment is whose secret it is: of the environments entry that a preview is of; "": the release's own.
	Environment string `json:"environment,omitempty"`
}

// Workload names the workload that the release runs as.
func (r Release) Workload() WorkloadID { return r.Service.Workload(Itoa(r.Number)) }

// ServiceState is what a service is to be now. There is one for each service of each deployed app.
type ServiceState struct {
	Service        ServiceID         `json:"service"`
	Release        int               `json:"release"`           // serving, or the last that did; 0: none yet
	Serving        []Weight          `json:"serving,omitempty"` // where traffic goes; empty: all to Release
	Replicas       int               `json:"replicas"`          // wanted of Release
	Scaled         bool              `json:"scaled,omitempty"`  // Replicas was set by maru scale: deploys keep it
	Stopped        bool              `json:"stopped,omitempty"`
	VirtualAddress Addresses         `json:"virtualAddress"`
	Protocols      map[uint16]string `json:"protocols,omitempty"` // recognized on the first ready instance of Release
	HostPorts      map[string]uint16 `json:"hostPorts,omitempty"` // picked by the server, by "target/protocol"
	Faults         []Fault           `json:"faults,omitempty"`    // set while it runs, beside those of the file
	Shifting       int               `json:"shifting,omitempty"`  // the release that a rollout moves traffic to step by step; 0: none
	Mirroring      bool              `json:"mirroring,omitempty"` // requests are copied to Shifting
	Warm           *Warm             `json:"warm,omitempty"`      // kept ready to go back to
	Since          time.Time         `json:"since,omitzero"`      // when it was first deployed
	Seeded         bool              `json:"seeded,omitempty"`    // its seed has run
}

// Warm is a release that does not serve any more, with instances that could at once.
type Warm struct {
	Release  int       `json:"release"`
	Replicas int       `json:"replicas"`
	Until    time.Time `json:"until"`
}

// Weight is a release's share of traffic, relative to the others.
type Weight struct {
	Release int `json:"release"`
	Weight  int `json:"weight"`
}

// RolloutPhase is how far a rollout, or one service of it, is.
type RolloutPhase string

// The phases. Succeeded, Failed, RolledBackPhase and Superseded are final.
const (
	Pending         RolloutPhase = "pending"   // waits for what it depends on
	Releasing       RolloutPhase = "releasing" // its release step runs
	Seeding         RolloutPhase = "seeding"   // its seed runs
	Starting        RolloutPhase = "starting"  // new instances become ready
	Shifting        RolloutPhase = "shifting"  // traffic moves to them step by step
	Draining        RolloutPhase = "draining"  // traffic is moved; the old instances finish
	Succeeded       RolloutPhase = "succeeded"
	RollingBack     RolloutPhase = "rolling-back"
	RolledBackPhase RolloutPhase = "rolled-back"
	Failed          RolloutPhase = "failed"
	Superseded      RolloutPhase = "superseded" // a newer rollout took over
)

// Rollout moves services of one app from their releases to others. An app has at most one that is
// not final; it succeeds or goes back as a whole.
type Rollout struct {
	Scope    Scope                     `json:"scope"`
	Number   int                       `json:"number"` // counts per app and environment, from 1
	Phase    RolloutPhase              `json:"phase"`
	Services map[string]ServiceRollout `json:"services"`          // that change; by name
	Removed  []string                  `json:"removed,omitempty"` // services that are gone from the file
	Reason   string                    `json:"reason,omitempty"`  // why it failed, in words
	Paused   bool                      `json:"paused,omitempty"`  // no service goes to its next step
	After    map[string]int            `json:"after,omitempty"`   // the release of each service once it succeeded
	Cause    string                    `json:"cause"`             // deploy, rollback, restart, remove
	Of       int                       `json:"of,omitempty"`      // rollback: the rollout whose state comes back
	By       string                    `json:"by"`
	Origin   *Origin                   `json:"origin,omitempty"` // nil: it was not deployed from Git
	Started  time.Time                 `json:"started"`
	Exposed  time.Time                 `json:"exposed,omitzero"` // since when users have had something of it
	Served   time.Time                 `json:"served,omitzero"`  // since when all traffic went to its releases
	Ended    time.Time                 `json:"ended,omitzero"`
}

// ServiceRollout is one service's part in a rollout.
type ServiceRollout struct {
	From     int          `json:"from"` // release before; 0: none
	To       int          `json:"to"`   // as From: the release that runs is to be ready again, as after a stop
	Phase    RolloutPhase `json:"phase"`
	Since    time.Time    `json:"since"` // of Phase
	Reason   string       `json:"reason,omitempty"`
	Fresh    bool         `json:"fresh,omitempty"`    // To has never run: its release step is to run, and a job itself
	Replicas int          `json:"replicas,omitempty"` // wanted before
	Stopped  bool         `json:"stopped,omitempty"`  // it was stopped before

	// While its traffic shifts:
	Step     int       `json:"step,omitempty"`     // of the steps, from 1, whose share is in force; 0: none yet
	Stepped  time.Time `json:"stepped,omitzero"`   // since when
	Next     time.Time `json:"next,omitzero"`      // since when it is on its way to the next step; zero: it is not
	Promoted int       `json:"promoted,omitempty"` // the step up to which a person lets it go without evidence
	Held     string    `json:"held,omitempty"`     // why it does not go on by itself
	Verdict  *Verdict  `json:"verdict,omitempty"`  // of the judge, when it was last acted upon

	// Once the rollout has succeeded:
	After       AfterPhase `json:"after,omitempty"` // of the step that follows; "": there is none
	AfterReason string     `json:"afterReason,omitempty"`
}

// AfterPhase is how far the step is that runs once a rollout has succeeded.
type AfterPhase string

// The phases. A newer rollout ends a step that runs.
const (
	AfterRuns   AfterPhase = "running"
	AfterDone   AfterPhase = "done"
	AfterFailed AfterPhase = "failed"
)

// AfterRuns tells whether a step still runs that follows the rollout's success.
func (r Rollout) AfterRuns() bool {
	for _, s := range r.Services {
		if s.After == AfterRuns {
			return true
		}
	}
	return false
}

// Final tells whether the phase is one that nothing follows.
func (p RolloutPhase) Final() bool {
	return p == Succeeded || p == Failed || p == RolledBackPhase || p == Superseded
}
