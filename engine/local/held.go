package local

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// heldPatience is how long a held instance waits for its command. One whose caller, or whose engine,
// went away before is not left behind.
const heldPatience = time.Minute

// holdCommand is what a held instance's container runs meanwhile.
var holdCommand = []string{initPath, "--hold"}

// take gives the command of a held attempt to who runs it.
func (a *attempt) take() ([]string, error) {
	if !a.workload.Held {
		return nil, maru.Errorf(maru.Invalid, "no command to run")
	}
	if a.taken.Swap(true) {
		return nil, maru.Errorf(maru.Conflict, "the command of %s runs already", a.instance)
	}
	return commandOf(a.workload.Container, a.image), nil
}

// release ends a held attempt, whose command is over.
func (a *attempt) release(ctx context.Context) {
	a.hurry()
	_ = within(ctx, func(ctx context.Context) error { return a.signal(ctx, unix.SIGTERM) }) // it may have ended by itself
}

// hold ends a held attempt that nobody gives its command, unless ctx ends before.
func (a *attempt) hold(ctx context.Context) {
	patience := time.NewTimer(heldPatience)
	defer patience.Stop()
	select {
	case <-ctx.Done():
	case <-patience.C:
		if !a.taken.Load() {
			a.release(ctx)
		}
	}
}
