package worker

import (
	"net/http"
	"sync"
	"time"
)

// idle tells when nothing was asked for some time.
type idle struct {
	after time.Duration
	mu    sync.Mutex
	busy  int
	timer *time.Timer
	done  chan struct{}
}

func newIdle(after time.Duration) *idle {
	i := &idle{after: after, done: make(chan struct{})}
	if after > 0 {
		i.timer = time.AfterFunc(after, i.expire)
	}
	return i
}

func (i *idle) expired() <-chan struct{} { return i.done }

func (i *idle) expire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.busy == 0 && i.timer != nil {
		i.timer = nil
		close(i.done)
	}
}

func (i *idle) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.add(1)
		defer i.add(-1)
		next.ServeHTTP(w, r)
	})
}

func (i *idle) add(n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.busy += n
	if i.timer == nil {
		return
	}
	if i.busy > 0 {
		i.timer.Stop()
	} else {
		i.timer.Reset(i.after)
	}
}
