package local

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/marucloud/maru"
)

// claims see to it that two releases of a service never write to a volume at the same time. The
// instances of one release share it, and so do services that were given the same volume on purpose,
// and jobs that run beside their service.
type claims struct {
	mu      sync.Mutex
	holders map[claim]map[string]maru.WorkloadID // by instance
	waiting map[*workload]bool                   // told when a volume is free again
}

// claim is a volume in the hands of a service.
type claim struct {
	volume  maru.VolumeID
	service maru.ServiceID
}

func newClaims() *claims {
	return &claims{holders: make(map[claim]map[string]maru.WorkloadID), waiting: make(map[*workload]bool)}
}

// claimed gives what a workload's instances hold, sorted.
func claimed(w maru.Workload) []claim {
	if w.Kind == maru.Job {
		return nil
	}
	var all []claim
	for _, id := range writable(w) {
		all = append(all, claim{id, w.ID.ServiceID})
	}
	return all
}

// writable gives the volumes that a workload's instances write to, sorted.
func writable(w maru.Workload) []maru.VolumeID {
	var ids []maru.VolumeID
	for _, m := range w.Container.Mounts {
		if m.Kind == maru.VolumeMount && m.Source != "" && !m.ReadOnly && !m.Shared {
			ids = append(ids, w.Volumes[m.Source])
		}
	}
	slices.SortFunc(ids, func(a, b maru.VolumeID) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(ids)
}

// other gives an instance of another release that holds the volume, or "". The lock is held.
func (c *claims) other(of claim, w maru.WorkloadID) string {
	for _, instance := range slices.Sorted(maps.Keys(c.holders[of])) {
		if c.holders[of][instance] != w {
			return instance
		}
	}
	return ""
}

// take gives all that is claimed to the instance, or none.
func (c *claims) take(all []claim, w maru.WorkloadID, instance string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range all {
		if c.other(of, w) != "" {
			return false
		}
	}
	for _, of := range all {
		if c.holders[of] == nil {
			c.holders[of] = make(map[string]maru.WorkloadID)
		}
		c.holders[of][instance] = w
	}
	return true
}

// wait tells which instance of another release holds the volume, and if one does has the workload
// woken when one is free.
func (c *claims) wait(of claim, w *workload) (holder string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if holder = c.other(of, w.id); holder != "" {
		c.waiting[w] = true
	}
	return holder
}

// free gives back what the instance holds, and wakes who waits.
func (c *claims) free(instance string) {
	c.mu.Lock()
	freed := false
	for of, holders := range c.holders {
		if _, held := holders[instance]; !held {
			continue
		}
		delete(holders, instance)
		if len(holders) == 0 {
			delete(c.holders, of)
			freed = true
		}
	}
	var woken []*workload
	if freed {
		woken = slices.Collect(maps.Keys(c.waiting))
		clear(c.waiting)
	}
	c.mu.Unlock()
	for _, w := range woken {
		w.mail.post(func() {})
	}
}
