package probe

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// Defaults of a probe's rhythm.
const (
	DefaultInterval      = 10 * time.Second // once ready
	DefaultStartInterval = time.Second      // not ready any more, without an interval of its own
	DefaultFailures      = 3
	firstInterval        = 10 * time.Millisecond // grows until first ready
	setUpTime            = 10 * time.Second      // in which a command that passes may speak of something else than the server
)

// Watcher keeps asking one attempt of an instance.
type Watcher struct {
	Probes  maru.Probes
	Target  Target
	Started time.Time // of the attempt
	Ready   bool      // as known when watching begins
	Once    bool      // ready once is ready for good
	// Patience is how long after its start the instance is waited for; then it is taken to be ready
	// whatever the answers are. 0: as long as it takes.
	Patience time.Duration
	// Changed is told whether the instance is ready, and if not, why not. It is called whenever
	// either changes, never twice at the same time.
	Changed func(ready bool, why string)
	// Failed is told the last answer when the liveness probe has failed for good. It is called once
	// at most.
	Failed func(answer string)
}

// Run asks until ctx ends. Without a readiness probe it tells nothing of readiness.
func (w Watcher) Run(ctx context.Context) {
	both := w.Probes.Ready != nil && reflect.DeepEqual(w.Probes.Ready, w.Probes.Live)
	var asking sync.WaitGroup
	if w.Probes.Ready != nil {
		asking.Go(func() { w.watch(ctx, *w.Probes.Ready, true, both) })
	}
	if w.Probes.Live != nil && !both {
		asking.Go(func() { w.watch(ctx, *w.Probes.Live, false, true) })
	}
	asking.Wait()
}

// watch asks one probe, for readiness, liveness or both.
func (w Watcher) watch(ctx context.Context, p maru.Probe, readiness, liveness bool) {
	s := series{probe: p, started: w.Started, ready: w.Ready && readiness, succeeded: w.Ready}
	told := ""
	for {
		answer, ok := Ask(ctx, p, w.Target)
		if ok && s.early(time.Now()) && !w.Target.accepts(ctx) {
			answer, ok = answer+", but no port accepts connections yet", false
		}
		if ctx.Err() != nil {
			return
		}
		if readiness && w.Patience > 0 && time.Since(w.Started) >= w.Patience {
			ok = true
		}
		before := s.ready
		dead := s.add(time.Now(), ok)
		if readiness && (s.ready != before || !s.ready && answer != told) {
			told = answer
			if s.ready {
				answer = ""
			}
			w.Changed(s.ready, answer)
		}
		if liveness && dead {
			w.Failed(answer)
			return
		}
		if readiness && w.Once && s.ready {
			return
		}
		timer := time.NewTimer(s.interval())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// series is what a row of answers to one probe amounts to.
type series struct {
	probe     maru.Probe
	started   time.Time
	ready     bool
	succeeded bool // once, in this attempt
	asked     int
	failures  int       // in a row
	counted   time.Time // last failure that counted towards death
	deaths    int       // failures in a row that counted towards death
}

// add takes an answer in and tells whether the instance is to be given up.
func (s *series) add(now time.Time, ok bool) (dead bool) {
	s.asked++
	if ok {
		s.ready, s.succeeded, s.failures, s.deaths = true, true, 0, 0
		return false
	}
	s.failures++
	if s.failures >= s.limit() || !s.succeeded {
		s.ready = false
	}
	if !s.succeeded {
		// Until its first success an instance is asked much more often than its interval says: only
		// one failure per interval counts, and none in the start period.
		if now.Before(s.started.Add(s.probe.StartPeriod)) {
			return false
		}
		since := s.counted
		if since.IsZero() {
			since = s.started.Add(s.probe.StartPeriod)
		}
		if now.Before(since.Add(s.steady())) {
			return false
		}
	}
	s.counted = now
	s.deaths++
	return s.deaths >= s.limit()
}

// early tells whether a command is asked before anybody who wrote it for other platforms expects it
// to be: those ask after an interval for the first time. Images of databases set themselves up with
// a server that answers on a local socket only, which such commands take for the real one.
func (s *series) early(now time.Time) bool {
	first := s.steady()
	if s.probe.StartInterval > 0 {
		first = s.probe.StartInterval
	}
	return len(s.probe.Exec) > 0 && !s.succeeded && now.Before(s.started.Add(max(first, setUpTime)))
}

// interval is how long to wait before asking again.
func (s *series) interval() time.Duration {
	switch {
	case s.ready:
		return s.steady()
	case s.succeeded && s.probe.Interval > 0:
		return s.probe.Interval
	case s.succeeded:
		return DefaultStartInterval
	case s.probe.StartInterval > 0:
		return s.probe.StartInterval
	}
	grown := firstInterval
	for range min(s.asked-1, 16) {
		grown = grown * 3 / 2
	}
	return min(grown, DefaultStartInterval)
}

// steady is the interval of a probe that has succeeded.
func (s *series) steady() time.Duration {
	if s.probe.Interval > 0 {
		return s.probe.Interval
	}
	return DefaultInterval
}

func (s *series) limit() int {
	if s.probe.Failures > 0 {
		return s.probe.Failures
	}
	return DefaultFailures
}
