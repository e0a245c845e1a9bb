package probe

import (
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func TestSeries(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return began.Add(d) }

	t.Run("SlowStartIsNoDeath", func(t *testing.T) {
		s := series{probe: maru.Probe{Interval: 30 * time.Second}, started: began}
		// Asked every second, it dies only when it failed for three of its intervals.
		for i := range 89 {
			if s.add(at(time.Duration(i)*time.Second), false) {
				t.Fatalf("dead after %d s", i)
			}
		}
		if !s.add(at(90*time.Second), false) {
			t.Error("not dead after 90 s")
		}
	})
	t.Run("StartPeriod", func(t *testing.T) {
		s := series{probe: maru.Probe{Interval: time.Second, Failures: 1, StartPeriod: time.Minute}, started: began}
		if s.add(at(59*time.Second), false) {
			t.Error("dead in its start period")
		}
		if !s.add(at(61*time.Second), false) {
			t.Error("not dead after its start period")
		}
	})
	t.Run("OneFailureIsNone", func(t *testing.T) {
		s := series{probe: maru.Probe{Failures: 2}, started: began}
		for i, step := range []struct{ ok, ready, dead bool }{
			{false, false, false}, {true, true, false}, {false, true, false}, {true, true, false},
			{false, true, false}, {false, false, true},
		} {
			if dead := s.add(at(time.Duration(i)*time.Second), step.ok); dead != step.dead || s.ready != step.ready {
				t.Errorf("step %d: dead %v, ready %v", i, dead, s.ready)
			}
		}
	})
	t.Run("Rhythm", func(t *testing.T) {
		s := series{probe: maru.Probe{}, started: began}
		var all []time.Duration
		for range 20 {
			s.add(began, false)
			all = append(all, s.interval())
		}
		if all[0] != 10*time.Millisecond || all[1] <= all[0] || all[19] != time.Second {
			t.Errorf("until ready: %v", all)
		}
		s.add(began, true)
		if s.interval() != DefaultInterval {
			t.Errorf("when ready: %s", s.interval())
		}
		s = series{probe: maru.Probe{StartInterval: 5 * time.Second, Interval: time.Minute}}
		s.add(began, false)
		if s.interval() != 5*time.Second {
			t.Errorf("with a start interval: %s", s.interval())
		}
	})
}
