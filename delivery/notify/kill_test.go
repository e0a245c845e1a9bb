package notify

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/store/sqlite"
)

// stateVariable has the child of TestKill work on that state.
const stateVariable = "MARU_NOTIFY_STATE"

// open gives a rig on a state that is on the disk.
func open(t *testing.T, path string) *rig {
	t.Helper()
	store, err := sqlite.Open(path, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	n, err := New(Config{Host: "host", FirstTry: time.Millisecond, LastTry: 10 * time.Millisecond}, store, box{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return &rig{Notifier: n, t: t, store: store}
}

// TestKill kills the process again and again while things happen, and looks that each that was acknowledged is told.
func TestKill(t *testing.T) {
	if path := os.Getenv(stateVariable); path != "" {
		r := open(t, path)
		r.start()
		for { // until it is killed
			fmt.Fprintln(os.Stdout, "acknowledged", r.happen("run-failed"))
		}
	}
	path, h := filepath.Join(t.TempDir(), "state.db"), newHook(t)
	h.answers(func(n int) int { return map[bool]int{true: 500, false: 200}[n%7 == 0] })
	first := open(t, path)
	first.add("ops", h.URL, maru.TopicFailedRuns)
	if err := first.store.(*sqlite.Store).Close(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for range 4 {
		child := exec.Command(os.Args[0], "-test.run=^TestKill$")
		child.Env = append(os.Environ(), stateVariable+"="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines, count := bufio.NewScanner(out), 0
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "acknowledged "); ok {
				names = append(names, name)
				count++
			}
			if count == 15 {
				_ = child.Process.Kill() // what it still acknowledged is read to the end
			}
		}
		_ = child.Wait()
		if count < 15 {
			t.Fatalf("the child ended after %d events", count)
		}
	}
	last := open(t, path)
	last.start()
	defer func() { last.stop() }()
	until(t, "all are told", func() bool {
		_, bodies := h.requests()
		told := strings.Join(bodies, "\n")
		for _, name := range names {
			if !strings.Contains(told, `"id":"`+name[strings.LastIndex(name, "/")+1:]+`"`) {
				return false
			}
		}
		return last.status("ops").Waiting == 0
	})
}
