package maru

import "time"

// Container is what runs, apart from its image. A nil slice means "as the image says"; an empty one
// means none.
type Container struct {
	Entrypoint  []string          `json:"entrypoint,omitzero"`
	Command     []string          `json:"command,omitzero"`
	Env         map[string]string `json:"env,omitempty"` // over the image's
	WorkDir     string            `json:"workDir,omitempty"`
	User        string            `json:"user,omitempty"`   // name or number, with ":group"
	Groups      []string          `json:"groups,omitempty"` // group_add
	Hostname    string            `json:"hostname,omitempty"`
	Domainname  string            `json:"domainname,omitempty"`
	Init        bool              `json:"init,omitempty"` // a reaper as process 1
	TTY         bool              `json:"tty,omitempty"`
	Stdin       bool              `json:"stdin,omitempty"`
	ReadOnly    bool              `json:"readOnly,omitempty"` // root file system
	Mounts      []Mount           `json:"mounts,omitempty"`
	Ulimits     []Ulimit          `json:"ulimits,omitempty"`
	Sysctls     map[string]string `json:"sysctls,omitempty"`
	ShmSize     int64             `json:"shmSize,omitempty"` // bytes; 0: 64 MiB
	ExtraHosts  []HostEntry       `json:"extraHosts,omitempty"`
	DNS         []string          `json:"dns,omitempty"`
	DNSSearch   []string          `json:"dnsSearch,omitempty"`
	DNSOptions  []string          `json:"dnsOptions,omitempty"`
	OOMScoreAdj int               `json:"oomScoreAdj,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Resources   Resources         `json:"resources"`
	Host        HostAccess        `json:"host"`
	Probes      Probes            `json:"probes"`
	Restart     Restart           `json:"restart"`
	Stop        Stop              `json:"stop"`
}

// MountKind is where a mount's content comes from.
type MountKind string

// The kinds of mount.
const (
	VolumeMount MountKind = "volume"
	BindMount   MountKind = "bind" // needs a grant
	TmpfsMount  MountKind = "tmpfs"
	ImageMount  MountKind = "image" // another image's content, read only
)

// Mount puts a volume, a folder of the host or a tmpfs into a container.
type Mount struct {
	Kind        MountKind `json:"kind"`
	Source      string    `json:"source,omitempty"` // volume: key in App.Volumes, or "" for an anonymous one; bind: host path; image: reference
	Target      string    `json:"target"`
	ReadOnly    bool      `json:"readOnly,omitempty"`
	Shared      bool      `json:"shared,omitempty"`  // volume: two releases may hold it at once, because the file says so
	NoCopy      bool      `json:"noCopy,omitempty"`  // volume: don't start as a copy of what the image has there
	Subpath     string    `json:"subpath,omitempty"` // of the volume
	Size        int64     `json:"size,omitempty"`    // tmpfs: bytes
	Mode        uint32    `json:"mode,omitempty"`    // tmpfs
	Create      bool      `json:"create,omitempty"`  // bind: make the host folder if missing
	Propagation string    `json:"propagation,omitempty"`
}

// HostEntry is a line of /etc/hosts. Address may be "host-gateway".
type HostEntry struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// Ulimit is a resource limit of a process. -1 is unlimited.
type Ulimit struct {
	Name string `json:"name"` // as in getrlimit, lower case, without RLIMIT_
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// Resources are limits and reservations. Zero is none.
type Resources struct {
	CPUs           float64 `json:"cpus,omitempty"`          // limit, in cores
	Memory         int64   `json:"memory,omitempty"`        // limit, bytes
	Swap           int64   `json:"swap,omitempty"`          // memory and swap together, bytes; -1 unlimited; 0: as much as Memory, so none
	PIDs           int64   `json:"pids,omitempty"`          // limit; 0: 4096; -1: none
	Disk           int64   `json:"disk,omitempty"`          // what the root file system may grow by, bytes, looked at again and again; 0: no limit
	ReserveCPUs    float64 `json:"reserveCPUs,omitempty"`   // share under contention, in cores
	ReserveMemory  int64   `json:"reserveMemory,omitempty"` // protected under pressure, bytes
	CPUSet         string  `json:"cpuset,omitempty"`
	CPUShares      int64   `json:"cpuShares,omitempty"`
	OOMKillDisable bool    `json:"oomKillDisable,omitempty"`
	BlockIOWeight  uint16  `json:"blockIOWeight,omitempty"`
}

// HostAccess is what reaches into the host. Anything but the zero value needs a grant on the server.
type HostAccess struct {
	Privileged   bool     `json:"privileged,omitempty"`
	CapAdd       []string `json:"capAdd,omitempty"`  // without "CAP_", upper case
	CapDrop      []string `json:"capDrop,omitempty"` // needs no grant
	Devices      []Device `json:"devices,omitempty"`
	SecurityOpt  []string `json:"securityOpt,omitempty"`
	HostNetwork  bool     `json:"hostNetwork,omitempty"`
	HostPID      bool     `json:"hostPID,omitempty"`
	HostIPC      bool     `json:"hostIPC,omitempty"`
	HostUsers    bool     `json:"hostUsers,omitempty"` // userns_mode: host
	CgroupParent string   `json:"cgroupParent,omitempty"`
}

// Device is a device node of the host.
type Device struct {
	Source      string `json:"source"`
	Target      string `json:"target"`
	Permissions string `json:"permissions"` // of r, w, m
}

// Probes ask a container how it is.
type Probes struct {
	Ready *Probe `json:"ready,omitempty"` // takes traffic; nil: as soon as a declared port accepts, or at once without one
	Live  *Probe `json:"live,omitempty"`  // is restarted when it fails; a compose healthcheck sets Ready and Live to the same
}

// Probe is a question asked again and again. Exactly one of Exec, HTTP, TCP and GRPC is set.
type Probe struct {
	Exec []string   `json:"exec,omitempty"` // in the container; ready when it exits 0
	HTTP *HTTPProbe `json:"http,omitempty"`
	TCP  uint16     `json:"tcp,omitempty"`  // port that accepts a connection
	GRPC *GRPCProbe `json:"grpc,omitempty"` // grpc.health.v1

	Interval      time.Duration `json:"interval,omitempty"`      // 0: 1 s until first ready, then 10 s
	Timeout       time.Duration `json:"timeout,omitempty"`       // 0: 2 s
	Failures      int           `json:"failures,omitempty"`      // in a row until not ready; 0: 3
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`   // failures don't count until then
	StartInterval time.Duration `json:"startInterval,omitempty"` // between probes until first ready; 0: from 10 ms growing to 1 s
}

