package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sweepShims ends the shims of containers that are not kept. An engine that dies between a shim's start
// and its note of it leaves one that containerd knows nothing of.
func (e *Engine) sweepShims(keep map[string]bool) error {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var failed []error
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		container := e.shimOf(strings.Split(string(content), "\x00"))
		if container == "" || keep[container] {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return err
		}
		e.log.Info("ending a shim that belongs to nothing", "container", container, "pid", pid)
		failed = append(failed, endProcess(pid))
	}
	return errors.Join(append(failed, e.sweepSockets())...)
}

// shimOf gives the container whose shim, of this installation, has these arguments; "": none.
func (e *Engine) shimOf(args []string) string {
	value := func(flag string) string {
		if at := slices.Index(args, flag); at >= 0 && at+1 < len(args) {
			return args[at+1]
		}
		return ""
	}
	if !strings.HasPrefix(args[0], e.programsFolder()+string(filepath.Separator)) || value("-address") != e.cfg.Layout.ContainerdSocket() {
		return ""
	}
	return value("-id")
}

// endProcess kills a process and waits until it has ended.
func endProcess(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	for deadline := time.Now().Add(time.Second); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case n == 0:
			return fmt.Errorf("process %d did not end", pid)
		default:
			return nil
		}
	}
}

// sweepSockets removes the sockets of shims that are gone.
func (e *Engine) sweepSockets() error {
	sockets, err := filepath.Glob(filepath.Join(e.cfg.Layout.Run, "s", "*"))
	if err != nil || len(sockets) == 0 {
		return err
	}
	open, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return err
	}
	var failed []error
	for _, path := range sockets {
		if !strings.Contains(string(open), path) {
			failed = append(failed, os.Remove(path))
		}
	}
	return errors.Join(failed...)
}
