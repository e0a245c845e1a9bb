package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru/internal/crash"
	"github.com/marucloud/maru/internal/crash/crashtest"
	"github.com/marucloud/maru/test/host"
)

// TestKillAtPoints goes through deploy, secret change, scale, roll back and remove once for each named
// point, with a process that is killed there. MARU_POINTS limits it to names that contain the text;
// MARU_EVERY (10) takes only each so-manyth of them, 1 all; MARU_PASSES (1) is how many different passes
// of each point are tried.
func TestKillAtPoints(t *testing.T) {
	passes, every := 1, 10
	if n, err := strconv.Atoi(os.Getenv("MARU_PASSES")); err == nil {
		passes = n
	}
	if n, err := strconv.Atoi(os.Getenv("MARU_EVERY")); err == nil && n > 0 {
		every = n
	}
	w := newWorld(t, 1)
	w.begin(t)
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	var unmet []string
	points := crashtest.Points(t, "")
	for i, point := range points {
		if i%every != 0 || !strings.Contains(point, os.Getenv("MARU_POINTS")) {
			continue
		}
		for pass := 1; pass <= passes; pass++ {
			met := w.through(t, point, pass)
			if t.Failed() {
				return
			}
			if !met && pass == 1 {
				unmet = append(unmet, point)
			}
		}
	}
	if err := w.Up(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d points, of which these were not met: %s", len(points), strings.Join(unmet, ", "))
}

// through goes through all operations and tells whether the point was met. The platform is down before
// and after; instances run on.
func (w *world) through(t *testing.T, point string, pass int) (met bool) {
	t.Helper()
	latch := filepath.Join(w.Layout.Data, "..", fmt.Sprint("met-", point, pass))
	began := time.Now()
	if err := w.Up(fmt.Sprintf("%s=%s:%d", crash.Variable, point, pass), crash.VariableOnce+"="+latch); err != nil {
		t.Fatalf("%s: %v", point, err)
	}
	w.count++
	w.random = rand.New(rand.NewPCG(uint64(w.count), 2))
	for _, next := range []func() operation{
		w.toggle,
		func() operation { return w.setSecret(fmt.Sprint("secret ", w.count)) },
		func() operation { return w.deploy(fmt.Sprint(w.count)) },
		func() operation { return w.scale(3 - w.now.scale%2) },
		func() operation { return w.rollback(w.first()) },
		w.toggle,
	} {
		before := w.now
		o := next()
		err := w.do(t.Context(), o)
		allowed := []state{o.then}
		if err != nil {
			allowed = append(allowed, before)
		} else if o.done != nil {
			o.done()
		}
		w.settle(t, allowed)
		if t.Failed() {
			return true
		}
		if o.name == "secret set" && err != nil {
			w.must(t, w.setSecret(o.file))
		}
	}
	_, err := os.Stat(latch)
	if err == nil {
		t.Logf("%s, pass %d: survived, in %s", point, pass, time.Since(began).Round(time.Millisecond))
	}
	host.Eventually(t, time.Minute, "all processes run", func() bool {
		return w.PID("server") != 0 && w.PID("runtime") != 0 && w.PID("proxy") != 0
	})
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	return err == nil
}

// first gives the number of the first rollout that is known.
func (w *world) first() int {
	least := 0
	for n := range w.rollouts {
		if least == 0 || n < least {
			least = n
		}
	}
	return least
}
