// Package logs keeps what instances wrote, also when they are gone, and reads it: merged by time,
// filtered, from the end, followed live, and gone on with exactly where an earlier query ended.
//
// Each instance's shim writes its own log by package segment; nobody is between an instance and the
// disk. This package runs in the engine's process and only reads the segments, compresses those
// that are complete, and removes the oldest.
package logs

import (
	"context"
	"iter"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/marucloud/maru"
)

// Config is the tuning of Logs. The zero value is the default.
type Config struct {
	MaxAge   time.Duration // segments whose last record is older are removed; default 30 days; <0: never
	MaxBytes int64         // of all logs on the disk; default 4 GiB; <0: no limit
	Interval time.Duration // between passes of compression and retention; default 30 s
}

func (c Config) withDefaults() Config {
	if c.MaxAge == 0 {
		c.MaxAge = 30 * 24 * time.Hour
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 4 << 30
	}
	if c.Interval <= 0 {
		c.Interval = 30 * time.Second
	}
	return c
}

// Logs are the logs of one engine's instances. It is a [maru.Logs]. Methods are safe for concurrent use.
type Logs struct {
	root string
	cfg  Config
	log  *slog.Logger
	hub  *hub
}

// New gives the logs under root, which is layout.Layout.LogData.
func New(root string, cfg Config, log *slog.Logger) *Logs {
	return &Logs{root: root, cfg: cfg.withDefaults(), log: log, hub: newHub()}
}

// Dir is the folder of an instance's log, for segment.NewWriter.
func (l *Logs) Dir(w maru.WorkloadID, instance string) string {
	return filepath.Join(l.root, w.Project, w.Environment, w.App, w.Service, w.Name, instance)
}

// Logs yields matching entries as [maru.Logs] says. Entries of one instance come in the order in which
// they were written, those of several are merged by time. An instance that q.After names goes on
// there, whatever q.Since and q.Tail say; a cursor into what was removed goes on with what came after
// it. Without q.Follow it ends with what was there when it began.
func (l *Logs) Logs(ctx context.Context, q maru.LogQuery) iter.Seq2[maru.LogEntry, error] {
	return func(yield func(maru.LogEntry, error) bool) {
		f, err := newFilter(q)
		if err != nil {
			yield(maru.LogEntry{}, err)
			return
		}
		r := &reading{logs: l, filter: f, q: q, yield: yield, streams: map[string]*stream{}}
		defer r.close()
		if err := r.run(ctx); err != nil && !r.stopped {
			yield(maru.LogEntry{}, err)
		}
	}
}

var _ maru.Logs = (*Logs)(nil)

// LastLines gives the last lines of one attempt of an instance, oldest first, for maru.Exit. It is
// empty when there are none.
func (l *Logs) LastLines(w maru.WorkloadID, instance string, attempt, n int) ([]string, error) {
	s := &stream{place: place{workload: w, instance: instance, dir: l.Dir(w, instance)}}
	defer s.release()
	if err := s.seekEnd(); err != nil {
		return nil, maru.Errorf(maru.Internal, "last lines of %s: %w", instance, err)
	}
	var lines []string
	for len(lines) < n {
		rec, ok, err := s.prev()
		if err != nil {
			return nil, maru.Errorf(maru.Internal, "last lines of %s: %w", instance, err)
		}
		if !ok || s.at.Attempt < attempt {
			break
		}
		if s.at.Attempt == attempt {
			lines = append(lines, string(rec.Line))
		}
	}
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return lines, nil
}
