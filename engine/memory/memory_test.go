package memory_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/enginetest"
	"github.com/marucloud/maru/engine/memory"
)

// start runs an engine until the test ends.
func start(t testing.TB, cfg memory.Config) *memory.Engine {
	t.Helper()
	e := memory.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return e
}

// behave gives images the behaviours that the suite names them after.
func behave(w maru.Workload, _ string, _ int) memory.Behaviour {
	name, _, _ := strings.Cut(w.Image, "@")
	b := memory.Behaviour{Start: time.Millisecond, Ready: time.Millisecond}
	switch enginetest.Behaviour(name) {
	case enginetest.Idle:
		b.Ready, b.Message = -1, "nothing listens on port 8080"
	case enginetest.Stubborn:
		b.Stop = -1
	case enginetest.CrashAfterReady:
		b.Exit = &memory.Exit{After: 20 * time.Millisecond, Code: 3}
	case enginetest.Fail:
		b.Exit = &memory.Exit{Code: 7, Lines: []string{"cannot go on"}}
	case enginetest.Succeed:
		b.Exit = &memory.Exit{}
	}
	return b
}

func TestContract(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		e := start(t, memory.Config{Behave: behave, HasImage: func(ref string) bool { return ref != "missing" }})
		return enginetest.Fixture{
			Engine:  e,
			Image:   func(b enginetest.Behaviour) string { return string(b) + "@sha256:0" },
			Missing: "missing",
			Crash:   func(_ *testing.T, id string) { e.Crash(id, maru.Exit{Code: 137, Signal: "SIGKILL"}) },
			Restart: func(*testing.T) maru.Engine {
				e.Away()
				e.Back()
				return e
			},
			Leftover: func(*testing.T) []string {
				if w, i := e.Count(); w+i > 0 {
					return []string{"workloads or instances"}
				}
				return nil
			},
			Patience: 10 * time.Second,
		}
	})
}

func TestRepositories(t *testing.T) {
	enginetest.RunRepositories(t, func(*testing.T) enginetest.Repositories { return memory.NewRepositories() }, nil)
}

func TestUploadsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := memory.NewRepositories()
		if _, err := c.AppendUpload(t.Context(), "slow", 0, strings.NewReader("begun")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(maru.UploadLife)
		if size, err := c.UploadSize(t.Context(), "slow"); size != 5 || err != nil {
			t.Errorf("%d, %v", size, err)
		}
		time.Sleep(time.Second)
		if _, err := c.UploadSize(t.Context(), "slow"); maru.KindOf(err) != maru.NotFound {
			t.Error(err)
		}
	})
}
