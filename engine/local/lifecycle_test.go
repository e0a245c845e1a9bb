package local_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
)

// TestShimDies has the kernel kill an instance's shim: nothing of the instance goes on behind the
// engine's back.
func TestShimDies(t *testing.T) {
	cfg := newConfig(t)
	e, _ := startEngine(t, cfg)
	w := newWorkload("web", "1", loadImage(t, e, nil))
	before := startOne(t, e, w)
	killed := instancePIDs(t, cfg.Layout, before.ID)
	killShims(t, cfg.Layout)
	o := observe(t, e, w.ID, "restarted", func(o maru.Observation) bool { return ready(o) && o.Instances[0].Attempt == 2 })
	if after := o.Instances[0]; after.ID != before.ID || after.Addresses != before.Addresses || after.LastExit == nil || after.LastExit.Code == 0 {
		t.Errorf("%s", maru.Raw(after))
	}
	for _, pid := range killed {
		if err := syscall.Kill(pid, 0); err == nil && !isZombie(pid) {
			t.Errorf("process %d of the first attempt lives", pid)
		}
	}
	removeAll(t, e)
	if left := leftover(t, cfg.Layout); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// TestLogsOverKills has an instance print while the engine is killed: each line is there once, in order.
func TestLogsOverKills(t *testing.T) {
	const count = 200_000
	cfg := newConfig(t)
	p := startProcess(t, cfg).wait()
	w := newWorkload("chatty", "1", loadImage(t, p, func(c *v1.Config) { c.Cmd = []string{"lines", strconv.Itoa(count)} }))
	w.Ports = nil
	startOne(t, p, w)
	for range 3 {
		p.kill()
		p = startProcess(t, cfg).wait()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	next := 0
	for entry, err := range p.Logs(ctx, maru.LogQuery{Scope: w.ID.Scope, Services: []string{"chatty"}, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := "line " + strconv.Itoa(next); entry.Line != want || entry.Stream != "stdout" || entry.Attempt != 1 {
			t.Fatalf("%+v, want %q", entry, want)
		}
		if next++; next == count {
			break
		}
	}
	removeAll(t, p)
	next = 0
	for entry, err := range p.Logs(ctx, maru.LogQuery{Scope: w.ID.Scope}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := "line " + strconv.Itoa(next); entry.Line != want {
			t.Fatalf("after it is gone: %q, want %q", entry.Line, want)
		}
		next++
	}
	if next != count {
		t.Errorf("after it is gone: %d lines", next)
	}
}

func TestPurge(t *testing.T) {
	cfg := newConfig(t)
	p := startProcess(t, cfg).wait()
	w := newWorkload("web", "1", loadImage(t, p, nil))
	w.Replicas = 2
	mountVolume(&w, "data", "/data")
	w.Files = []maru.File{{Path: "/key", Mode: 0o400, Data: []byte("x"), Secret: true}}
	apply(t, p, w)
	observe(t, p, w.ID, "ready", ready)
	if err := local.Purge(t.Context(), cfg, logger(t)); maru.KindOf(err) != maru.Conflict {
		t.Errorf("purge while the engine runs: %v", err)
	}
	p.kill()
	for range 2 {
		if err := local.Purge(t.Context(), cfg, logger(t)); err != nil {
			t.Fatal(err)
		}
	}
	if left := leftover(t, cfg.Layout); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), cfg.Layout.Run) {
		t.Errorf("a mount is left: %v", err)
	}
	if found, _ := filepath.Glob("/sys/fs/cgroup/*/" + cfg.Layout.Name); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
	if _, err := os.Stat(filepath.Join(cfg.Layout.VolumeData(), "named/default/test/app/data/data")); err != nil {
		t.Errorf("the volume: %v", err)
	}
	// What was purged can be used again.
	e, _ := startEngine(t, cfg)
	apply(t, e, w)
	observe(t, e, w.ID, "ready", ready)
}

// TestManyAtOnce starts and removes more instances than the engine starts at the same time.
func TestManyAtOnce(t *testing.T) {
	cfg := newConfig(t)
	e, _ := startEngine(t, cfg)
	image := loadImage(t, e, nil)
	var all []maru.Workload
	for i := range 4 {
		w := newWorkload(fmt.Sprintf("s%d", i), "1", image)
		w.Replicas = 4
		apply(t, e, w)
		all = append(all, w)
	}
	addresses := make(map[maru.Addresses]bool)
	for _, w := range all {
		for _, instance := range observe(t, e, w.ID, "ready", ready).Instances {
			addresses[instance.Addresses] = true
		}
	}
	if len(addresses) != 16 {
		t.Errorf("16 instances have %d addresses", len(addresses))
	}
	removeAll(t, e)
	if left := leftover(t, cfg.Layout); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestHostNetwork shares the machine's network with an instance.
func TestHostNetwork(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	w := newWorkload("near", "1", loadImage(t, e, nil))
	w.Container.Host.HostNetwork = true
	instance := startOne(t, e, w)
	body, err := get("http://127.0.0.1:8080/")
	if err != nil || !strings.HasPrefix(body, "hello from") {
		t.Errorf("%q, %v", body, err)
	}
	if code, out, err := tryRun(t, e, instance.ID, "dial", "127.0.0.1:8080"); code != 0 || err != nil {
		t.Errorf("code %d, %v: %s", code, err, out)
	}
}

// TestStopsWithItsContext ends an engine in the middle of starting instances.
func TestStopsWithItsContext(t *testing.T) {
	cfg := newConfig(t)
	e, stop := startEngine(t, cfg)
	w := newWorkload("web", "1", loadImage(t, e, nil))
	w.Replicas = 6
	apply(t, e, w)
	observe(t, e, w.ID, "under way", func(o maru.Observation) bool {
		for _, instance := range o.Instances {
			if instance.Phase == maru.PhaseRunning {
				return true
			}
		}
		return false
	})
	began := time.Now()
	stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	if err := e.Apply(t.Context(), w); maru.KindOf(err) != maru.Unavailable {
		t.Errorf("apply to an engine that has stopped: %v", err)
	}
	again, _ := startEngine(t, cfg)
	observe(t, again, w.ID, "ready", ready)
	removeAll(t, again)
	if left := leftover(t, cfg.Layout); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
