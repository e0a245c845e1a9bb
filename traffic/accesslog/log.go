// Package accesslog writes a line for each request without ever making one wait: lines gather in
// memory until a single writer takes them, many at once, and what does not fit is counted and told.
package accesslog

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
)

const (
	// mostBytes bounds the lines that wait for the writer.
	mostBytes = 1 << 20
	// A batch is written when it has that many bytes, or is that old.
	batchBytes = 64 << 10
	batchAge   = 20 * time.Millisecond
)

// Log takes entries from any goroutine. A nil Log takes and forgets them.
type Log struct {
	out   io.Writer
	log   *slog.Logger
	lines sync.Pool // of *[]byte, to write one line to

	mu      sync.Mutex
	batch   []byte
	dropped uint64 // since that was last told
	total   uint64
	some    chan struct{} // there is something to write
	much    chan struct{} // there is a batch
}

// New makes a log that writes to out while Run runs. A nil out gives a nil Log.
func New(out io.Writer, log *slog.Logger) *Log {
	if out == nil {
		return nil
	}
	return &Log{
		out: out, log: log, lines: sync.Pool{New: func() any { return new([]byte) }},
		some: make(chan struct{}, 1), much: make(chan struct{}, 1),
	}
}

// Write takes the entry, which is the caller's again when it returns. It never waits for the output.
func (l *Log) Write(e *Entry) {
	if l == nil {
		return
	}
	line := l.lines.Get().(*[]byte)
	*line = append(e.AppendJSON((*line)[:0]), '\n')
	l.mu.Lock()
	before := len(l.batch)
	if before+len(*line) > mostBytes {
		l.dropped++
		l.total++
	} else {
		l.batch = append(l.batch, *line...)
	}
	after := len(l.batch)
	l.mu.Unlock()
	l.lines.Put(line)
	if before == 0 {
		tell(l.some)
	}
	if before < batchBytes && after >= batchBytes {
		tell(l.much)
	}
}

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Dropped is the number of entries that did not fit so far.
func (l *Log) Dropped() uint64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Run writes entries until ctx ends, and then those that wait.
func (l *Log) Run(ctx context.Context) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	w := writer{l: l}
	for {
		select {
		case <-l.some:
		case <-ctx.Done():
			w.write()
			return nil
		}
		timer := time.NewTimer(batchAge)
		select {
		case <-timer.C:
		case <-l.much:
		case <-ctx.Done():
		}
		timer.Stop()
		w.write()
	}
}

// take gives the lines that wait, and has further ones gather in spare.
func (l *Log) take(spare []byte) (lines []byte, dropped uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, dropped = l.batch, l.dropped
	l.batch, l.dropped = spare[:0], 0
	select {
	case <-l.much:
	default:
	}
	return lines, dropped
}

// writer writes batches. A failing output is told once, and again after it worked.
type writer struct {
	l       *Log
	spare   []byte
	failing bool
}

func (w *writer) write() {
	lines, dropped := w.l.take(w.spare)
	if dropped > 0 {
		lines = append(lines, `{"time":"`...)
		lines = time.Now().UTC().AppendFormat(lines, "2006-01-02T15:04:05.000000Z")
		lines = append(lines, `","dropped":`...)
		lines = strconv.AppendUint(lines, dropped, 10)
		lines = append(lines, "}\n"...)
	}
	if len(lines) > 0 {
		_, err := w.l.out.Write(lines)
		if err != nil && !w.failing {
			w.l.log.Error("access log can't be written", "error", err)
		}
		w.failing = err != nil
	}
	w.spare = nil
	if cap(lines) <= 2*batchBytes {
		w.spare = lines
	}
}
