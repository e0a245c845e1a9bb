// Package enginetest is the suite that every implementation of [maru.Engine] passes: on what an
// engine promises of workloads and their instances, and not on how. It says by examples what the
// contract means:
//
//   - Apply and Remove are idempotent. Apply of an ID that is being removed brings it back.
//   - From Remove on, observations of a workload say Wanted 0, until the last says Gone.
//   - An instance that ends is started again in place: its ID and addresses stay, Attempt grows.
//   - An instance that is to go is first draining. It gets its stop signal when it was never ready,
//     when Drained was called, or when its drain time is up.
//   - Two workloads of one service never write to a volume at a time: the instances of the later one
//     are pending until those of the earlier one are gone. Services that share a volume do so at once.
//   - Every watcher gets the last state of every workload, however slow it is.
package enginetest

import (
	"testing"
	"time"

	"github.com/marucloud/maru"
)

// Behaviour is what the program in an image does. All programs end at once with exit code 0 on
// SIGTERM, unless said otherwise, and write a line to their standard output when they start.
type Behaviour string

// The behaviours.
const (
	Serve           Behaviour = "serve"             // accepts TCP connections on Port
	Idle            Behaviour = "idle"              // runs and listens nowhere: never ready, with Port declared
	Stubborn        Behaviour = "stubborn"          // as Serve, and ignores SIGTERM
	CrashAfterReady Behaviour = "crash-after-ready" // as Serve, and ends with exit code 3 soon after the first connection, or 300 ms after its start
	Fail            Behaviour = "fail"              // ends at once with exit code 7, having written "cannot go on" to its standard error
	Succeed         Behaviour = "succeed"           // ends at once with exit code 0
)

// Port is where programs listen.
const Port = 8080

// Fixture is an engine to test, with what the suite needs beside the contract.
type Fixture struct {
	Engine   maru.Engine
	Image    func(Behaviour) string              // reference of an image, present, whose program behaves so
	Missing  string                              // reference of an image that is not there
	Crash    func(t *testing.T, instance string) // kills the instance's process with SIGKILL
	Restart  func(t *testing.T) maru.Engine      // optional: ends the engine as by kill -9, and gives one that goes on from what is there
	Leftover func(t *testing.T) []string         // optional: what is left on the machine when all workloads are gone
	Patience time.Duration                       // how long anything may take; default 20 s
}

// Factory makes an engine without workloads. It cleans up by t.Cleanup.
type Factory func(t *testing.T) Fixture
