package network

import (
	"math/rand/v2"
	"time"

	"github.com/marucloud/maru"
)

// reuseDelay is how long an address rests after its last use, so that nobody who still has it in a
// cache or a connection reaches somebody else.
const reuseDelay = 2 * time.Minute

// allocator hands out places in the instance ranges, the same one in both families.
type allocator struct {
	ranges  maru.Ranges
	size    uint32
	next    uint32
	used    map[uint32]bool
	resting map[uint32]time.Time // until when
}

func newAllocator(r maru.Ranges) *allocator {
	a := &allocator{ranges: r, used: map[uint32]bool{}, resting: map[uint32]time.Time{}}
	a.size = 1 << (32 - r.InstancesV4.Bits())
	// What rested when the process ended is forgotten: begin elsewhere.
	a.next = rand.Uint32N(a.size)
	return a
}

// allocate takes the next free place, so that one that was used comes again as late as can be.
func (a *allocator) allocate(now time.Time) (maru.Addresses, error) {
	for range a.size {
		offset := a.next
		a.next = (a.next + 1) % a.size
		if offset == 0 || offset == a.size-1 || a.used[offset] {
			continue
		}
		if until, ok := a.resting[offset]; ok {
			if now.Before(until) {
				continue
			}
			delete(a.resting, offset)
		}
		a.used[offset] = true
		return a.at(offset), nil
	}
	return maru.Addresses{}, maru.WithHint(maru.Errorf(maru.Exhausted, "no free address in %v", a.ranges.InstancesV4),
		"run fewer instances, or give this machine a larger range")
}

func (a *allocator) at(offset uint32) maru.Addresses {
	addrs := maru.Addresses{V4: offsetAddr(a.ranges.InstancesV4, offset)}
	if a.ranges.InstancesV6.IsValid() {
		addrs.V6 = offsetAddr(a.ranges.InstancesV6, offset)
	}
	return addrs
}

func (a *allocator) reserve(addrs maru.Addresses) {
	if offset, ok := addrOffset(a.ranges.InstancesV4, addrs.V4); ok {
		a.used[offset] = true
		delete(a.resting, offset)
	}
}

func (a *allocator) release(addrs maru.Addresses, now time.Time) {
	offset, ok := addrOffset(a.ranges.InstancesV4, addrs.V4)
	if !ok || !a.used[offset] {
		return
	}
	delete(a.used, offset)
	a.resting[offset] = now.Add(reuseDelay)
	for offset, until := range a.resting {
		if !now.Before(until) {
			delete(a.resting, offset)
		}
	}
}
