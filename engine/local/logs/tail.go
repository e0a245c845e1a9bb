package logs

import (
	"container/heap"
	"context"
)

// tail stands the streams so that together they have the last records that match, as many as wanted.
func (r *reading) tail(ctx context.Context, fresh []*stream) error {
	back := merge{latestFirst: true}
	defer func() {
		for _, b := range back.streams {
			b.release()
		}
	}()
	forward := map[*stream]*stream{}
	for _, s := range fresh {
		b := &stream{place: s.place}
		if err := b.seekTime(r.filter.since); err != nil {
			return fault(err)
		}
		b.start = b.at
		if err := b.seekEnd(); err != nil {
			return fault(err)
		}
		if s.end != nil {
			b.at = *s.end
		}
		s.at, forward[b] = b.at, s
		if err := r.parkBack(b, &back); err != nil {
			return fault(err)
		}
	}
	for count := 0; count < r.q.Tail && back.Len() > 0; {
		b := back.streams[0]
		if !b.parked {
			forward[b].at = b.at
			count++
		}
		ok, err := r.advanceBack(ctx, b)
		switch {
		case ctx.Err() != nil:
			return interrupted(ctx)
		case err != nil:
			return fault(err)
		case ok:
			heap.Fix(&back, 0)
		default:
			heap.Pop(&back)
			b.release()
		}
	}
	return nil
}

// parkBack is what park is, backward.
func (r *reading) parkBack(b *stream, back *merge) error {
	b.release()
	at := b.at
	rec, ok, err := b.prev()
	b.release()
	b.at = at
	if err != nil || !ok {
		return err
	}
	b.key, b.parked = rec.Time, true
	heap.Push(back, b)
	return nil
}

// advanceBack stands the stream at the record before that matches; false when there is none.
func (r *reading) advanceBack(ctx context.Context, b *stream) (bool, error) {
	b.parked = false
	for n := 0; ; n++ {
		if n%1024 == 1023 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		rec, ok, err := b.prev()
		if err != nil || !ok || b.at.before(b.start) {
			return false, err
		}
		if r.filter.matches(rec, false) {
			if rec.Time.Before(b.key) {
				b.key = rec.Time
			}
			return true, nil
		}
	}
}
