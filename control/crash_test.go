package control_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/control"
)

// TestDiesAnywhere has the server die before and after every write and every effect, at each of some
// stations of an app's life, and start again: then all is as it was asked for, and nothing is left.
func TestDiesAnywhere(t *testing.T) {
	first := app(map[string]maru.Service{"web": web("web:1"), "db": db("db:1"), "old": web("old:1")})
	second := app(map[string]maru.Service{"web": web("web:2", func(s *maru.Service) { s.Update.Parallel = 1 }), "db": db("db:2"), "new": web("new:1")})
	failing := app(map[string]maru.Service{"web": web("web:1"), "db": db("never:2"), "old": web("old:2")})
	for _, c := range []struct {
		name string
		do   func(*world) error
		want map[string]int // instances by service and release
	}{
		{"deploy", func(w *world) error { _, _, err := w.Deploy(ctx, deployment(second)); return err },
			map[string]int{"web/2": 3, "db/2": 1, "new/2": 3}},
		{"failing deploy", func(w *world) error { _, _, err := w.Deploy(ctx, deployment(failing)); return err },
			map[string]int{"web/1": 3, "db/1": 1, "old/1": 3}},
		{"restart", func(w *world) error { _, err := w.Restart(ctx, shop, nil, "ann"); return err },
			map[string]int{"web/2": 3, "db/2": 1, "old/2": 3}},
		{"scale", func(w *world) error { return w.Scale(ctx, shop, map[string]int{"web": 5}, "ann") },
			map[string]int{"web/1": 5, "db/1": 1, "old/1": 3}},
		{"stop", func(w *world) error { return w.Stop(ctx, shop, nil, "ann") }, map[string]int{}},
		{"remove", func(w *world) error { _, err := w.Controller.Remove(ctx, shop, "ann"); return err }, map[string]int{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := map[string]int{"web/1": 3, "db/1": 1, "old/1": 3}
			died := true
			for at := 0; died; at++ {
				inBubble(t, control.Config{}, slow, func(w *world) {
					w.deploy(first)
					after(time.Minute)
					w.stop()
					var err error
					died, err = w.dieAt(at, c.do)
					w.start()
					after(2 * time.Hour)
					if got := w.runs(); !maps.Equal(got, c.want) && (err == nil || !maps.Equal(got, before)) {
						t.Errorf("died at call %d, with %v: runs %v, want %v", at, err, got, c.want)
					}
				})
			}
		})
	}
}

// dieAt starts a server that dies at a call of store or engine, has it do something, and waits for its
// end. It tells whether the server came to that call, and what was acknowledged.
func (w *world) dieAt(call int, do func(*world) error) (died bool, err error) {
	dead := make(chan struct{})
	f := &fuse{left: call + 1, blow: sync.OnceFunc(func() { close(dead) })}
	w.startWith(fusedStore{w.store, f}, fusedEngine{w.engine, f})
	err = do(w)
	if err != nil && maru.KindOf(err) != maru.Unavailable {
		w.t.Errorf("call %d: %v", call, err)
	}
	select {
	case <-dead:
	case <-time.After(time.Hour):
	}
	w.stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left <= 1, err
}

func (w *world) runs() map[string]int {
	out := map[string]int{}
	for _, i := range w.instances() {
		if i.Phase != maru.PhaseRunning {
			continue
		}
		var service string
		var release int
		at := slices.Index([]byte(i.ID), '-')
		service = i.ID[:at]
		if _, err := fmt.Sscanf(i.ID[at+1:], "%d-", &release); err != nil {
			w.t.Fatal(err)
		}
		out[fmt.Sprintf("%s/%d", service, release)]++
	}
	return out
}

