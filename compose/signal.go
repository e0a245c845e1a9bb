package compose

import (
	"slices"
	"strconv"
	"strings"
)

// signals are Linux's by number, from 1.
var signals = []string{"SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
	"SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN",
	"SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS"}

// signalName gives a signal's name for any way to write it: a number, a name with or without SIG, or
// SIGRTMIN+n.
func signalName(text string) (string, bool) {
	name := strings.ToUpper(strings.TrimSpace(text))
	if number, err := strconv.Atoi(name); err == nil {
		if number < 1 || number > len(signals) {
			return "", false
		}
		return signals[number-1], true
	}
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	for _, base := range []string{"SIGRTMIN+", "SIGRTMAX-"} {
		if rest, ok := strings.CutPrefix(name, base); ok {
			offset, err := strconv.Atoi(rest)
			return name, err == nil && offset >= 0 && offset <= 30
		}
	}
	return name, slices.Contains(signals, name) || name == "SIGRTMIN" || name == "SIGRTMAX"
}
