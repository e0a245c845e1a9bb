package local_test

import (
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/enginetest"
	"github.com/marucloud/maru/internal/layout"
)

// missing is the reference of an image that no engine has.
var missing = "docker.io/test/missing@sha256:" + strings.Repeat("0", 64)

// TestSuite runs the contract over the wire, with an engine in a process of its own that can be killed.
func TestSuite(t *testing.T) {
	cfg := newConfig(t)
	p := startProcess(t, cfg).wait()
	images := loadBehaviours(t, p)
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		t.Cleanup(func() {
			if !t.Failed() {
				removeAll(t, p)
			}
		})
		return enginetest.Fixture{
			Engine:  p.Client,
			Image:   func(b enginetest.Behaviour) string { return images[b] },
			Missing: missing,
			Crash:   func(t *testing.T, instance string) { killInstance(t, cfg.Layout, instance) },
			Restart: func(t *testing.T) maru.Engine {
				p.kill()
				p = startProcess(t, cfg).wait()
				return p.Client
			},
			Leftover: func(t *testing.T) []string { return leftover(t, cfg.Layout) },
			Patience: patience,
		}
	})
}

// loadBehaviours loads an image for each behaviour that the suite knows.
func loadBehaviours(t testing.TB, e maru.Images) map[enginetest.Behaviour]string {
	t.Helper()
	images := make(map[enginetest.Behaviour]string)
	for _, b := range []enginetest.Behaviour{
		enginetest.Serve, enginetest.Idle, enginetest.Stubborn, enginetest.CrashAfterReady, enginetest.Fail, enginetest.Succeed,
	} {
		images[b] = loadImage(t, e, func(c *v1.Config) { c.Cmd = []string{string(b)} })
	}
	return images
}

// killInstance kills the first process of an instance, as its shim sees it.
func killInstance(t testing.TB, l layout.Layout, instance string) {
	t.Helper()
	for _, pid := range instancePIDs(t, l, instance) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("kill %d: %v", pid, err)
		}
	}
}
