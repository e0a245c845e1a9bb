package local

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

const sigkill = unix.SIGKILL

// instance is what its workload's actor knows of one instance. Only the actor touches it, but for
// file and reaps.
type instance struct {
	rec     record
	version uint64 // of rec, for file
	file    *recordFile

	state     plan.InstanceState
	busy      bool // an action is under way
	dying     bool // its process ended, and the end of its log is being read
	ready     bool
	drained   bool
	why       string // not ready
	unhealthy string // the liveness probe's last answer, when it failed for good
	blocked   string // what keeps it from being started
	killed    time.Time
	attempt   *attempt // while it runs
	unwatch   func()   // ends what watches the attempt

	phase     maru.Phase
	nextStart time.Time

	reaps sync.WaitGroup // of ended attempts
}

func (inst *instance) facts() plan.InstanceFacts {
	return plan.InstanceFacts{
		ID:        inst.rec.ID,
		State:     inst.state,
		Busy:      inst.busy || inst.dying,
		Created:   inst.rec.Created,
		Ready:     inst.ready,
		WasReady:  inst.rec.WasReady,
		Unhealthy: inst.unhealthy != "",
		Blocked:   inst.blocked != "",
		Draining:  inst.rec.Draining,
		Drained:   inst.drained,
		Signaled:  inst.rec.Signaled,
		Killed:    inst.killed,
		Ended:     inst.rec.Ended,
		Failed:    inst.rec.Failed,
		Ends:      inst.rec.Ends,
	}
}

func (inst *instance) observe(want maru.Workload) maru.Instance {
	o := maru.Instance{
		ID:         inst.rec.ID,
		Addresses:  inst.rec.Addresses,
		Phase:      inst.phase,
		Ready:      inst.ready,
		Attempt:    max(inst.rec.Attempt, 1),
		Created:    inst.rec.Created,
		Started:    inst.rec.Started,
		ReadySince: inst.rec.ReadySince,
		LastExit:   inst.rec.LastExit,
		Protocols:  inst.rec.Protocols,
	}
	switch inst.phase {
	case maru.PhasePending:
		o.Message = inst.blocked
	case maru.PhaseRunning:
		if !inst.ready {
			o.Message = inst.why
		}
	case maru.PhaseStopping:
		o.Message = inst.unhealthy
	case maru.PhaseBackoff:
		o.NextStart = inst.nextStart
		o.Message = inst.ending(want)
	case maru.PhaseFailed:
		o.Message = inst.ending(want)
	}
	return o
}

// ending tells in words how the last attempt ended.
func (inst *instance) ending(want maru.Workload) string {
	if inst.rec.Problem != "" {
		return inst.rec.Problem
	}
	if inst.rec.LastExit == nil {
		return ""
	}
	return describeExit(*inst.rec.LastExit, want.Container.Resources)
}

// describeExit tells in words how a container ended.
func describeExit(exit maru.Exit, limits maru.Resources) string {
	switch {
	case exit.Probe != "":
		return "was stopped because its liveness probe failed: " + exit.Probe
	case exit.OutOfDisk:
		return fmt.Sprintf("was killed for writing more than its limit of %s to the disk", formatBytes(limits.Disk))
	case exit.OutOfMemory && limits.Memory > 0:
		return fmt.Sprintf("was killed for going over its memory limit of %s", formatBytes(limits.Memory))
	case exit.OutOfMemory:
		return "was killed because the machine was out of memory"
	case exit.Signal != "":
		return "was ended by " + exit.Signal
	}
	return fmt.Sprintf("exited with code %d", exit.Code)
}

func formatBytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(n), 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + " " + units[unit]
}

// randomSuffix gives five letters and digits.
func randomSuffix() string { return strings.ToLower(rand.Text()[:5]) }
