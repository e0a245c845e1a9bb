package chaos

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

// TestKillAtRandom kills one of the processes at a random instant of an operation, over and over.
// MARU_ROUNDS says how often (40), MARU_SEED repeats a run.
func TestKillAtRandom(t *testing.T) {
	rounds := 40
	if n, err := strconv.Atoi(os.Getenv("MARU_ROUNDS")); err == nil {
		rounds = n
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("MARU_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("repeat with MARU_SEED=%d", seed)
	w := newWorld(t, seed)
	w.begin(t)
	before := w.mark(t)
	acknowledged := 0
	for n := range rounds {
		victims := []string{"server", "runtime", "proxy"}
		victim, after := victims[w.random.IntN(len(victims))], time.Duration(w.random.IntN(700))*time.Millisecond
		o := w.choose()
		w.asked[o.name]++
		ended := make(chan error, 1)
		go func() { ended <- w.do(t.Context(), o) }()
		<-time.After(after)
		if _, err := w.Kill(victim); err != nil {
			// It is away still since the round before.
			host.Eventually(t, time.Minute, victim+" runs", func() bool { _, err := w.Kill(victim); return err == nil })
		}
		err := <-ended
		allowed := []state{o.then}
		if err == nil {
			acknowledged++
			if o.done != nil {
				o.done()
			}
		} else {
			allowed = append(allowed, w.now)
		}
		if t.Failed() {
			return
		}
		began := time.Now()
		w.settle(t, allowed)
		t.Logf("round %d: %s, %s killed after %s, acknowledged: %t, settled in %s", n+1, o.name, victim, after, err == nil, time.Since(began).Round(time.Millisecond))
		if o.name == "secret set" && err != nil {
			w.must(t, w.setSecret(o.file)) // so that it is known which one the next deploy brings
		}
	}
	w.checkMark(t, before)
	t.Logf("%d of %d operations were acknowledged: %v", acknowledged, rounds, w.asked)
}

const marked = "/file?path=/data/mark"

// mark writes a file to the volume.
func (w *world) mark(t *testing.T) string {
	t.Helper()
	text := "kept over everything"
	i := w.Instances(t, "main", "store")[0]
	if _, err := put("http://"+i.AddressV4+":8080"+marked, text); err != nil {
		t.Fatal(err)
	}
	return text
}

func (w *world) checkMark(t *testing.T, text string) {
	t.Helper()
	i := w.Instances(t, "main", "store")[0]
	if found, err := ask("http://"+i.AddressV4+":8080"+marked, ""); err != nil || found != text {
		t.Errorf("the volume's file is %q, %v", found, err)
	}
}
