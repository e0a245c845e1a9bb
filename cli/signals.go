package cli

import (
	"context"
	"os"
	"os/signal"

	"github.com/marucloud/maru"
)

// interruptions is how many times a command that was asked to end is asked before it is left.
const interruptions = 3

// passSignals gives the signals that this program gets, by name, for a command that runs elsewhere. The
// context that comes with them does not end with the first, as ctx does, but with the third that
// asks to end: then the command does not listen.
func passSignals(ctx context.Context) (_ context.Context, names <-chan string, stop func()) {
	got, out := make(chan os.Signal, 16), make(chan string, 16)
	for s := range signalNames {
		signal.Notify(got, s)
	}
	passing, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	go func() {
		for asked := 0; ; {
			select {
			case s := <-got:
				if endsProgram(s) {
					asked++
				}
				if asked == interruptions {
					cancel(maru.Errorf(maru.Interrupted, "interrupted %d times", asked))
				}
				select {
				case out <- signalNames[s]:
				default: // they wait for a server that does not answer
				}
			case <-passing.Done():
				return
			}
		}
	}()
	return passing, out, func() { signal.Stop(got); cancel(nil) }
}
