package supervisor

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// handle is a running process: a child of this one, or one that was adopted.
type handle struct {
	id     int
	ready  chan struct{} // closed when it said READY=1
	once   sync.Once
	said   string        // its version, where it told; to be read after ready is closed
	exited chan struct{} // closed when it has ended
	state  string        // how it ended; to be read after exited is closed
}

func newHandle(pid int) *handle {
	return &handle{id: pid, ready: make(chan struct{}), exited: make(chan struct{})}
}

func (h *handle) pid() int { return h.id }

func (h *handle) becomeReady(version string) {
	h.once.Do(func() {
		h.said = version
		close(h.ready)
	})
}

// version is that of a process that is ready, as far as it is known: what was adopted told another.
func (h *handle) version() string {
	if !h.isReady() {
		return ""
	}
	return h.said
}

func (h *handle) isReady() bool {
	select {
	case <-h.ready:
		return true
	default:
		return false
	}
}

func (h *handle) end(state string) {
	h.state = state
	close(h.exited)
}

func (h *handle) signal(sig syscall.Signal) {
	select {
	case <-h.exited: // its number may be another's by now
	default:
		_ = syscall.Kill(h.id, sig)
	}
}

// findMarked finds the processes that an earlier supervisor of this installation started, by name.
func findMarked(runDir string, log *slog.Logger) map[string]*handle {
	found := map[string]*handle{}
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err != nil || pid == os.Getpid() {
			continue
		}
		environment, err := os.ReadFile(filepath.Join(folder, "environ"))
		if err != nil {
			continue
		}
		name, ok := markOf(string(environment), runDir)
		if !ok {
			continue
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if found[name] != nil {
			log.Warn("a second process of this name is running and is left alone", "process", name, "pid", pid)
			_ = unix.Close(pidfd)
			continue
		}
		h := newHandle(pid)
		h.becomeReady("")
		go h.watch(pidfd)
		found[name] = h
	}
	return found
}

func markOf(environment, runDir string) (string, bool) {
	for variable := range strings.SplitSeq(environment, "\x00") {
		value, ok := strings.CutPrefix(variable, markVariable+"=")
		if !ok {
			continue
		}
		name, run, ok := strings.Cut(value, ":")
		return name, ok && run == runDir
	}
	return "", false
}

// watch ends the handle of an adopted process with the process.
func (h *handle) watch(pidfd int) {
	defer unix.Close(pidfd)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		h.end("ended while adopted")
		return
	}
}
