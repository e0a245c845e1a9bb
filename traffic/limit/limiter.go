package limit

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Priority is how important a request is.
type Priority int

// The priorities.
const (
	Low Priority = iota
	Normal
	High
	priorities
)

// Config says how a service is limited.
type Config struct {
	Requests int           // at once; 0: found
	Start    int           // of a bound that is found: the first
	Queue    int           // requests that wait beyond that
	Wait     time.Duration // the longest wait of these; 0: 1 s
}

const (
	defaultWait = time.Second
	// reserve is which part of the bound higher priorities have for themselves, as long as there are requests
	// that have them: one of so many for one, and half as much more for another.
	reserve = 4
	// recent is for how long a priority that was seen has its reserve.
	recent = time.Second
)

// Limiter bounds the requests at a service. It is for many goroutines. Moments are Unix nanoseconds.
type Limiter struct {
	cfg      Config
	inFlight atomic.Int64
	bound    atomic.Int64
	seen     [priorities]atomic.Int64 // moments
	full     atomic.Bool              // the bound was reached in this window

	began atomic.Int64 // of the window
	took  atomic.Int64 // least length of the window
	good  atomic.Int64
	busy  atomic.Int64 // nanoseconds
	mu    sync.Mutex
	found adaptive

	waiting atomic.Int64
	queueMu sync.Mutex
	queue   [priorities][]chan struct{}
}

// New makes a limiter.
func New(cfg Config) *Limiter {
	if cfg.Wait == 0 {
		cfg.Wait = defaultWait
	}
	l := &Limiter{cfg: cfg}
	bound := cfg.Requests
	if bound == 0 {
		bound = max(least, cfg.Start)
	}
	l.found.bound = bound
	l.took.Store(int64(windowTook))
	l.bound.Store(int64(bound))
	return l
}

// Bound is how many requests may be at the service now.
func (l *Limiter) Bound() int { return int(l.bound.Load()) }

// InFlight is how many are.
func (l *Limiter) InFlight() int { return int(l.inFlight.Load()) }

// Enter counts a request in if there is room for it, which the caller counts out with Leave.
func (l *Limiter) Enter(now int64, p Priority) bool {
	l.see(now, p)
	return l.enter(now, p)
}

// see notes that there are requests of the priority, at most every millisecond.
func (l *Limiter) see(now int64, p Priority) {
	if s := &l.seen[p]; now-s.Load() > int64(time.Millisecond) {
		s.Store(now)
	}
}

func (l *Limiter) enter(now int64, p Priority) bool {
	bound := l.bound.Load()
	room, part := bound, int64(reserve)
	for higher := p + 1; higher < priorities; higher++ {
		if now-l.seen[higher].Load() < int64(recent) {
			room -= max(1, bound/part)
			part *= 2
		}
	}
	n := l.inFlight.Add(1)
	in := n <= max(room, 1)
	if (n >= bound || !in) && !l.full.Load() && l.full.CompareAndSwap(false, true) {
		l.restart(now)
	}
	if !in {
		l.inFlight.Add(-1)
	}
	return in
}

// restart begins the window anew, when the bound is reached in it: how long the requests before took says
// nothing of whether those that are in now wait.
func (l *Limiter) restart(now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Requests == 0 && l.began.Load() != 0 {
		l.began.Store(now)
		l.good.Store(0)
		l.busy.Store(0)
	}
}

// Leave counts a request out that entered at a moment, and whether it had a good answer.
func (l *Limiter) Leave(came, now int64, good bool) {
	l.inFlight.Add(-1)
	if good && l.cfg.Requests == 0 {
		l.learn(came, now)
	}
	if l.waiting.Load() > 0 {
		l.grant(now)
	}
}

// learn takes an answer into the window, and ends that when it has enough.
func (l *Limiter) learn(came, now int64) {
	n := l.good.Add(1)
	l.busy.Add(now - came)
	began := l.began.Load()
	if began == 0 {
		l.began.CompareAndSwap(0, now)
		return
	}
	if n < windowGood || now-began < l.took.Load() || !l.mu.TryLock() {
		return
	}
	defer l.mu.Unlock()
	if !l.began.CompareAndSwap(began, now) {
		return
	}
	w := Window{Took: time.Duration(now - began), Good: int(l.good.Swap(0)), Busy: time.Duration(l.busy.Swap(0)), Full: l.full.Swap(false), InFlight: l.InFlight()}
	if w.Good > 0 {
		l.found.next(w)
		l.bound.Store(int64(l.found.bound))
		l.took.Store(int64(l.found.took()))
	}
}

// Queues tells whether requests may wait.
func (l *Limiter) Queues() bool { return l.cfg.Queue > 0 }

// Await is Enter for a request for which there was no room: it waits in the queue if there is one.
func (l *Limiter) Await(ctx context.Context, p Priority) bool {
	turn, ok := l.join(p)
	if !ok {
		return false
	}
	l.grant(time.Now().UnixNano())
	timer := time.NewTimer(l.cfg.Wait)
	defer timer.Stop()
	select {
	case <-turn:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return !l.quit(p, turn)
}

func (l *Limiter) join(p Priority) (turn chan struct{}, ok bool) {
	if l.cfg.Queue == 0 {
		return nil, false
	}
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	if l.waiting.Load() >= int64(l.cfg.Queue) {
		return nil, false
	}
	l.waiting.Add(1)
	turn = make(chan struct{})
	l.queue[p] = append(l.queue[p], turn)
	return turn, true
}

// quit takes a request out of the queue; false if it had its turn meanwhile.
func (l *Limiter) quit(p Priority, turn chan struct{}) bool {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	i := slices.Index(l.queue[p], turn)
	if i < 0 {
		return false
	}
	l.queue[p] = slices.Delete(l.queue[p], i, i+1)
	l.waiting.Add(-1)
	return true
}

// grant gives the room there is to those that wait: to the most important ones, in their order.
func (l *Limiter) grant(now int64) {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	for p := High; p >= Low; p-- {
		for len(l.queue[p]) > 0 {
			if !l.enter(now, p) {
				return
			}
			close(l.queue[p][0])
			l.queue[p] = slices.Delete(l.queue[p], 0, 1)
			l.waiting.Add(-1)
		}
	}
}