// TestDiesAtRandom has the server die again and again at random calls while people ask for random
// things: once it lives on, no rollout is left open, what runs is what the state says, and nothing
// else is there. MARU_ROUNDS says how many lives; default 40.
func TestDiesAtRandom(t *testing.T) {
	rounds := 40
	if n, err := strconv.Atoi(os.Getenv("MARU_ROUNDS")); err == nil {
		rounds = n
	}
	const livesPerWorld = 10
	for seed := range max(rounds/livesPerWorld, 1) {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		inBubble(t, control.Config{History: 3}, slow, func(w *world) {
			w.deploy(randomApp(random))
			after(time.Minute)
			for range livesPerWorld {
				w.stop()
				do := randomWish(random)
				if _, err := w.dieAt(random.IntN(25), do); err != nil && maru.KindOf(err) == maru.Internal {
					t.Errorf("seed %d: %v", seed, err)
				}
				w.start()
				after(time.Duration(random.IntN(int(10 * time.Second))))
			}
			after(3 * time.Hour)
			w.consistent(fmt.Sprintf("seed %d", seed))
			calls := w.engine.calls()
			w.stop()
			w.start()
			after(time.Hour)
			if n := w.engine.calls() - calls; n > 0 {
				t.Errorf("seed %d: at rest, a restart asked the engine %d times", seed, n)
			}
		})
	}
}

func randomApp(random *rand.Rand) maru.App {
	services := map[string]maru.Service{"db": db(fmt.Sprintf("db:%d", random.IntN(3)))}
	for _, name := range []string{"web", "api"} {
		if random.IntN(4) == 0 {
			continue
		}
		image := fmt.Sprintf("%s:%d", name, random.IntN(5))
		if random.IntN(5) == 0 {
			image = "crash:1"
		}
		services[name] = web(image, func(s *maru.Service) {
			s.Replicas = 1 + random.IntN(4)
			s.Update.Parallel = random.IntN(3)
			s.DependsOn = []maru.Dependency{{Service: "db", Condition: maru.Healthy}}
			if random.IntN(3) == 0 {
				s.Release = &maru.ReleaseStep{Command: []string{"migrate"}}
			}
		})
	}
	return app(services)
}

func randomWish(random *rand.Rand) func(*world) error {
	a := randomApp(random)
	switch random.IntN(8) {
	case 0:
		return func(w *world) error { _, _, err := w.Rollback(ctx, shop, 0, "ann"); return known(err) }
	case 1:
		return func(w *world) error { _, err := w.Restart(ctx, shop, nil, "ann"); return known(err) }
	case 2:
		return func(w *world) error { return known(w.Scale(ctx, shop, map[string]int{"web": 2}, "ann")) }
	case 3:
		return func(w *world) error { return known(w.Stop(ctx, shop, []string{"db"}, "ann")) }
	case 4:
		return func(w *world) error { _, err := w.Controller.Remove(ctx, shop, "ann"); return known(err) }
	}
	return func(w *world) error { _, _, err := w.Deploy(ctx, deployment(a)); return known(err) }
}

// known lets pass what a wish may be refused with.
func known(err error) error {
	switch maru.KindOf(err) {
	case maru.NotFound, maru.Conflict:
		return nil
	}
	return err
}

// consistent compares what is on the engine with what is stored.
func (w *world) consistent(what string) {
	w.t.Helper()
	want := map[string]int{}
	states, _, err := w.store.List(ctx, control.KindService, "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range states {
		st, err := control.Decode[maru.ServiceState](o.Key, o.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		if !st.Stopped && st.Replicas > 0 && st.Release > 0 {
			want[fmt.Sprintf("%s/%d", st.Service.Service, st.Release)] = st.Replicas
		}
	}
	rollouts, err := w.Rollouts(ctx, shop)
	if err != nil || !rollouts[0].Phase.Final() {
		w.t.Errorf("%s: rollouts %v, %s", what, err, maru.Raw(rollouts))
		return
	}
	if got := w.runs(); !maps.Equal(got, want) || len(w.instances()) != total(want) {
		w.t.Errorf("%s: runs %v, want %v; %s", what, got, want, maru.Raw(rollouts[0]))
	}
}

func total(m map[string]int) int {
	n := 0
	for _, k := range m {
		n += k
	}
	return n
}
