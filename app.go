package maru

import (
	"encoding/json"
	"time"
)

// App is what one compose file defines. Its JSON form is what the API takes.
type App struct {
	Name         string                       `json:"name"`
	Services     map[string]Service           `json:"services"`
	Networks     map[string]Network           `json:"networks,omitempty"`
	Volumes      map[string]Volume            `json:"volumes,omitempty"`
	Configs      map[string]Config            `json:"configs,omitempty"`
	Secrets      map[string]SecretRef         `json:"secrets,omitempty"`
	Environments map[string]EnvironmentPolicy `json:"environments,omitempty"`
}

// ServiceKind is how long a service's instances are to live.
type ServiceKind string

// The kinds of service.
const (
	LongRunning ServiceKind = "service" // kept running
	Job         ServiceKind = "job"     // runs to its end, once per release (compose restart: "no" or on-failure, waited for by service_completed_successfully)
)

// Service is one deployable of an app.
type Service struct {
	Kind          ServiceKind           `json:"kind"`
	Image         string                `json:"image,omitempty"` // as written; the tag given to what Build makes
	Platform      string                `json:"platform,omitempty"`
	Pull          string                `json:"pull,omitempty"` // always, missing (default), never, build
	Build         *Build                `json:"build,omitempty"`
	Container     Container             `json:"container"`
	Replicas      int                   `json:"replicas"`
	DependsOn     []Dependency          `json:"dependsOn,omitempty"` // sorted by service
	Networks      map[string]Attachment `json:"networks,omitempty"`
	Publish       []PublishedPort       `json:"publish,omitempty"`
	Expose        []Port                `json:"expose,omitempty"`
	Configs       []FileMount           `json:"configs,omitempty"`
	Secrets       []FileMount           `json:"secrets,omitempty"`
	Update        Update                `json:"update"`
	Routes        []Route               `json:"routes,omitempty"`
	Release       *ReleaseStep          `json:"release,omitempty"`    // before a new release gets traffic
	Seed          *ReleaseStep          `json:"seed,omitempty"`       // once in an environment that is seeded, after the release step
	After         *ReleaseStep          `json:"after,omitempty"`      // once a rollout that moved the service has succeeded
	Allow         []string              `json:"allow,omitempty"`      // callers: "gateway" or a service of this app; empty: the services sharing a network, and the gateway for its routes
	AllowCalls    map[string][]CallRule `json:"allowCalls,omitempty"` // what callers of Allow may ask; those that are not here: all
	Timeout       time.Duration         `json:"timeout,omitempty"`    // for one request; 0: none
	Retry         Retry                 `json:"retry"`
	Balance       Balance               `json:"balance,omitzero"`
	Limits        Limits                `json:"limits,omitzero"`
	Faults        []Fault               `json:"faults,omitempty"`
	Priority      Priority              `json:"priority,omitempty"`      // of the calls it makes; "": normal, of jobs low
	DNSRoundRobin bool                  `json:"dnsRoundRobin,omitempty"` // endpoint_mode: dnsrr: names give instances' addresses
	Labels        map[string]string     `json:"labels,omitempty"`
}

// Build says how to make a service's image from source.
type Build struct {
	Context          string            `json:"context"`              // folder, absolute on the machine where the file was read, or a Git URL
	Dockerfile       string            `json:"dockerfile,omitempty"` // within Context
	DockerfileInline string            `json:"dockerfileInline,omitempty"`
	Go               *GoBuild          `json:"go,omitempty"` // without a Dockerfile: a Go program
	Args             map[string]string `json:"args,omitempty"`
	Target           string            `json:"target,omitempty"`
	Contexts         map[string]string `json:"contexts,omitempty"` // additional_contexts
	CacheFrom        []string          `json:"cacheFrom,omitempty"`
	NoCache          bool              `json:"noCache,omitempty"`
	Pull             bool              `json:"pull,omitempty"`
	Network          string            `json:"network,omitempty"` // "", none, host
	Platforms        []string          `json:"platforms,omitempty"`
	Labels           map[string]string `json:"labels,omitempty"`
	Tags             []string          `json:"tags,omitempty"`
	Secrets          []BuildSecret     `json:"secrets,omitempty"`
	ExtraHosts       map[string]string `json:"extraHosts,omitempty"`
	ShmSize          int64             `json:"shmSize,omitempty"` // bytes
	Ulimits          []Ulimit          `json:"ulimits,omitempty"`
}

// GoBuild builds a Go main package straight to an image.
type GoBuild struct {
	Package string `json:"package"`      // within the context, "." for its root
	Go      string `json:"go,omitempty"` // toolchain version, such as 1.26.8; "" for Maru's pinned one
}

// BuildSecret is a secret that build steps can mount. Its value travels with the build, never with the app.
type BuildSecret struct {
	ID   string `json:"id"`
	File string `json:"file,omitempty"`
	Env  string `json:"env,omitempty"`
}

// Dependency delays a service's start.
type Dependency struct {
	Service   string    `json:"service"`
	Condition Condition `json:"condition"`
	Restart   bool      `json:"restart,omitempty"`  // restart when the other was updated
	Optional  bool      `json:"optional,omitempty"` // only if it is part of the app as deployed
}

// Condition is what a dependency waits for.
type Condition string

