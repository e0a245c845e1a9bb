// Package crash ends the process at a named point, so that tests can show that every instant is a
// safe one to be killed at. Without its environment variable a point costs one comparison.
//
//	MARU_CRASH=NAME[:NTH]   kill this process when it passes NAME for the NTH time (default 1)
//	MARU_CRASH_ONCE=FILE    only if FILE is not there; it is made just before the kill, so that a
//	                        process that is started again with the same environment lives on
//
// Names are written "package.action.before" and "package.action.after" and stand in the code as
// string literals, each at one place, so that crashtest can find them all.
package crash

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Environment variables that arm a point. They are read once, when the process starts.
const (
	Variable     = "MARU_CRASH"
	VariableOnce = "MARU_CRASH_ONCE"
)

var (
	armed, nth = parse(os.Getenv(Variable))
	once       = os.Getenv(VariableOnce)
	passed     atomic.Int64
)

// Point kills the process with SIGKILL if name is the armed one. Nothing deferred runs.
func Point(name string) {
	if armed != "" && name == armed {
		pass()
	}
}

func pass() {
	if passed.Add(1) != nth {
		return
	}
	if once != "" {
		latch, err := os.OpenFile(once, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return
		}
		_ = latch.Close()
	}
	kill()
	select {}
}

func parse(setting string) (name string, n int64) {
	name, count, found := strings.Cut(setting, ":")
	if !found {
		return name, 1
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 {
		return "", 0
	}
	return name, n
}

func kill() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		os.Exit(137)
	}
}
