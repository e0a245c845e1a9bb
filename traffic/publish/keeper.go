package publish

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/sockets"
	"github.com/marucloud/maru/traffic/serve"
)

// longestRetry is how long a port that can't be opened waits for the next try.
const longestRetry = 15 * time.Second

// keeper opens what is claimed and closes what is not. One goroutine runs it.
type keeper struct {
	p        *Ports
	limit    context.Context // ends when what is in flight is to be cut
	open     map[place]*opened
	retry    map[place]int // failures in a row
	carrying sync.WaitGroup
}

// opened is a socket in use.
type opened struct {
	io.Closer
	done chan struct{}
}

func (k *keeper) run(ctx context.Context) {
	defer k.closeAll()
	var again <-chan time.Time
	for {
		select {
		case <-k.p.wake:
		case <-again:
			k.p.retry(k.retry)
		case <-ctx.Done():
			return
		}
		for _, at := range k.p.changes() {
			k.settle(ctx, at)
		}
		again = nil
		if d := k.soonest(); d > 0 {
			again = time.After(d)
		}
	}
}

// changes gives the places whose claims changed since the last call.
func (p *Ports) changes() []place {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]place, 0, len(p.dirty))
	for at := range p.dirty {
		list = append(list, at)
	}
	clear(p.dirty)
	return list
}

// retry marks the places that could not be opened.
func (p *Ports) retry(failed map[place]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := range failed {
		p.dirty[at] = struct{}{}
	}
}

func (k *keeper) soonest() time.Duration {
	var soonest time.Duration
	for _, failures := range k.retry {
		d := min(time.Second<<min(failures-1, 6), longestRetry)
		if soonest == 0 || d < soonest {
			soonest = d
		}
	}
	return soonest
}

// settle brings one place to what its claims say.
func (k *keeper) settle(ctx context.Context, at place) {
	k.p.mu.Lock()
	claims := k.p.claims[at]
	k.p.mu.Unlock()
	if len(claims) == 0 {
		delete(k.retry, at)
		k.close(at)
		return
	}
	for _, c := range claims[1:] {
		k.p.table.Problem(c.service.ID, at.String(), claims[0].service.ID.String()+" has it already")
	}
	id := claims[0].service.ID
	if k.open[at] == nil {
		if err := k.listen(ctx, at); err != nil {
			k.retry[at]++
			if k.retry[at] == 1 {
				k.p.log.Warn("published port can't be opened", "service", id, "port", at, "error", err)
			}
			k.p.table.Problem(id, at.String(), why(err))
			return
		}
	}
	delete(k.retry, at)
	k.p.table.Solved(id, at.String())
}

// why says what a person can do about a port that can't be opened.
func why(err error) string {
	hint := maru.HintOf(err)
	switch {
	case hint != "":
	case errors.Is(err, syscall.EADDRINUSE) || maru.KindOf(err) == maru.Conflict:
		hint = "another program listens there: end it, or choose another port"
	case errors.Is(err, syscall.EACCES) || maru.KindOf(err) == maru.Denied:
		hint = "a port below 1024 needs root: run maru start as root or under systemd, or choose another port"
	default:
		return err.Error()
	}
	return err.Error() + " (" + hint + ")"
}

func (k *keeper) listen(ctx context.Context, at place) error {
	f, err := k.p.cfg.Listen(ctx, at.network, at.address)
	if err != nil {
		return err
	}
	o := &opened{done: make(chan struct{})}
	if at.network == string(maru.UDP) {
		pc, err := sockets.PacketConn(f)
		if err != nil {
			return err
		}
		o.Closer = pc
		u := newDatagrams(k.p, at, pc)
		go func() {
			defer close(o.done)
			u.run(k.limit)
		}()
	} else {
		l, err := sockets.Listener(f)
		if err != nil {
			return err
		}
		o.Closer = l
		go func() {
			defer close(o.done)
			if err := serve.Accept(k.limit, l, &k.carrying, k.p.accepter(k.limit, at)); err != nil {
				k.p.log.Error("published port", "port", at, "error", err)
			}
		}()
	}
	k.open[at] = o
	return nil
}

func (k *keeper) close(at place) {
	o := k.open[at]
	if o == nil {
		return
	}
	delete(k.open, at)
	o.Close()
	<-o.done
	if k.p.cfg.Release != nil {
		k.p.cfg.Release(at.network, at.address)
	}
}

// closeAll closes the sockets here, and leaves them open for the next proxy.
func (k *keeper) closeAll() {
	for _, o := range k.open {
		o.Close()
		<-o.done
	}
}
