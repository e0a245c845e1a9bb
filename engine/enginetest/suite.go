package enginetest

import "testing"

// Run tests an engine. Each test gets one of its own from the factory, and leaves it empty.
func Run(t *testing.T, factory Factory) {
	for _, c := range []struct {
		name string
		test func(*harness)
	}{
		{"ApplyIsIdempotent", applyIsIdempotent},
		{"WorkloadsAreImmutable", workloadsAreImmutable},
		{"MissingImage", missingImage},
		{"Scale", scale},
		{"Ready", ready},
		{"NotReady", notReady},
		{"CrashRestartsInPlace", crashRestartsInPlace},
		{"KilledRestartsAtOnce", killedRestartsAtOnce},
		{"Backoff", backoff},
		{"RestartPolicies", restartPolicies},
		{"RemoveAndGone", removeAndGone},
		{"ApplyWhileRemoved", applyWhileRemoved},
		{"JobSucceeds", jobSucceeds},
		{"JobFails", jobFails},
		{"DrainUntilDrained", drainUntilDrained},
		{"DrainTimeIsUp", drainTimeIsUp},
		{"NeverReadyDoesNotDrain", neverReadyDoesNotDrain},
		{"GraceIsUp", graceIsUp},
		{"VolumeHasOneWriter", volumeHasOneWriter},
		{"VolumeIsShared", volumeIsShared},
		{"WatchReplays", watchReplays},
		{"WatchersAgree", watchersAgree},
		{"SlowWatcher", slowWatcher},
		{"WatchEndsWithContext", watchEndsWithContext},
		{"Concurrent", concurrent},
		{"EngineRestarts", engineRestarts},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, factory(t))
			c.test(h)
			h.removeAll()
		})
	}
}
