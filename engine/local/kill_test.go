package local_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
)

func TestKilledEngineCarriesOn(t *testing.T) {
	cfg := newConfig(t)
	p := startProcess(t, cfg).wait()
	image := loadImage(t, p, nil)
	stays, ends, once := newWorkload("stays", "1", image), newWorkload("ends", "1", image), newWorkload("once", "1", image)
	once.Container.Restart.Policy = maru.RestartNever
	for _, w := range []maru.Workload{stays, ends, once} {
		apply(t, p, w)
	}
	before := observe(t, p, stays.ID, "ready", ready).Instances[0]
	ended := observe(t, p, ends.ID, "ready", ready).Instances[0]
	last := observe(t, p, once.ID, "ready", ready).Instances[0]
	observe(t, p, stays.ID, "recognized", func(o maru.Observation) bool { return o.Instances[0].Protocols != nil })

	kept(t, cfg.Layout, before.ID, "protocols")
	kept(t, cfg.Layout, last.ID, "readySince")

	p.kill()
	for instance, code := range map[string]string{ended.Addresses.V4.String(): "5", last.Addresses.V4.String(): "6"} {
		if _, err := get("http://" + instance + ":8080/exit?code=" + code); err == nil {
			t.Error("it answered instead of ending")
		}
	}
	if body, err := get("http://" + before.Addresses.V4.String() + ":8080/"); err != nil {
		t.Errorf("while the engine was away: %q, %v", body, err)
	}
	p = startProcess(t, cfg).wait()

	o := observe(t, p, stays.ID, "adopted", func(maru.Observation) bool { return true })
	after := o.Instances[0]
	if !after.Ready || after.ID != before.ID || after.Attempt != 1 || after.Addresses != before.Addresses || !after.ReadySince.Equal(before.ReadySince) {
		t.Errorf("before: %s\nafter:  %s", maru.Raw(before), maru.Raw(after))
	}
	if out := run(t, p, after.ID, "hostname"); out != after.ID {
		t.Errorf("hostname %q", out)
	}
	o = observe(t, p, ends.ID, "ready again", func(o maru.Observation) bool { return ready(o) && o.Instances[0].Attempt == 2 })
	if exit := o.Instances[0].LastExit; exit == nil || exit.Code != 5 {
		t.Errorf("last exit: %+v", exit)
	}
	o = observe(t, p, once.ID, "failed", func(o maru.Observation) bool { return o.Instances[0].Phase == maru.PhaseFailed })
	if exit := o.Instances[0].LastExit; exit == nil || exit.Code != 6 || o.Instances[0].Message != "exited with code 6" {
		t.Errorf("last exit: %+v, %q", exit, o.Instances[0].Message)
	}
	removeAll(t, p)
	if left := leftover(t, cfg.Layout); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestKilledWhileRemoving has the next engine finish what the killed one began.
func TestKilledWhileRemoving(t *testing.T) {
	cfg := newConfig(t)
	p := startProcess(t, cfg).wait()
	w := newWorkload("web", "1", loadImage(t, p, func(c *v1.Config) { c.Cmd = []string{"stubborn"} }))
	w.Container.Stop.Grace = 100 * time.Millisecond
	apply(t, p, w)
	observe(t, p, w.ID, "ready", ready)
	if err := p.Remove(t.Context(), w.ID); err != nil {
		t.Fatal(err)
	}
	observe(t, p, w.ID, "draining", func(o maru.Observation) bool { return o.Instances[0].Phase == maru.PhaseDraining })
	p.kill()
	// As if it had been killed while it removed a container's bundle.
	bundle := filepath.Join(cfg.Layout.Run, "containerd", "io.containerd.runtime.v2.task", local.Namespace, ".web-0-aaaaa.1")
	if err := os.MkdirAll(filepath.Join(bundle, "rootfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	p = startProcess(t, cfg).wait()
	if _, err := os.Stat(bundle); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left of a bundle is still there: %v", err)
	}
	o := observe(t, p, w.ID, "draining", func(o maru.Observation) bool { return true })
	going := []maru.Phase{maru.PhaseDraining, maru.PhaseStopping} // the drain time may be over
	if o.Wanted != 0 || !slices.Contains(going, o.Instances[0].Phase) || o.Instances[0].Ready {
		t.Errorf("after the kill: %s", maru.Raw(o))
	}
	removeAll(t, p)
	if left := leftover(t, cfg.Layout); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestTwoEnginesInOneFolder(t *testing.T) {
	cfg := newConfig(t)
	startProcess(t, cfg).wait()
	second := startProcess(t, cfg)
	<-second.end
	if code := second.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestSecretsStayInMemory(t *testing.T) {
	cfg := newConfig(t)
	p := startProcess(t, cfg).wait()
	w := newWorkload("web", "1", loadImage(t, p, nil))
	const secret = "correct horse battery staple"
	w.Files = []maru.File{
		{Path: "/run/secrets/key", Mode: 0o440, UID: 1000, GID: 1001, Data: []byte(secret), Secret: true},
		{Path: "/etc/web.conf", Mode: 0o644, Data: []byte("plain")},
	}
	apply(t, p, w)
	instance := observe(t, p, w.ID, "ready", ready).Instances[0].ID
	if out := run(t, p, instance, "cat", "/run/secrets/key", "/etc/web.conf"); out != secret+"plain" {
		t.Errorf("files: %q", out)
	}
	if out := run(t, p, instance, "stat", "/run/secrets/key"); out != "440 1000 1001" {
		t.Errorf("secret: %q", out)
	}
	if found := grep(t, cfg.Layout.Data, secret); len(found) > 0 {
		t.Errorf("the secret is in %v", found)
	}
	// As after a restart of the machine: what is in memory is gone, and with it every process.
	p.kill()
	killShims(t, cfg.Layout)
	forgetMemory(t, cfg.Layout)
	p = startProcess(t, cfg).wait()
	o := observe(t, p, w.ID, "pending", func(o maru.Observation) bool { return o.Instances[0].Phase == maru.PhasePending })
	if o.Instances[0].Message == "" {
		t.Error("it does not say what it waits for")
	}
	changed := w
	changed.Files = slices.Clone(w.Files)
	changed.Files[1].Data = []byte("other")
	if err := p.Apply(t.Context(), changed); maru.KindOf(err) != maru.Conflict {
		t.Errorf("another workload is taken: %v", err)
	}
	apply(t, p, w)
	observe(t, p, w.ID, "ready", ready)
	if out := run(t, p, instance, "cat", "/run/secrets/key"); out != secret {
		t.Errorf("secret: %q", out)
	}
	removeAll(t, p)
	if found, _ := filepath.Glob(filepath.Join(cfg.Layout.Run, "secrets", "[0-9a-f]*")); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
}
