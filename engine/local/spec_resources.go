package local

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/marucloud/maru"
)

const (
	defaultPIDs = 4096
	cpuShares   = 1024    // of one core
	minMemory   = 6 << 20 // less does not even start the runtime's own init
)

func newResources(in specInput) (*specs.LinuxResources, error) {
	r := in.Workload.Container.Resources
	if r.Memory != 0 && r.Memory < minMemory {
		return nil, maru.Errorf(maru.Invalid, "a memory limit of %d bytes is less than the 6 MiB that any instance needs", r.Memory)
	}
	pids := r.PIDs
	if pids == 0 {
		pids = defaultPIDs
	}
	resources := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
		Memory:  newMemory(in),
		CPU:     newCPU(r),
		Pids:    &specs.LinuxPids{Limit: &pids},
	}
	if r.BlockIOWeight != 0 {
		if in.Host.blockWeight {
			resources.BlockIO = &specs.LinuxBlockIO{Weight: &r.BlockIOWeight}
		} else {
			in.Warn.Warn("the I/O scheduler of this machine knows no weights", "weight", r.BlockIOWeight)
		}
	}
	return resources, nil
}

func newMemory(in specInput) *specs.LinuxMemory {
	r := in.Workload.Container.Resources
	memory := &specs.LinuxMemory{}
	if r.Memory > 0 {
		memory.Limit = &r.Memory
		swap := r.Swap
		if swap == 0 {
			swap = r.Memory
		}
		if in.Host.swap {
			memory.Swap = &swap
		}
	}
	if r.ReserveMemory > 0 {
		memory.Reservation = &r.ReserveMemory
	}
	if r.OOMKillDisable {
		if in.Host.unified {
			in.Warn.Warn("cgroup version 2 can't keep the kernel from ending what is out of memory")
		} else {
			memory.DisableOOMKiller = &r.OOMKillDisable
		}
	}
	return memory
}

// newCPU leaves the limit out: what the OCI runtime does in the instance's group before the program
// starts would count against it, and be throttled. See [start.launch].
func newCPU(r maru.Resources) *specs.LinuxCPU {
	cpu := &specs.LinuxCPU{Cpus: r.CPUSet}
	shares := uint64(max(r.CPUShares, 0))
	if shares == 0 && r.ReserveCPUs > 0 {
		shares = max(uint64(r.ReserveCPUs*cpuShares), 2)
	}
	if shares > 0 {
		cpu.Shares = &shares
	}
	return cpu
}
