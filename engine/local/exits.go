package local

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// exitPatience is how long a shim may take to write down that its task ended.
const exitPatience = 2 * time.Second

// exitFile is what a shim leaves of its task's end.
type exitFile struct {
	Timestamp time.Time
	Pid       int
	Status    int
}

// readExits gives how containers ended while nobody was there to see it. Containerd forgets it while
// it loads.
func (e *Engine) readExits() map[string]maru.Exit {
	bundles, err := filepath.Glob(filepath.Join(bundlesFolder(e.cfg.Layout), "*"))
	if err != nil {
		return nil
	}
	var mu sync.Mutex
	var reading sync.WaitGroup
	exits := make(map[string]maru.Exit)
	for _, bundle := range bundles {
		reading.Go(func() {
			left, ended := readExitFile(bundle)
			if !ended {
				return
			}
			container := filepath.Base(bundle)
			exit := e.newExit(path.Join(instanceCgroup(e.cfg.Layout), container), left.Status, left.Timestamp)
			mu.Lock()
			defer mu.Unlock()
			exits[container] = exit
		})
	}
	reading.Wait()
	return exits
}

// readExitFile reads how a bundle's task ended. When its process is gone and the shim is about to
// write the file, it waits for that.
func readExitFile(bundle string) (left exitFile, ended bool) {
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(exitPatience); ; <-again.C {
		data, err := os.ReadFile(filepath.Join(bundle, "exit.json"))
		if err == nil {
			return left, json.Unmarshal(data, &left) == nil
		}
		if !gone(filepath.Join(bundle, "init.pid")) || time.Now().After(deadline) {
			return left, false
		}
	}
}

// gone tells whether the process that the file names has ended. A file that can't be read names none.
func gone(file string) bool {
	content, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}
