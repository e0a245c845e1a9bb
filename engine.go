package maru

import (
	"context"
	"io"
	"iter"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Workload is a release made to run: all that an engine needs to know. It is immutable but for
// Replicas.
type Workload struct {
	ID             WorkloadID          `json:"id"`
	Kind           ServiceKind         `json:"kind"`
	Image          string              `json:"image"` // reference with digest, present in the engine's image store
	Replicas       int                 `json:"replicas"`
	Container      Container           `json:"container"`
	Files          []File              `json:"files,omitempty"`
	Volumes        map[string]VolumeID `json:"volumes,omitempty"` // for each Mount of kind volume with a Source
	Networks       []NetworkID         `json:"networks,omitempty"`
	Isolated       bool                `json:"isolated,omitempty"` // no way out of the machine
	Ports          []Port              `json:"ports,omitempty"`    // declared, in the order to prefer
	Aliases        map[string][]string `json:"aliases,omitempty"`  // names by NetworkID.String()
	VirtualAddress Addresses           `json:"virtualAddress"`

	// Held has its instance wait for its command, which runs with an Exec without Args, once, and with
	// whose end the instance ends. An instance that nobody gives its command in a minute ends too.
	Held bool `json:"held,omitempty"`
}

// File is a config or secret in an instance.
type File struct {
	Path   string `json:"path"`
	Mode   uint32 `json:"mode"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Data   []byte `json:"data"`
	Secret bool   `json:"secret,omitempty"` // kept in memory only, never on a disk
}

// VolumeID names a volume: of one app, or with App "" shared by the environment.
type VolumeID struct {
	Scope
	Volume string
}

// String gives "project/environment/app/volume".
func (v VolumeID) String() string { return v.Scope.String() + "/" + v.Volume }

// MarshalText gives the form of String.
func (v VolumeID) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the form of String.
func (v *VolumeID) UnmarshalText(text []byte) error {
	parts, err := splitPath(string(text), 4)
	if err != nil {
		return err
	}
	*v = VolumeID{Scope{parts[0], parts[1], parts[2]}, parts[3]}
	return nil
}

// NetworkID names a network: of one app, or with App "" shared by the environment.
type NetworkID struct {
	Scope
	Network string
}

// String gives "project/environment/app/network".
func (n NetworkID) String() string { return n.Scope.String() + "/" + n.Network }

// MarshalText gives the form of String.
func (n NetworkID) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads the form of String.
func (n *NetworkID) UnmarshalText(text []byte) error {
	parts, err := splitPath(string(text), 4)
	if err != nil {
		return err
	}
	*n = NetworkID{Scope{parts[0], parts[1], parts[2]}, parts[3]}
	return nil
}

// Addresses is an IPv4 and an IPv6 address of the same thing. Either may be the zero Addr.
type Addresses struct {
	V4 netip.Addr `json:"v4,omitzero"`
	V6 netip.Addr `json:"v6,omitzero"`
}

// Phase is what an instance is doing.
type Phase string

// The phases of an instance, in the order of its life. Backoff goes back to Creating.
const (
	PhasePending  Phase = "pending"  // waits: for its volume's holder to go, or for a limit on starts
	PhaseCreating Phase = "creating" // file system, network, container
	PhaseRunning  Phase = "running"  // its process lives; Ready says whether it takes traffic
	PhaseDraining Phase = "draining" // to be stopped, still answering what it has
	PhaseStopping Phase = "stopping" // got its signal
	PhaseBackoff  Phase = "backoff"  // ended or could not start; is started again at NextStart
	PhaseDone     Phase = "done"     // ended by itself with exit code 0 and stays so
	PhaseFailed   Phase = "failed"   // ended otherwise and stays so
)

// Instance is one running container of a release, as observed. Its ID and addresses stay when it is
// restarted in place; Attempt counts the containers it has had, from 1.
type Instance struct {
	ID         string            `json:"id"` // unique on the engine: SERVICE-RELEASE-xxxxx
	Addresses  Addresses         `json:"addresses"`
	Phase      Phase             `json:"phase"`
	Ready      bool              `json:"ready"`
	Message    string            `json:"message,omitempty"` // why it is not ready, in words
	Attempt    int               `json:"attempt"`
	Created    time.Time         `json:"created"`
	Started    time.Time         `json:"started,omitzero"` // of this attempt
	ReadySince time.Time         `json:"readySince,omitzero"`
	NextStart  time.Time         `json:"nextStart,omitzero"`
	LastExit   *Exit             `json:"lastExit,omitempty"`
	Protocols  map[uint16]string `json:"protocols,omitempty"` // recognized on declared ports: http, h2c, tcp
}

// Exit tells how a container ended.
type Exit struct {
	Code        int       `json:"code"`
	Signal      string    `json:"signal,omitempty"`
	OutOfMemory bool      `json:"outOfMemory,omitempty"`
	OutOfDisk   bool      `json:"outOfDisk,omitempty"` // it was killed for going over Resources.Disk
	Probe       string    `json:"probe,omitempty"`     // it was killed for failing its liveness probe: the last answer
	At          time.Time `json:"at"`
	LastLines   []string  `json:"lastLines,omitempty"` // of its log
}

// Observation is the present state of one workload.
type Observation struct {
	Workload  WorkloadID `json:"workload"`
	Wanted    int        `json:"wanted"`              // replicas as last applied
	Instances []Instance `json:"instances,omitempty"` // sorted by ID
	Gone      bool       `json:"gone,omitempty"`      // removed, and nothing of it is left
	Synced    bool       `json:"synced,omitempty"`    // no workload: all that there was has been told
}

// Engine runs workloads.
//
// Apply and Remove say what is wanted and return when that is kept durably, not when it is done; both
// are idempotent. The engine then keeps as many instances alive and ready as wanted, restarts and
// replaces them by itself, also while nobody watches, and tells the outcome through Watch. An
// instance that is to go is first observed as draining, and gets its stop signal when [Drainer] says
// that it is out of use or its drain time is up. Methods are safe for concurrent use.
type Engine interface {
	// Apply makes w wanted. Only Replicas may differ from an earlier Apply of the ID: Conflict. The
	// engine refuses what it can't do with Unsupported, a missing image with NotFound.
	Apply(ctx context.Context, w Workload) error
	// Remove makes the workload unwanted: its instances drain and stop, and all that it has but
	// volumes and logs goes. Removing what is not there is no error.
	Remove(ctx context.Context, id WorkloadID) error
	// Watch gives an Observation for each workload there is, then one with Synced, then one for each
	// workload that changed, until ctx ends or the engine is away (the error). A slow watcher misses
	// intermediate states, never the last one.
	Watch(ctx context.Context) iter.Seq2[Observation, error]
}

// Drainer is told when a draining instance has no more requests in flight and may be stopped at once.
type Drainer interface {
	Drained(ctx context.Context, instance string) error
}

// Logs gives what instances wrote.
type Logs interface {
	// Logs yields matching entries, oldest first per instance and merged by time, then with q.Follow
	// those to come, until ctx ends.
	Logs(ctx context.Context, q LogQuery) iter.Seq2[LogEntry, error]
}

// Execer runs further processes in an instance.
type Execer interface {
	// Exec runs the command to its end and gives its exit code. Stdin is read until it ends, unless nil.
	// A program that can't be started is an error (Invalid) beside the exit code that shells give for it:
	// 127 when it is not there, 126 when it can't be executed.
	Exec(ctx context.Context, instance string, cmd ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error)
}

// ExecCommand is a command to run in an instance.
type ExecCommand struct {
	Args []string          `json:"args"` // none: the instance's own, which is held for that
	Env  map[string]string `json:"env,omitempty"`
	User string            `json:"user,omitempty"`
	Dir  string            `json:"dir,omitempty"`
	TTY  bool              `json:"tty,omitempty"`
	Size <-chan TermSize   `json:"-"` // changes of the terminal's size; the first is the initial one

	Signals <-chan string `json:"-"` // for the process, such as SIGINT

	// Alone is for a command that has the instance for itself: when its caller goes away, all that runs there ends with
	// it but the instance's first process, and Exec returns when that is gone.
	Alone bool `json:"alone,omitempty"`
}

// TermSize is a terminal's size in cells.
type TermSize struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Forwarder connects to a port of an instance.
type Forwarder interface {
	Forward(ctx context.Context, instance string, port uint16) (net.Conn, error)
}

// Constrained tells what an engine goes without on this machine.
type Constrained interface {
	// Constraints are in words, each with its reason; none when all is as it should be.
	Constraints(ctx context.Context) ([]string, error)
}

// Meter tells what instances use.
type Meter interface {
	Usage(ctx context.Context) ([]Usage, error)
}

// Usage is what an instance used. Counters grow from the instance's start.
type Usage struct {
	Instance    string        `json:"instance"`
	CPU         time.Duration `json:"cpu"`
	Memory      int64         `json:"memory"` // working set, bytes
	MemoryLimit int64         `json:"memoryLimit,omitempty"`
	PIDs        int64         `json:"pids"`
	ReadBytes   int64         `json:"readBytes"`
	WriteBytes  int64         `json:"writeBytes"`
}

// Volumes keeps the engine's volumes.
type Volumes interface {
	Volumes(ctx context.Context) ([]VolumeStatus, error)
	// RemoveVolume deletes the volume and its content; Conflict while an instance holds it.
	RemoveVolume(ctx context.Context, id VolumeID) error
	// ExportVolume writes the content as a tar stream with owners, modes, times, links and extended
	// attributes. Holders are frozen meanwhile, so that it is one moment's.
	ExportVolume(ctx context.Context, id VolumeID, w io.Writer) error
	// ImportVolume makes the volume with the content of a tar stream; Exists when it is there.
	ImportVolume(ctx context.Context, id VolumeID, r io.Reader) error
}

// VolumeStatus is a volume as observed.
type VolumeStatus struct {
	ID      VolumeID  `json:"id"`
	Bytes   int64     `json:"bytes"`
	Created time.Time `json:"created"`
	Holders []string  `json:"holders,omitempty"` // instances
}

// Images keeps the engine's images.
type Images interface {
	// Pull fetches the image and gives it by digest. Progress is called from one goroutine and may be nil.
	Pull(ctx context.Context, ref string, opts PullOptions, progress func(PullProgress)) (Image, error)
	// Load takes an OCI or docker archive and gives the images in it.
	Load(ctx context.Context, archive io.Reader) ([]Image, error)
	// Image finds an image that is present, by reference with or without digest; NotFound.
	Image(ctx context.Context, ref string) (Image, error)
	// Images lists what is present, sorted by reference.
	Images(ctx context.Context) ([]Image, error)
	// Prune removes what Maru brought and neither an instance nor keep uses, and tells what it removed.
	Prune(ctx context.Context, keep []string) ([]Image, error)
}

// ImageSaver writes images where [Images.Load] can take them from again.
type ImageSaver interface {
	// SaveImages writes an OCI archive with the images, for this machine's platform; NotFound.
	SaveImages(ctx context.Context, refs []string, w io.Writer) error
}

// PullOptions says how to fetch an image.
type PullOptions struct {
	Platform string `json:"platform,omitempty"` // os/arch[/variant]; "": this machine's
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// PullProgress is how far a pull is. Total is 0 until known.
type PullProgress struct {
	Done  int64 `json:"done"`  // bytes
	Total int64 `json:"total"` // bytes
}

// Image is an image that is present.
type Image struct {
	Reference string      `json:"reference"`       // NAME@sha256:…, what releases and workloads use
	Names     []string    `json:"names,omitempty"` // with tags
	Platform  string      `json:"platform"`
	Bytes     int64       `json:"bytes"` // content, compressed as stored
	Created   time.Time   `json:"created,omitzero"`
	Config    ImageConfig `json:"config"`
}

// ImageConfig is what an image says of how to run it.
type ImageConfig struct {
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Command    []string          `json:"command,omitempty"`
	User       string            `json:"user,omitempty"`
	WorkDir    string            `json:"workDir,omitempty"`
	Ports      []Port            `json:"ports,omitempty"`
	Volumes    []string          `json:"volumes,omitempty"`
	StopSignal string            `json:"stopSignal,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// Itoa is strconv.Itoa, for names made of release numbers.
func Itoa(n int) string { return strconv.Itoa(n) }
