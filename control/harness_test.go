package control_test

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/control"
	enginememory "github.com/marucloud/maru/engine/memory"
	storememory "github.com/marucloud/maru/store/memory"
)

var shop = maru.Scope{Project: "default", Environment: "production", App: "shop"}

// plane takes the place of all data planes: it keeps what it is told, and lets go of draining
// instances at once.
type plane struct {
	drained func(instance string)

	mu       sync.Mutex
	version  uint64
	synced   bool
	services map[maru.ServiceID]maru.ServiceTraffic
	check    func(maru.ServiceTraffic)
}

func (p *plane) Sync() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = true
}

// InForce has nothing to wait for: what is set is in force.
func (p *plane) InForce(context.Context) error { return nil }

func (p *plane) Set(services ...maru.ServiceTraffic) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version++
	for _, s := range services {
		p.services[s.Service] = s
		if p.check != nil {
			p.check(s)
		}
		for _, e := range s.Endpoints {
			if e.Draining && p.drained != nil {
				p.drained(e.Instance)
			}
		}
	}
	return p.version
}

func (p *plane) Remove(ids ...maru.ServiceID) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version++
	for _, id := range ids {
		delete(p.services, id)
	}
	return p.version
}

func (p *plane) of(service string) maru.ServiceTraffic {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.services[shop.Service(service)]
}

func (p *plane) ready(service string) int {
	n := 0
	for _, e := range p.of(service).Endpoints {
		if e.Ready {
			n++
		}
	}
	return n
}

// counting is an engine that counts what it is asked.
type counting struct {
	*enginememory.Engine
	mu      sync.Mutex
	applied []maru.WorkloadID
	removed []maru.WorkloadID
}

func (e *counting) Apply(ctx context.Context, w maru.Workload) error {
	e.mu.Lock()
	e.applied = append(e.applied, w.ID)
	e.mu.Unlock()
	return e.Engine.Apply(ctx, w)
}

func (e *counting) Remove(ctx context.Context, id maru.WorkloadID) error {
	e.mu.Lock()
	e.removed = append(e.removed, id)
	e.mu.Unlock()
	return e.Engine.Remove(ctx, id)
}

func (e *counting) calls() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.applied) + len(e.removed)
}

// world is a platform without processes. It runs in a bubble of synctest.
type world struct {
	*control.Controller
	t      testing.TB
	store  maru.Store
	engine *counting
	plane  *plane
	cfg    control.Config
	stop   func()
}

func newWorld(t testing.TB, cfg control.Config, behave enginememory.Config) *world {
	e := &counting{Engine: enginememory.New(behave)}
	w := &world{t: t, cfg: cfg, engine: e, store: storememory.New(),
		plane: &plane{services: map[maru.ServiceID]maru.ServiceTraffic{}}}
	w.plane.drained = func(id string) {
		if err := e.Drained(context.Background(), id); err != nil && maru.KindOf(err) != maru.Unavailable {
			t.Errorf("drained %s: %v", id, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := e.Run(ctx); err != nil {
			t.Errorf("engine: %v", err)
		}
	}()
	w.start()
	t.Cleanup(func() {
		w.stop()
		cancel()
		<-done
	})
	return w
}

// start begins a server's life; stop ends it.
func (w *world) start() {
	w.startWith(w.store, w.engine)
}

func (w *world) startWith(store maru.Store, engine maru.Engine) {
	w.t.Helper()
	out := io.Discard
	if testing.Verbose() && os.Getenv("CONTROL_LOG") != "" {
		out = os.Stderr
	}
	c, err := control.New(w.cfg, store, engine, w.plane, slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		w.t.Fatal(err)
	}
	w.Controller = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

// inBubble runs a test with time of its own.
func inBubble(t *testing.T, cfg control.Config, behave enginememory.Config, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg, behave)
		test(w)
		w.stop()
	})
}

// after lets time pass, and what happens in it.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) deploy(app maru.App, services ...string) maru.Rollout {
	w.t.Helper()
	r, _, err := w.Deploy(context.Background(), deployment(app, services...))
	if err != nil {
		w.t.Fatalf("deploy: %v", err)
	}
	return r
}

