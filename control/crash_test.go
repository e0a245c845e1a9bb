package control_test

import (
	"fmt"
	"maps"
	"slices"
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
