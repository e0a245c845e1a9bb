// Package accesslog writes a line for each request, out of the ring of records: no request waits for it,
// and what it could not keep up with is counted and told.
package accesslog

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru/traffic/record"
)

const (
	batchAge  = 20 * time.Millisecond // how long lines gather
	batchMost = 256                   // lines that are written at once
	tellEvery = time.Second           // at most, that records were lost
)

// Format says how a record is written, without the end of its line.
type Format func(b []byte, r *record.Record) []byte

// Log writes lines. A nil Log does nothing.
type Log struct {
	out     io.Writer
	format  Format
	log     *slog.Logger
	reader  *record.Reader
	lines   []byte
	failing bool
	dropped atomic.Uint64
	told    uint64 // of the dropped
	last    time.Time
}

// New makes a log of the ring's records from now on that writes to out while Run runs. A nil out gives a
// nil Log; a nil format is [AppendJSON].
func New(out io.Writer, format Format, ring *record.Ring, log *slog.Logger) *Log {
	if out == nil {
		return nil
	}
	if format == nil {
		format = AppendJSON
	}
	return &Log{out: out, format: format, log: log, reader: ring.Reader()}
}

// Dropped is the number of records that the log could not keep up with so far.
func (l *Log) Dropped() uint64 {
	if l == nil {
		return 0
	}
	return l.dropped.Load()
}

// Run writes lines until ctx ends, and then those that wait.
func (l *Log) Run(ctx context.Context) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	defer l.reader.Close()
	for ctx.Err() == nil {
		l.reader.Wait(ctx, batchAge)
		for l.write() == batchMost {
		}
		l.tell()
	}
	return nil
}

// write writes a batch, and gives how many lines it has.
func (l *Log) write() int {
	l.lines = l.lines[:0]
	n, dropped := l.reader.Read(batchMost, func(r *record.Record) {
		l.lines = append(l.format(l.lines, r), '\n')
	})
	l.dropped.Add(dropped)
	if n == 0 {
		return 0
	}
	_, err := l.out.Write(l.lines)
	if err != nil && !l.failing {
		l.log.Error("access log can't be written", "error", err)
	}
	l.failing = err != nil
	return n
}

func (l *Log) tell() {
	if total := l.dropped.Load(); total > l.told && time.Since(l.last) >= tellEvery {
		l.log.Warn("requests are missing in the access log, which could not keep up", "count", total-l.told)
		l.told, l.last = total, time.Now()
	}
}
