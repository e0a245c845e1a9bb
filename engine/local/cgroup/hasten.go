package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// hastenEvery is less than the time after which the kernel lets go of its lock.
const hastenEvery = 3 * time.Millisecond

// Hasten lets processes change their groups without delay until enough is called.
//
// In version 1 the kernel moves a process under a lock that is made for readers: whoever takes it after a
// while waits for an RCU grace period, 10 to 20 ms, of all CPUs. One who comes soon after does not. So
// this process moves to the group in which it is, over and over, while others prepare what will be moved.
// (Version 2 needs no move: processes are born in their groups.)
func (h *Hierarchies) Hasten() (enough func()) {
	if h.own == "" {
		return func() {}
	}
	var moving sync.WaitGroup
	done := make(chan struct{})
	moving.Go(func() { moveInPlace(h.own, done) })
	return func() {
		close(done)
		moving.Wait()
	}
}

// moveInPlace moves this process to the group in which it is until done is closed.
func moveInPlace(own string, done <-chan struct{}) {
	procs, err := os.OpenFile(own, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer procs.Close()
	tick := time.NewTicker(hastenEvery)
	defer tick.Stop()
	for {
		if _, err := procs.WriteAt([]byte("0"), 0); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}

// findOwn gives the cgroup.procs of version 1 in which this process is listed; "" if it can't be told.
func findOwn(controllers map[string]string) string {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // ID:CONTROLLERS:PATH
		if len(parts) != 3 {
			continue
		}
		for _, controller := range strings.Split(parts[1], ",") {
			mount := controllers[controller]
			if mount == "" {
				continue
			}
			procs := filepath.Join(mount, parts[2], "cgroup.procs")
			listed, err := os.ReadFile(procs)
			if err == nil && slices.Contains(strings.Fields(string(listed)), strconv.Itoa(os.Getpid())) {
				return procs
			}
		}
	}
	return ""
}
