package local_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

// newHeld gives a workload whose instance waits for its command.
func newHeld(service, image string, command ...string) maru.Workload {
	w := newWorkload(service, "run.one", image)
	w.Kind, w.Ports, w.Held = maru.Job, nil, true
	w.Container.Command = command
	w.Container.Restart = maru.Restart{Policy: maru.RestartNever}
	return w
}

// startHeld gives the ID of its instance, which runs.
func startHeld(t testing.TB, e maru.Engine, w maru.Workload) string {
	t.Helper()
	apply(t, e, w)
	return observe(t, e, w.ID, "running", phase(maru.PhaseRunning)).Instances[0].ID
}

func phase(is maru.Phase) func(maru.Observation) bool {
	return func(o maru.Observation) bool { return len(o.Instances) == 1 && o.Instances[0].Phase == is }
}

// TestHeld runs the commands of held instances through an engine in a process of its own, as the server
// does.
func TestHeld(t *testing.T) {
	e := startProcess(t, newConfig(t)).wait()
	image := loadImage(t, e, nil, file{path: "text", mode: 0o644, content: "no program"})

	t.Run("InputAndEnd", func(t *testing.T) {
		w := newHeld("input", image, "cat")
		id := startHeld(t, e, w)
		var out bytes.Buffer
		code, err := e.Exec(t.Context(), id, maru.ExecCommand{}, strings.NewReader("typed"), &out, nil)
		if err != nil || code != 0 || out.String() != "typed" {
			t.Errorf("code %d, %v: %q", code, err, out.String())
		}
		observe(t, e, w.ID, "done", phase(maru.PhaseDone))
	})

	t.Run("Signal", func(t *testing.T) {
		id := startHeld(t, e, newHeld("signal", image, "idle"))
		signals := make(chan string, 1)
		out, seen := newWatchedBuffer()
		go func() {
			<-seen("starting")
			signals <- "SIGTERM"
		}()
		code, err := e.Exec(t.Context(), id, maru.ExecCommand{Signals: signals}, nil, out, nil)
		if err != nil || code != 0 {
			t.Errorf("code %d, %v: %q", code, err, out.String())
		}
	})

	t.Run("CallerGoes", func(t *testing.T) {
		w := newHeld("caller", image, "idle")
		id := startHeld(t, e, w)
		ctx, leave := context.WithCancel(t.Context())
		out, seen := newWatchedBuffer()
		go func() {
			<-seen("starting")
			if _, err := e.Exec(t.Context(), id, maru.ExecCommand{}, nil, nil, nil); maru.KindOf(err) != maru.Conflict {
				t.Errorf("the command ran twice: %v", err)
			}
			leave()
		}()
		if _, err := e.Exec(ctx, id, maru.ExecCommand{}, nil, out, nil); maru.KindOf(err) != maru.Interrupted {
			t.Error(err)
		}
		observe(t, e, w.ID, "done", phase(maru.PhaseDone))
	})

	for name, c := range map[string]struct {
		program, want string
		code          int
	}{
		"Missing":       {"nowhere", "there is no program", 127},
		"MissingPath":   {"/bin/nowhere", "there is no program", 127},
		"NotExecutable": {"/text", "can't be executed", 126},
		"Folder":        {"/etc", "can't be executed", 126},
	} {
		t.Run(name, func(t *testing.T) {
			w := newHeld(strings.ToLower(name), image)
			w.Container.Entrypoint = []string{c.program}
			code, err := e.Exec(t.Context(), startHeld(t, e, w), maru.ExecCommand{}, nil, nil, nil)
			if code != c.code || maru.KindOf(err) != maru.Invalid || !strings.Contains(err.Error(), c.want) || maru.HintOf(err) == "" {
				t.Errorf("code %d, %v (%s)", code, err, maru.HintOf(err))
			}
		})
	}
}