// HTTPProbe asks with a GET. Ready is any status of 200 to 399.
type HTTPProbe struct {
	Port    uint16            `json:"port,omitempty"` // 0: the first declared port
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers,omitempty"`
}

// GRPCProbe asks grpc.health.v1.Health.Check.
type GRPCProbe struct {
	Port    uint16 `json:"port,omitempty"`
	Service string `json:"service,omitempty"`
}

// RestartPolicy says when an instance that ended is started again.
type RestartPolicy string

// The restart policies. Always also restarts what exited with 0.
const (
	RestartAlways    RestartPolicy = "always"
	RestartOnFailure RestartPolicy = "on-failure"
	RestartNever     RestartPolicy = "never"
)

// Restart is a container's restart policy with its limits.
type Restart struct {
	Policy   RestartPolicy `json:"policy"`
	Attempts int           `json:"attempts,omitempty"` // 0: no limit
	Delay    time.Duration `json:"delay,omitempty"`    // of the first backoff; 0: 1 s. The first restart is at once
	Window   time.Duration `json:"window,omitempty"`   // running this long forgets the failures before; 0: 1 minute
}

// Stop says how an instance is ended: out of the routes, Drain, Signal, Grace, SIGKILL.
type Stop struct {
	Signal string        `json:"signal,omitempty"` // such as SIGTERM; "": the image's, else SIGTERM
	Grace  time.Duration `json:"grace,omitempty"`  // between Signal and SIGKILL; 0: 10 s
	Drain  time.Duration `json:"drain,omitempty"`  // longest wait for requests in flight before Signal; 0: 30 s
}