func deployment(app maru.App, services ...string) maru.Deployment {
	d := maru.Deployment{Scope: shop, App: app, Services: services, Images: map[string]maru.Image{}, Secrets: map[string]maru.SecretVersion{}, By: "ann"}
	for name, s := range app.Services {
		d.Images[name] = maru.Image{Reference: s.Image + "@sha256:" + s.Image}
	}
	for key, s := range app.Secrets {
		d.Secrets[key] = maru.SecretVersion{Name: s.Name, Version: 1}
	}
	return d
}

func (w *world) status() maru.AppStatus {
	w.t.Helper()
	s, err := w.Status(context.Background(), shop)
	if err != nil {
		w.t.Fatalf("status: %v", err)
	}
	return s
}

func (w *world) service(name string) maru.ServiceStatus {
	w.t.Helper()
	s := w.status()
	at := slices.IndexFunc(s.Services, func(s maru.ServiceStatus) bool { return s.Name == name })
	if at < 0 {
		w.t.Fatalf("no service %s: %+v", name, s)
	}
	return s.Services[at]
}

func (w *world) wantPhase(phase maru.RolloutPhase) {
	w.t.Helper()
	if r := w.status().Rollout; r == nil || r.Phase != phase {
		w.t.Fatalf("rollout %s, want %s", maru.Raw(r), phase)
	}
}

// instances are those on the engine, by ID, as one watch shows them.
func (w *world) instances() map[string]maru.Instance {
	out := map[string]maru.Instance{}
	for o, err := range w.engine.Watch(context.Background()) {
		if err != nil {
			w.t.Fatal(err)
		}
		if o.Synced {
			break
		}
		for _, i := range o.Instances {
			out[i.ID] = i
		}
	}
	return out
}

func app(services map[string]maru.Service) maru.App {
	return maru.App{Name: "shop", Services: services,
		Networks: map[string]maru.Network{"default": {}}, Volumes: map[string]maru.Volume{"data": {}}}
}

func web(image string, change ...func(*maru.Service)) maru.Service {
	s := maru.Service{
		Kind: maru.LongRunning, Image: image, Replicas: 3,
		Networks: map[string]maru.Attachment{"default": {}},
		Expose:   []maru.Port{{Port: 8080, Protocol: maru.TCP}},
		Update:   maru.Update{Strategy: maru.Rolling},
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func db(image string) maru.Service {
	return web(image, func(s *maru.Service) {
		s.Replicas = 1
		s.Update.Strategy = maru.Recreate
		s.Container.Mounts = []maru.Mount{{Kind: maru.VolumeMount, Source: "data", Target: "/data"}}
	})
}

// flaky are engines and stores that fail from some call on, as if the process had died there.
type fuse struct {
	mu   sync.Mutex
	left int
	blow func()
}

// burn tells whether the call happens, and whether its caller hears of it.
func (f *fuse) burn() (happens, heard bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left--
	if f.left == 0 || f.left == 1 {
		go f.blow()
	}
	return f.left > 0, f.left > 1
}

type fusedStore struct {
	maru.Store
	*fuse
}

var errDead = maru.Errorf(maru.Unavailable, "the process is dead")

func (s fusedStore) Commit(ctx context.Context, changes ...maru.Change) (maru.Revision, error) {
	happens, heard := s.burn()
	if !happens {
		return 0, errDead
	}
	r, err := s.Store.Commit(ctx, changes...)
	if !heard {
		return 0, errDead
	}
	return r, err
}

type fusedEngine struct {
	maru.Engine
	*fuse
}

func (e fusedEngine) Apply(ctx context.Context, w maru.Workload) error {
	return e.call(func() error { return e.Engine.Apply(ctx, w) })
}

func (e fusedEngine) Remove(ctx context.Context, id maru.WorkloadID) error {
	return e.call(func() error { return e.Engine.Remove(ctx, id) })
}

func (e fusedEngine) Watch(ctx context.Context) iter.Seq2[maru.Observation, error] {
	return e.Engine.Watch(ctx)
}

func (e fusedEngine) call(do func() error) error {
	happens, heard := e.burn()
	if !happens {
		return errDead
	}
	err := do()
	if !heard {
		return errDead
	}
	return err
}
