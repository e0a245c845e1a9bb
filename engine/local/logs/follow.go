package logs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"
)

// follow gives out what comes, until ctx ends.
func (r *reading) follow(ctx context.Context) error {
	for {
		r.rest()
		changed, all := r.watch.wait(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if all {
			changed = []string{r.logs.root}
			for dir := range r.streams {
				changed = append(changed, dir)
			}
		}
		for _, dir := range changed {
			if err := r.changed(ctx, dir); err != nil {
				return err
			}
		}
		if err := r.emit(ctx); err != nil || r.stopped {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// changed looks at what is new in a folder: an instance's, or one above.
func (r *reading) changed(ctx context.Context, dir string) error {
	if s := r.streams[dir]; s != nil {
		return r.wake(ctx, s)
	}
	level := 0
	if rest, below := strings.CutPrefix(dir, r.logs.root+"/"); below {
		level = strings.Count(rest, "/") + 1
	}
	places, err := r.places(dir, level)
	if err != nil {
		return fault(err)
	}
	for _, p := range places {
		if s := r.streams[p.dir]; s != nil {
			if err := r.wake(ctx, s); err != nil {
				return err
			}
			continue
		}
		s := r.add(p)
		if cursor, ok := r.q.After[p.instance]; ok {
			if s.at, err = parseCursor(cursor); err != nil {
				return err
			}
			s.resumed = true
		} else if err := s.seekTime(r.filter.since); err != nil {
			return fault(err)
		}
		if err := r.wake(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// wake puts a stream that has more again among those to give out. It forgets one whose log is gone.
func (r *reading) wake(ctx context.Context, s *stream) error {
	if s.queued {
		return nil
	}
	ok, err := r.advance(ctx, s)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fault(err)
	case ok:
		r.queue(s)
	default:
		if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
			s.release()
			delete(r.streams, s.dir)
			r.watch.remove(s.dir)
		}
	}
	return nil
}

// restAfter is how long a log is held open that has nothing new.
const restAfter = time.Minute

// rest closes what had nothing new for a while.
func (r *reading) rest() {
	for _, s := range r.streams {
		if s.scan != nil && time.Since(s.key) > restAfter {
			s.release()
		}
	}
}
