//go:build !windows

package cli

import (
	"os"
	"syscall"
)

// signalNames are the signals that a command gets instead of this program. A hang-up is not among them:
// it takes the terminal away, and ends both.
var signalNames = map[os.Signal]string{
	syscall.SIGINT: "SIGINT", syscall.SIGTERM: "SIGTERM", syscall.SIGQUIT: "SIGQUIT",
	syscall.SIGUSR1: "SIGUSR1", syscall.SIGUSR2: "SIGUSR2",
}

func endsProgram(s os.Signal) bool {
	return s == syscall.SIGINT || s == syscall.SIGTERM || s == syscall.SIGQUIT
}