// The three conditions of Compose.
const (
	Started   Condition = "service_started"
	Healthy   Condition = "service_healthy"
	Completed Condition = "service_completed_successfully"
)

// Network is a group of services that reach each other. External ones are shared between the apps
// of one environment under their own name.
type Network struct {
	Name     string `json:"name,omitempty"` // of an external network
	External bool   `json:"external,omitempty"`
	Internal bool   `json:"internal,omitempty"` // no way out of the machine
}

// Attachment is a service's place in a network.
type Attachment struct {
	Aliases []string `json:"aliases,omitempty"`
}

// Volume is storage that outlives instances. A volume belongs to the app in its environment, unless
// it is External: then to the environment, under Name.
type Volume struct {
	Name     string            `json:"name,omitempty"`
	External bool              `json:"external,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// Config is a file that instances get. Its content is part of the release.
type Config struct {
	Content  []byte `json:"content,omitempty"`
	External bool   `json:"external,omitempty"` // set on the server, under Name
	Name     string `json:"name,omitempty"`
}

// SecretRef is a secret of the app. Its value is not part of the app: it is kept by the server,
// encrypted, under Name, and releases refer to its version.
type SecretRef struct {
	Name     string `json:"name"`
	External bool   `json:"external,omitempty"` // must have been set before; else the deploy brings the value
}

// FileMount puts a config or secret at a path.
type FileMount struct {
	Source string `json:"source"` // key in App.Configs or App.Secrets
	Target string `json:"target"` // absolute
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Mode   uint32 `json:"mode"`
}

// Port is a port that a container listens on.
type Port struct {
	Port     uint16   `json:"port"`
	Protocol Protocol `json:"protocol"`      // TCP or UDP
	App      string   `json:"app,omitempty"` // what is spoken: http, h2c, grpc, tcp; "" to be recognized

	// Assumed says that the image names the port and nobody asks for it: who does not know better waits
	// for it, but not for ever.
	Assumed bool `json:"assumed,omitempty"`

	// ProxyProtocol is the version, 1 or 2, of the PROXY header by which each connection from outside, to a
	// published port or by TLS that is passed through, tells the service its client; 0: there is none.
	ProxyProtocol int `json:"proxyProtocol,omitempty"`
}

// Protocol is a transport protocol.
type Protocol string

// The transport protocols.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// PublishedPort is a port of the host that leads to a service.
type PublishedPort struct {
	HostIP   string `json:"hostIP,omitempty"` // "" for all addresses
	HostPort uint16 `json:"hostPort"`         // 0: the server picks one and keeps it
	Target   Port   `json:"target"`
}

// Update is how a service moves from one release to the next.
type Update struct {
	Strategy   Strategy      `json:"strategy"`
	Parallel   int           `json:"parallel,omitempty"` // instances started at once; 0: all
	Delay      time.Duration `json:"delay,omitempty"`    // between batches
	StopFirst  bool          `json:"stopFirst,omitempty"`
	Deadline   time.Duration `json:"deadline,omitempty"`   // for all instances to become ready; 0: 5 minutes
	NoRollback bool          `json:"noRollback,omitempty"` // failure_action: pause
	Monitor    time.Duration `json:"monitor,omitempty"`    // a crash this soon after becoming ready fails the rollout
	Shift      *Shift        `json:"shift,omitempty"`      // of canary and blue-green
}

// Strategy is the way of a rollout.
type Strategy string

// The strategies.
const (
	Rolling   Strategy = "rolling"    // start new, prove ready, swap, drain, stop old
	Recreate  Strategy = "recreate"   // stop old, then start new: for what holds a volume
	Canary    Strategy = "canary"     // a few new ones get a share of the traffic that grows step by step
	BlueGreen Strategy = "blue-green" // as many new ones as old, which stay for a while
)

// Retry says how often a safe request is tried again.
type Retry struct {
	Attempts   int           `json:"attempts"`             // after the first; <0: never; 0: the default, one for connections refused
	HedgeAfter time.Duration `json:"hedgeAfter,omitempty"` // a second instance is asked, too, when the first did not answer by then; 0: none
	HedgeAt    float64       `json:"hedgeAt,omitempty"`    // likewise, after the time in which this part of requests is answered, such as 0.95
}

// ReleaseStep is a one-off that runs in a release's image.
type ReleaseStep struct {
	Command []string      `json:"command"`
	Timeout time.Duration `json:"timeout,omitempty"` // 0: 10 minutes
}

// EnvironmentPolicy is what the file says of an environment.
type EnvironmentPolicy struct {
	Branch string        `json:"branch,omitempty"` // or a pattern with stars: an environment for each branch, a preview
	Deploy string        `json:"deploy,omitempty"` // auto, manual
	Domain string        `json:"domain,omitempty"` // where its routes are; of previews "*.suffix", the star being the branch
	TTL    time.Duration `json:"ttl,omitempty"`    // how long a preview stays without a push; 0: as long as its branch
	Limit  int           `json:"limit,omitempty"`  // most previews at a time; 0: 10
	Clone  string        `json:"clone,omitempty"`  // the environment whose volumes previews begin with, in the place of a seed
	Share  []string      `json:"share,omitempty"`  // the environments that may begin with the volumes of this one
}

// Raw gives the JSON form of any of this package's nouns, which can't fail to encode.
func Raw(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic("maru: " + err.Error())
	}
	return data
}
