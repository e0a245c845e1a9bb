package local_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
	"github.com/marucloud/maru/engine/remote"
	"github.com/marucloud/maru/internal/crash"
	"github.com/marucloud/maru/internal/crash/crashtest"
)

// TestCrashPoints has the engine die at each of its crash points in the course of the same story, and
// go on in a new process: the story must end the same, with nothing left over.
func TestCrashPoints(t *testing.T) {
	for _, point := range crashtest.Points(t, "engine/local") {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, point)
			s.tell()
			if !s.crashed {
				t.Errorf("the engine never came to %s", point)
			}
		})
	}
}

// story is what happens to an engine that may die at any moment.
type story struct {
	t       *testing.T
	cfg     local.Config
	p       *process
	crashed bool
}

func newStory(t *testing.T, point string) *story {
	s := &story{t: t, cfg: newConfig(t)}
	// Loading an image is not part of it: the first engine does that unharmed.
	s.p = startProcess(t, s.cfg).wait()
	s.image("test/plain:1", nil)
	s.image("test/data:1", []file{{path: "data/", mode: 0o755}, {path: "data/seed", mode: 0o644, content: "seed"}})
	s.p.kill()
	s.p = startProcess(t, s.cfg, crash.Variable+"="+point)
	return s
}

func (s *story) image(tag string, files []file) {
	s.t.Helper()
	loaded, err := s.p.Load(s.t.Context(), archiveOf(s.t, tag, newImage(s.t, func(c *v1.Config) { c.Labels = map[string]string{"tag": tag} }, files...)))
	if err != nil || len(loaded) != 1 {
		s.t.Fatalf("%v, %v", loaded, err)
	}
}

// do does something until it is done, whatever happens to the engine meanwhile.
func (s *story) do(what string, f func(ctx context.Context, c *remote.Client) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		err := f(ctx, s.p.Client)
		if err == nil {
			return
		}
		if maru.KindOf(err) != maru.Unavailable {
			s.t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-s.p.end:
			s.crashed = true
			s.p = startProcess(s.t, s.cfg)
		case <-again.C:
		}
	}
}

func (s *story) apply(w maru.Workload) {
	s.t.Helper()
	s.do("apply "+w.ID.String(), func(ctx context.Context, c *remote.Client) error { return c.Apply(ctx, w) })
}

// until watches until an observation of the workload is as wanted.
func (s *story) until(id maru.WorkloadID, what string, wanted func(maru.Observation) bool) (seen maru.Observation) {
	s.t.Helper()
	s.do(id.String()+" is "+what, func(ctx context.Context, c *remote.Client) error {
		there := false
		for o, err := range c.Watch(ctx) {
			if err != nil {
				return err
			}
			there = there || o.Workload == id
			if o.Synced && !there {
				o = maru.Observation{Workload: id, Gone: true}
			}
			if o.Workload == id && wanted(o) {
				seen = o
				return nil
			}
		}
		return maru.Errorf(maru.Interrupted, "not seen")
	})
	return seen
}

func (s *story) remove(id maru.WorkloadID) {
	s.t.Helper()
	s.do("remove "+id.String(), func(ctx context.Context, c *remote.Client) error { return c.Remove(ctx, id) })
	s.until(id, "gone", func(o maru.Observation) bool { return o.Gone })
}

func (s *story) tell() {
	var plain, data maru.Image
	s.do("find images", func(ctx context.Context, c *remote.Client) (err error) {
		if plain, err = c.Image(ctx, "test/plain:1"); err != nil {
			return err
		}
		data, err = c.Image(ctx, "test/data:1")
		return err
	})
	quick := func(w maru.Workload) maru.Workload {
		w.Container.Stop.Drain = 10 * time.Millisecond
		w.Container.Restart.Delay = 10 * time.Millisecond
		return w
	}
	// The volume is empty for the first, and filled for the second.
	first := quick(newWorkload("first", "1", plain.Reference))
	mountVolume(&first, "data", "/data")
	second := quick(newWorkload("second", "1", data.Reference))
	mountVolume(&second, "data", "/data")
	second.Container.Mounts = append(second.Container.Mounts, maru.Mount{Kind: maru.VolumeMount, Target: "/anonymous"})
	second.Replicas = 2
	second.Files = []maru.File{{Path: "/run/secrets/key", Mode: 0o400, Data: []byte("secret"), Secret: true}}
	s.apply(first)
	s.until(first.ID, "ready", ready)
	s.apply(second)
	before := s.until(second.ID, "ready", ready)
	s.read(second.ID, "/data/seed", "seed")
	s.read(second.ID, "/run/secrets/key", "secret")

	_, _ = get("http://" + before.Instances[0].Addresses.V4.String() + ":8080/exit?code=3") // it ends instead of answering
	s.until(second.ID, "ready again", func(o maru.Observation) bool {
		i := slices.IndexFunc(o.Instances, func(i maru.Instance) bool { return i.ID == before.Instances[0].ID })
		return ready(o) && len(o.Instances) == 2 && (i < 0 || o.Instances[i].Attempt > before.Instances[0].Attempt)
	})
	second.Replicas = 1
	s.apply(second)
	s.until(second.ID, "scaled down", func(o maru.Observation) bool { return ready(o) && len(o.Instances) == 1 })

	job := quick(newWorkload("second", "1.release", plain.Reference))
	job.Kind, job.Ports, job.Container.Command = maru.Job, nil, []string{"succeed"}
	s.apply(job)
	o := s.until(job.ID, "done", func(o maru.Observation) bool {
		return len(o.Instances) == 1 && (o.Instances[0].Phase == maru.PhaseDone || o.Instances[0].Phase == maru.PhaseFailed)
	})
	if phase := o.Instances[0].Phase; phase == maru.PhaseFailed && o.Instances[0].LastExit.Code != 255 {
		s.t.Errorf("the job: %s", maru.Raw(o))
	}
	for _, id := range []maru.WorkloadID{job.ID, first.ID, second.ID} {
		s.remove(id)
	}
	s.do("remove volume", func(ctx context.Context, c *remote.Client) error {
		if err := c.RemoveVolume(ctx, second.Volumes["data"]); maru.KindOf(err) != maru.NotFound {
			return err
		}
		return nil // it was removed just before the crash
	})
	s.do("be there", func(ctx context.Context, c *remote.Client) error { _, err := c.Usage(ctx); return err })
	if left := leftover(s.t, s.cfg.Layout); len(left) > 0 {
		s.t.Errorf("left: %v", left)
	}
	if found, _ := filepath.Glob(filepath.Join(s.cfg.Layout.VolumeData(), "named/*/*/*/*/*")); len(found) > 0 {
		s.t.Errorf("left of volumes: %v", found)
	}
}

// read reads a file of the workload's first instance.
func (s *story) read(id maru.WorkloadID, path, want string) {
	s.t.Helper()
	s.do("read "+path, func(ctx context.Context, c *remote.Client) error {
		for o, err := range c.Watch(ctx) {
			if err != nil {
				return err
			}
			if o.Workload != id || !ready(o) {
				continue
			}
			code, out, err := tryRun(s.t, c, o.Instances[0].ID, "cat", path)
			if kind := maru.KindOf(err); kind == maru.Conflict || kind == maru.NotFound {
				continue // it was just being replaced
			}
			if err == nil && (code != 0 || out != want) {
				s.t.Errorf("%s: code %d, %q, want %q", path, code, out, want)
			}
			return err
		}
		return maru.Errorf(maru.Interrupted, "not seen")
	})
}
