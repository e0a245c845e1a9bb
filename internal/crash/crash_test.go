package crash

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		setting, name string
		n             int64
	}{
		{"", "", 1},
		{"a.b", "a.b", 1},
		{"a.b:3", "a.b", 3},
		{"a.b:0", "", 0},
		{"a.b:x", "", 0},
	} {
		if name, n := parse(c.setting); name != c.name || n != c.n {
			t.Errorf("parse(%q) = %q, %d", c.setting, name, n)
		}
	}
}

// TestChild is the process that is killed, when run by TestPoint.
func TestChild(t *testing.T) {
	if os.Getenv("CRASH_TEST_CHILD") == "" {
		t.Skip("runs as the child of TestPoint")
	}
	for _, step := range []string{"1", "2", "3"} {
		Point("crash.step")
		os.Stdout.WriteString("passed " + step + "\n")
	}
}

func child(t *testing.T, env ...string) (out string, killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), append(env, "CRASH_TEST_CHILD=1")...)
	data, err := cmd.Output()
	return string(data), err != nil && cmd.ProcessState.ExitCode() == -1
}

func TestPoint(t *testing.T) {
	latch := filepath.Join(t.TempDir(), "latch")
	for _, c := range []struct {
		name   string
		env    []string
		passed int
		killed bool
	}{
		{"unset", nil, 3, false},
		{"other", []string{"MARU_CRASH=crash.other"}, 3, false},
		{"first", []string{"MARU_CRASH=crash.step"}, 0, true},
		{"third", []string{"MARU_CRASH=crash.step:3"}, 2, true},
		{"once", []string{"MARU_CRASH=crash.step:2", "MARU_CRASH_ONCE=" + latch}, 1, true},
		{"once again", []string{"MARU_CRASH=crash.step:2", "MARU_CRASH_ONCE=" + latch}, 3, false},
	} {
		out, killed := child(t, c.env...)
		if got := strings.Count(out, "passed"); got != c.passed || killed != c.killed {
			t.Errorf("%s: passed %d, killed %v, want %d, %v\n%s", c.name, got, killed, c.passed, c.killed, out)
		}
	}
}

func BenchmarkPoint(b *testing.B) {
	for b.Loop() {
		Point("crash.step")
	}
}
