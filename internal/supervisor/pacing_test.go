package supervisor

import (
	"slices"
	"testing"
	"time"
)

func TestPacing(t *testing.T) {
	const ms = time.Millisecond
	start := time.Unix(1000, 0)
	for _, c := range []struct {
		name     string
		ready    bool
		lifetime time.Duration
		times    int
		last     []time.Duration // the waits at the end
	}{
		{"never ready", false, 10 * ms, 7, []time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, time.Second, time.Second}},
		{"killed ten times at once", true, 0, 10, make([]time.Duration, 10)},
		{"killed every two seconds", true, 2 * time.Second, 100, make([]time.Duration, 100)},
		{"crashes on its first request", true, 50 * ms, 100, []time.Duration{250 * ms, 250 * ms}},
	} {
		var p pacing
		var waits []time.Duration
		now := start
		for range c.times {
			now = now.Add(c.lifetime)
			wait := p.after(now, c.ready)
			now = now.Add(wait)
			waits = append(waits, wait)
		}
		if got := waits[len(waits)-len(c.last):]; !slices.Equal(got, c.last) {
			t.Errorf("%s: waits %v, want %v", c.name, got, c.last)
		}
	}
	var p pacing
	for range 5 {
		p.after(start, false)
	}
	if p.after(start, true) != 0 || p.after(start, false) != 0 {
		t.Error("what was ready once still waits for the failures before")
	}
}
