package serve

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// Accept gives each connection of l to begin, and runs what that returns in a goroutine that running
// counts, until l is closed. A shortage of file descriptors or memory is waited out.
func Accept(ctx context.Context, l net.Listener, running *sync.WaitGroup, begin func(net.Conn) (run func())) error {
	pause := time.Duration(0)
	for {
		c, err := l.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = 0
			running.Go(begin(c))
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.As(err, &temporary) && temporary.Temporary():
		default:
			return maru.Errorf(maru.Unavailable, "accept at %s: %w", l.Addr(), err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
