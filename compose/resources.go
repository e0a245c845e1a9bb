package compose

import (
	"fmt"
	"strconv"

	"github.com/marucloud/maru"
)

// defaultPeriod is the kernel's, in microseconds.
const defaultPeriod = 100_000

// resources reads limits and reservations. Those of deploy win; both at once are the same, or an error
// before.
func (s *service) resources() maru.Resources {
	in := s.in
	r := maru.Resources{
		CPUs:           cores(in.CPUS),
		Memory:         int64(in.MemLimit),
		Swap:           int64(in.MemSwapLimit),
		PIDs:           in.PidsLimit,
		ReserveMemory:  int64(in.MemReservation),
		CPUSet:         in.CPUSet,
		CPUShares:      in.CPUShares,
		OOMKillDisable: in.OomKillDisable,
	}
	if in.CPUQuota > 0 && r.CPUs == 0 {
		period := in.CPUPeriod
		if period <= 0 {
			period = defaultPeriod
		}
		r.CPUs = float64(in.CPUQuota) / float64(period)
	}
	if in.BlkioConfig != nil {
		r.BlockIOWeight = in.BlkioConfig.Weight
		if w := r.BlockIOWeight; w != 0 && (w < 10 || w > 1000) {
			s.fail(maru.Invalid, fmt.Sprintf("%d is out of range", w), "it is 10 to 1000", "blkio_config", "weight")
		}
	}
	if in.Deploy != nil {
		if limits := in.Deploy.Resources.Limits; limits != nil {
			r.CPUs = either(cores(limits.NanoCPUs.Value()), r.CPUs)
			r.Memory = either(int64(limits.MemoryBytes), r.Memory)
			r.PIDs = either(limits.Pids, r.PIDs)
		}
		if reserved := in.Deploy.Resources.Reservations; reserved != nil {
			r.ReserveCPUs = cores(reserved.NanoCPUs.Value())
			r.ReserveMemory = either(int64(reserved.MemoryBytes), r.ReserveMemory)
		}
	}
	s.checkResources(r)
	return r
}

// cores gives a number of cores as it was written: compose-go has it in 32 bits.
func cores(value float32) float64 {
	exact, err := strconv.ParseFloat(strconv.FormatFloat(float64(value), 'g', -1, 32), 64)
	if err != nil {
		return float64(value)
	}
	return exact
}

func either[T comparable](a, b T) T {
	var zero T
	if a != zero {
		return a
	}
	return b
}

// leastMemory is what no container starts with less of.
const leastMemory = 6 << 20

func (s *service) checkResources(r maru.Resources) {
	key := []string{"mem_limit"}
	if s.has("deploy", "resources", "limits", "memory") {
		key = []string{"deploy", "resources", "limits", "memory"}
	}
	switch {
	case r.Memory < 0:
		s.fail(maru.Invalid, "a limit of memory can't be negative", "leave it out for no limit", key...)
	case r.Memory > 0 && r.Memory < leastMemory:
		s.fail(maru.Invalid, fmt.Sprintf("%d bytes are too little for a container", r.Memory), "sizes are in bytes unless they say m or g: 64m", key...)
	case r.Memory > 0 && r.ReserveMemory > r.Memory:
		s.fail(maru.Invalid, "more memory is reserved than the limit allows", "raise the limit, or reserve less", key...)
	}
	if r.Swap > 0 && r.Memory == 0 {
		s.fail(maru.Invalid, "memswap_limit needs mem_limit", "it is memory and swap together: set both", "memswap_limit")
	} else if r.Swap > 0 && r.Swap < r.Memory {
		s.fail(maru.Invalid, "memswap_limit is less than mem_limit", "it is memory and swap together", "memswap_limit")
	}
}
