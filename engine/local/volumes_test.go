package local_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

// mountVolume mounts a volume of the workload's app.
func mountVolume(w *maru.Workload, volume, target string) {
	w.Container.Mounts = append(w.Container.Mounts, maru.Mount{Kind: maru.VolumeMount, Source: volume, Target: target})
	if w.Volumes == nil {
		w.Volumes = make(map[string]maru.VolumeID)
	}
	w.Volumes[volume] = maru.VolumeID{Scope: w.ID.Scope, Volume: volume}
}

func TestVolume(t *testing.T) {
	cfg := newConfig(t)
	e, _ := startEngine(t, cfg)
	image := loadImage(t, e, nil,
		file{path: "data/", mode: 0o750, uid: 1000, gid: 1001}, file{path: "data/seed", mode: 0o640, uid: 1000, gid: 1001, content: "from the image"})
	one := newWorkload("db", "1", image)
	mountVolume(&one, "data", "/data")
	id := one.Volumes["data"]
	instance := startOne(t, e, one).ID
	if got := run(t, e, instance, "cat", "/data/seed"); got != "from the image" {
		t.Errorf("seed: %q", got)
	}
	if got := run(t, e, instance, "stat", "/data") + ", " + run(t, e, instance, "stat", "/data/seed"); got != "750 1000 1001, 640 1000 1001" {
		t.Errorf("owners and modes: %s", got)
	}
	run(t, e, instance, "write", "/data/written", "by release 1")

	two := newWorkload("db", "2", image)
	mountVolume(&two, "data", "/data")
	apply(t, e, two)
	o := observe(t, e, two.ID, "waiting", func(o maru.Observation) bool {
		return len(o.Instances) == 1 && o.Instances[0].Phase == maru.PhasePending
	})
	if want := "waits for volume data, which " + instance + " holds"; o.Instances[0].Message != want {
		t.Errorf("message %q, want %q", o.Instances[0].Message, want)
	}
	all, err := e.Volumes(t.Context())
	if err != nil || len(all) != 1 || all[0].ID != id || len(all[0].Holders) != 1 || all[0].Holders[0] != instance || all[0].Bytes == 0 || all[0].Created.IsZero() {
		t.Errorf("volumes: %+v, %v", all, err)
	}
	if err := e.RemoveVolume(t.Context(), id); maru.KindOf(err) != maru.Conflict {
		t.Errorf("remove a volume in use: %v", err)
	}
	if err := e.Remove(t.Context(), one.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.Drained(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
	next := observe(t, e, two.ID, "ready", ready).Instances[0].ID
	if got := run(t, e, next, "cat", "/data/written"); got != "by release 1" {
		t.Errorf("written: %q", got)
	}

	var archive bytes.Buffer
	if err := e.ExportVolume(t.Context(), id, &archive); err != nil {
		t.Fatal(err)
	}
	if _, err := get("http://" + observe(t, e, two.ID, "ready", ready).Instances[0].Addresses.V4.String() + ":8080/"); err != nil {
		t.Errorf("after the export: %v", err)
	}
	copied := maru.VolumeID{Scope: id.Scope, Volume: "copy"}
	if err := e.ImportVolume(t.Context(), copied, bytes.NewReader(archive.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := e.ImportVolume(t.Context(), copied, bytes.NewReader(archive.Bytes())); maru.KindOf(err) != maru.Exists {
		t.Errorf("import over a volume: %v", err)
	}
	reader := newWorkload("reader", "1", image)
	mountVolume(&reader, "copy", "/copy")
	reader.Container.Mounts[0].ReadOnly = true
	reader.Container.Mounts = append(reader.Container.Mounts, maru.Mount{Kind: maru.VolumeMount, Target: "/data"})
	who := startOne(t, e, reader).ID
	if got := run(t, e, who, "cat", "/copy/written", "/data/seed"); got != "by release 1from the image" {
		t.Errorf("copied, and anonymous: %q", got)
	}
	if code, _, err := tryRun(t, e, who, "write", "/copy/x", "y"); code == 0 || err != nil {
		t.Errorf("write to a read-only volume: code %d, %v", code, err)
	}
	removeAll(t, e)
	for _, v := range []maru.VolumeID{id, copied} {
		if err := e.RemoveVolume(t.Context(), v); err != nil {
			t.Error(err)
		}
	}
	if err := e.RemoveVolume(t.Context(), id); maru.KindOf(err) != maru.NotFound {
		t.Errorf("remove what is gone: %v", err)
	}
	if left := leftover(t, cfg.Layout); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestMounts(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	image := loadImage(t, e, nil)
	other := loadImage(t, e, nil, file{path: "assets/", mode: 0o755}, file{path: "assets/logo", mode: 0o644, content: "a cat"})
	folder := t.TempDir()
	w := newWorkload("web", "1", image)
	w.Container.Mounts = []maru.Mount{
		{Kind: maru.BindMount, Source: folder, Target: "/host"},
		{Kind: maru.BindMount, Source: folder + "/made", Target: "/made", Create: true, ReadOnly: true},
		{Kind: maru.ImageMount, Source: other, Target: "/other"},
		{Kind: maru.TmpfsMount, Target: "/host/deeper"},
	}
	id := startOne(t, e, w).ID
	run(t, e, id, "write", "/host/made/x", "through the folder above")
	if got := run(t, e, id, "cat", "/made/x", "/other/assets/logo"); got != "through the folder abovea cat" {
		t.Errorf("%q", got)
	}
	for _, path := range []string{"/made/y", "/other/assets/y"} {
		if code, out, err := tryRun(t, e, id, "write", path, "y"); code == 0 || err != nil || !strings.Contains(out, "read-only") {
			t.Errorf("write to %s: code %d, %q, %v", path, code, out, err)
		}
	}
	missing := newWorkload("web", "2", image)
	missing.Container.Mounts = []maru.Mount{{Kind: maru.BindMount, Source: folder + "/nowhere", Target: "/x"}}
	missing.Container.Restart.Policy = maru.RestartNever
	apply(t, e, missing)
	o := observe(t, e, missing.ID, "failed", func(o maru.Observation) bool {
		return len(o.Instances) == 1 && o.Instances[0].Phase == maru.PhaseFailed
	})
	if !strings.Contains(o.Instances[0].Message, "/nowhere") {
		t.Errorf("message %q", o.Instances[0].Message)
	}
}
