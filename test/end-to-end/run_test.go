package endtoend

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// runAndLeave starts one-offs that go on for ever: one is interrupted, the caller of the other is killed,
// and neither leaves its instance.
func (m *machine) runAndLeave(t *testing.T) {
	t.Helper()
	instance := func() bool { return strings.Contains(m.maru(t, "ps", "--app", "site"), "run.") }
	for name, s := range map[string]os.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
		eventually(t, "the one-offs before are gone", func() bool { return !instance() })
		cmd := exec.CommandContext(t.Context(), m.Program, "run", "--app", "site", "--set", "PORT=none", "web")
		cmd.Env = append(os.Environ(), "MARU_SOCKET="+m.Layout.ServerSocket())
		cmd.Dir = t.TempDir()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the one-off runs", instance)
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if s == syscall.SIGINT && !cmd.ProcessState.Exited() {
			t.Errorf("the signal ended the caller and not the one-off: %v", err)
		}
		eventually(t, "the one-off is gone when it is "+name, func() bool { return !instance() })
	}
}
