package logs

import (
	"container/heap"
	"context"
	"errors"
	"os"
	"time"

	"github.com/marucloud/maru"
)

// reading is one query on its way.
type reading struct {
	logs    *Logs
	filter  filter
	q       maru.LogQuery
	yield   func(maru.LogEntry, error) bool
	stopped bool // the reader has had enough

	streams map[string]*stream // by folder
	ready   merge              // streams that stand at a record
	watch   *watch             // nil unless following
}

func (r *reading) close() {
	for _, s := range r.streams {
		s.release()
	}
	if r.watch != nil {
		r.watch.close()
	}
}

func (r *reading) run(ctx context.Context) error {
	if r.q.Follow && !r.q.Until.IsZero() {
		r.q.Follow = r.q.Until.After(time.Now())
	}
	if r.q.Follow {
		if err := os.MkdirAll(r.logs.root, 0o750); err != nil {
			return fault(err)
		}
		r.watch = r.logs.hub.watch()
	}
	places, err := r.places(r.logs.root, 0)
	if err != nil {
		return fault(err)
	}
	var fresh []*stream
	for _, p := range places {
		s := r.add(p)
		if cursor, ok := r.q.After[p.instance]; ok {
			if s.at, err = parseCursor(cursor); err != nil {
				return err
			}
			s.resumed = true
			continue
		}
		fresh = append(fresh, s)
	}
	if err := r.begin(ctx, fresh); err != nil {
		return err
	}
	for _, s := range r.streams {
		if err := r.park(s); err != nil {
			return fault(err)
		}
	}
	if err := r.emit(ctx); err != nil || !r.q.Follow || r.stopped {
		return err
	}
	if !r.q.Until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, r.q.Until.Add(time.Second), errors.New("the end of the query's time"))
		defer cancel()
	}
	return r.follow(ctx)
}

// places finds the logs below dir, and watches what is on the way.
func (r *reading) places(dir string, level int) ([]place, error) {
	var places []place
	err := r.filter.walk(r.logs.root, dir, level, func(dir string, level int) error {
		return r.observe(dir)
	}, func(p place) error {
		places = append(places, p)
		return r.observe(p.dir)
	})
	return places, err
}

// observe lets the watch tell of changes in dir, before it is read.
func (r *reading) observe(dir string) error {
	if r.watch == nil {
		return nil
	}
	return r.watch.add(dir)
}

func (r *reading) add(p place) *stream {
	s := &stream{place: p}
	r.streams[p.dir] = s
	return s
}

// begin puts streams without a cursor where the query says, and lets those of a query that does not
// follow end where they end now.
func (r *reading) begin(ctx context.Context, fresh []*stream) error {
	if !r.q.Follow {
		for _, s := range r.streams {
			end := &stream{place: s.place}
			if err := end.seekEnd(); err != nil {
				return fault(err)
			}
			end.release()
			s.end = &end.at
		}
	}
	switch {
	case r.q.Tail > 0:
		return r.tail(ctx, fresh)
	case r.q.Tail < 0:
		for _, s := range fresh {
			if err := s.seekEnd(); err != nil {
				return fault(err)
			}
			s.release()
		}
		return nil
	}
	for _, s := range fresh {
		if err := s.seekTime(r.filter.since); err != nil {
			return fault(err)
		}
		s.release()
	}
	return nil
}

// park stands the stream at its next record, by time alone, and closes it: it is opened again once it
// is its turn. A stream that has no more is left out.
func (r *reading) park(s *stream) error {
	at := s.at
	rec, ok, err := s.next()
	s.release()
	s.at = at
	if err != nil || !ok {
		return err
	}
	s.key, s.parked = later(s.key, rec.Time), true
	r.queue(s)
	return nil
}

func (r *reading) queue(s *stream) {
	s.queued = true
	heap.Push(&r.ready, s)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// advance stands the stream at its next record that matches; false when it has none, for now.
func (r *reading) advance(ctx context.Context, s *stream) (bool, error) {
	s.parked = false
	for n := 0; ; n++ {
		if n%1024 == 1023 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		rec, ok, err := s.next()
		if err != nil || !ok {
			return false, err
		}
		if r.filter.matches(rec, s.resumed) {
			s.key, s.record, s.after = later(s.key, rec.Time), rec, s.at
			return true, nil
		}
	}
}

// emit gives out the records of all streams, merged by time, until none has any.
func (r *reading) emit(ctx context.Context) error {
	for n := 0; r.ready.Len() > 0; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return interrupted(ctx)
		}
		s := r.ready.streams[0]
		if !s.parked && !r.yield(s.entry(), nil) {
			r.stopped = true
			return nil
		}
		ok, err := r.advance(ctx, s)
		switch {
		case ctx.Err() != nil:
			return interrupted(ctx)
		case err != nil:
			return fault(err)
		case ok:
			heap.Fix(&r.ready, 0)
		default:
			heap.Pop(&r.ready)
			s.queued = false
			if !r.q.Follow {
				s.release()
			}
		}
	}
	return nil
}

// fault is for what should not happen while reading files of our own.
func fault(err error) error {
	if maru.KindOf(err) != maru.Internal {
		return err
	}
	return maru.Errorf(maru.Internal, "read logs: %w", err)
}

func interrupted(ctx context.Context) error {
	return maru.Errorf(maru.Interrupted, "read logs: %w", context.Cause(ctx))
}
