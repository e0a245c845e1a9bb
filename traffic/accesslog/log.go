// Package accesslog writes a line for each request without ever making one wait: entries go through
// a bounded queue to a single writer, and what does not fit is counted and told.
package accesslog

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	queueLength = 4096
	batchBytes  = 64 << 10
)

// Log takes entries from any goroutine. A nil Log takes and forgets them.
type Log struct {
	out     io.Writer
	log     *slog.Logger
	queue   chan *Entry
	dropped atomic.Uint64
	total   atomic.Uint64
	pool    sync.Pool
}

// New makes a log that writes to out while Run runs. A nil out gives a nil Log.
func New(out io.Writer, log *slog.Logger) *Log {
	if out == nil {
		return nil
	}
	return &Log{out: out, log: log, queue: make(chan *Entry, queueLength), pool: sync.Pool{New: func() any { return new(Entry) }}}
}

// Write queues the entry. It never blocks.
func (l *Log) Write(e Entry) {
	if l == nil {
		return
	}
	kept := l.pool.Get().(*Entry)
	*kept = e
	select {
	case l.queue <- kept:
	default:
		l.dropped.Add(1)
		l.total.Add(1)
		l.pool.Put(kept)
	}
}

// Dropped is the number of entries that did not fit so far.
func (l *Log) Dropped() uint64 {
	if l == nil {
		return 0
	}
	return l.total.Load()
}

// Run writes entries until ctx ends, and then those that are queued.
func (l *Log) Run(ctx context.Context) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	w := writer{l: l}
	for {
		select {
		case e := <-l.queue:
			w.batch(e)
		case <-ctx.Done():
			for {
				select {
				case e := <-l.queue:
					w.batch(e)
				default:
					return nil
				}
			}
		}
	}
}

// writer turns entries into lines. A failing output is told once, and again after it worked.
type writer struct {
	l       *Log
	buf     []byte
	failing bool
}

// batch writes e and what is queued behind it in one go.
func (w *writer) batch(e *Entry) {
	w.buf = w.buf[:0]
	for e != nil {
		w.buf = append(e.AppendJSON(w.buf), '\n')
		w.l.pool.Put(e)
		e = nil
		if len(w.buf) < batchBytes {
			select {
			case e = <-w.l.queue:
			default:
			}
		}
	}
	if n := w.l.dropped.Swap(0); n > 0 {
		w.buf = append(w.buf, `{"time":"`...)
		w.buf = time.Now().UTC().AppendFormat(w.buf, "2006-01-02T15:04:05.000000Z")
		w.buf = append(w.buf, `","dropped":`...)
		w.buf = strconv.AppendUint(w.buf, n, 10)
		w.buf = append(w.buf, "}\n"...)
	}
	_, err := w.l.out.Write(w.buf)
	if err != nil && !w.failing {
		w.l.log.Error("access log can't be written", "error", err)
	}
	w.failing = err != nil
}
