package http2

import (
	"sync"
	"time"
)

// task is something to do in a goroutine of its own.
type task interface{ do() }

// trimAfter is how long goroutines are kept that nothing needed.
const trimAfter = 10 * time.Second

// workers are goroutines that live on when their task is done: the stack of one has grown to what a
// request needs, and the one used last has it in the processor's cache.
type workers struct {
	mu     sync.Mutex
	idle   []*worker // the one used last is last
	least  int       // that were idle since the last trim
	timer  *time.Timer
	closed bool
}

type worker struct{ tasks chan task }

// run has a worker do it.
func (w *workers) run(t task) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		x := w.idle[n-1]
		w.idle[n-1] = nil
		w.idle = w.idle[:n-1]
		w.least = min(w.least, n-1)
		w.mu.Unlock()
		x.tasks <- t
		return
	}
	w.mu.Unlock()
	go w.work(&worker{make(chan task, 1)}, t)
}

func (w *workers) work(x *worker, t task) {
	for t != nil {
		t.do()
		if !w.rest(x) {
			return
		}
		t = <-x.tasks
	}
}

// rest has the worker wait for a task; false when none will come.
func (w *workers) rest(x *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.idle = append(w.idle, x)
	if len(w.idle) == 1 {
		w.least = 0
		if w.timer == nil {
			w.timer = time.AfterFunc(trimAfter, w.trim)
		}
	}
	return true
}

// trim ends those that nothing needed since the last time.
func (w *workers) trim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.idle[:w.least] {
		close(x.tasks)
	}
	kept := copy(w.idle, w.idle[w.least:])
	clear(w.idle[kept:])
	w.idle = w.idle[:kept]
	if w.least = kept; kept > 0 && !w.closed {
		w.timer.Reset(trimAfter)
	} else {
		w.timer = nil
	}
}

// close ends all that are idle, now and from here on.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, x := range w.idle {
		close(x.tasks)
	}
	w.idle, w.least = nil, 0
	if w.timer != nil {
		w.timer.Stop()
	}
}
