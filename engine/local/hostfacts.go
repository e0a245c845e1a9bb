package local

import (
	"bytes"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/engine/local/cgroup"
)

// hostFacts are what this machine and this process allow containers to have.
type hostFacts struct {
	capabilities  []string // that can be given, with CAP_
	oomScore      int      // our own: without CAP_SYS_RESOURCE nothing can go below
	swap          bool     // swap is accounted, so it can be limited
	blockWeight   bool     // the I/O scheduler knows weights
	unified       bool     // cgroup version 2
	seccomp       bool
	noUsers       string // why instances can't have users of their own; "": they can
	noUserVolumes string // why those with volumes can't
	initProgram   string
	resolvConf    []byte // the host's, for instances in its network
}

func findHostFacts(groups *cgroup.Hierarchies) (hostFacts, error) {
	facts := hostFacts{unified: groups.Unified()}
	var err error
	if facts.capabilities, err = cap.Current(); err != nil {
		return facts, err
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return facts, err
	}
	if facts.oomScore, err = strconv.Atoi(string(bytes.TrimSpace(score))); err != nil {
		return facts, err
	}
	facts.swap = groups.Has("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
	facts.blockWeight = groups.Has("blkio", "blkio.weight", "io.weight") || groups.Has("blkio", "blkio.bfq.weight", "io.bfq.weight")
	if facts.resolvConf, err = os.ReadFile("/etc/resolv.conf"); err != nil && !os.IsNotExist(err) {
		return facts, err
	}
	return facts, nil
}

// may tells whether containers can be given the capability.
func (f hostFacts) may(capability string) bool { return slices.Contains(f.capabilities, capability) }

// hardLimit gives this process's hard limit of a resource that containers inherit.
func hardLimit(resource int) uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(resource, &limit) != nil {
		return unix.RLIM_INFINITY
	}
	return limit.Max
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address := net.ParseIP(host)
	return address != nil && address.IsLoopback()
}

// rlimits are the resources whose limits can be set, by their name in lower case.
var rlimits = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
	"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}
