package changes

import (
	"context"
	"iter"
	"sync"

	"github.com/marucloud/maru"
)

// Limits bound what a feed keeps. Zero means no bound.
type Limits struct {
	Events int
	Bytes  int // of data
}

// Feed leads committed changes to watchers, in order and at once, from memory. It may keep only the
// latest; watchers that are further behind read older ones from the store.
type Feed struct {
	limits Limits

	mu      sync.Mutex
	base    maru.Revision     // before events[0]
	events  []maru.StoreEvent // appended only; forgetting makes a new slice, so that watchers can hold parts
	bytes   int
	changed chan struct{} // closed at the next change
	closed  bool
}

// NewFeed makes a feed for a store whose last change is head.
func NewFeed(head maru.Revision, limits Limits) *Feed {
	return &Feed{limits: limits, base: head, changed: make(chan struct{})}
}

// Head is the revision of the last change.
func (f *Feed) Head() maru.Revision {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head()
}

func (f *Feed) head() maru.Revision { return f.base + maru.Revision(len(f.events)) }

// Append adds changes that are committed. Their revisions follow Head without a gap.
func (f *Feed) Append(events []maru.StoreEvent) {
	if len(events) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, events...)
	for _, e := range events {
		f.bytes += len(e.Data)
	}
	if f.limits.Events > 0 && len(f.events) > f.limits.Events || f.limits.Bytes > 0 && f.bytes > f.limits.Bytes {
		f.trim()
	}
	f.wake()
}

// trim halves what is kept, so that its cost is spread over many appends.
func (f *Feed) trim() {
	keep, bytes := 0, 0
	for keep < len(f.events) {
		size := len(f.events[len(f.events)-1-keep].Data)
		if f.limits.Events > 0 && keep+1 > f.limits.Events/2 || f.limits.Bytes > 0 && bytes+size > f.limits.Bytes/2 {
			break
		}
		keep++
		bytes += size
	}
	f.forget(len(f.events) - keep)
}

func (f *Feed) forget(n int) {
	f.base += maru.Revision(n)
	f.events = append([]maru.StoreEvent(nil), f.events[n:]...)
	f.bytes = 0
	for _, e := range f.events {
		f.bytes += len(e.Data)
	}
}

func (f *Feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Forget drops the changes up to and with upTo.
func (f *Feed) Forget(upTo maru.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := int(min(upTo, f.head()) - f.base); n > 0 {
		f.forget(n)
	}
}

// Events gives what is kept after from, and the revision before the oldest change kept. The slice is
// not written to afterwards.
func (f *Feed) Events(from maru.Revision) (events []maru.StoreEvent, base maru.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if from < f.base || from > f.head() {
		return nil, f.base
	}
	n := len(f.events)
	return f.events[from-f.base : n : n], f.base
}

// Close ends all watching.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.wake()
	}
}

// step gives the next changes after from, or what to wait for.
func (f *Feed) step(from maru.Revision) (events []maru.StoreEvent, covered bool, changed <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, false, nil, Closed()
	case from > f.head():
		return nil, false, nil, maru.Errorf(maru.Exhausted, "revision %d is ahead of the store's, %d", from, f.head())
	case from < f.base:
		return nil, false, nil, nil
	}
	n := len(f.events)
	return f.events[from-f.base : n : n], true, f.changed, nil
}

// Older reads a number of changes after from that the feed has forgotten, at least one, in order. Its
// error ends the watching; that for changes which are gone is Compacted.
type Older func(ctx context.Context, from maru.Revision) ([]maru.StoreEvent, error)

// Watch gives every change after from, as the contract of [maru.Store] says.
func (f *Feed) Watch(ctx context.Context, from maru.Revision, older Older) iter.Seq2[maru.StoreEvent, error] {
	return func(yield func(maru.StoreEvent, error) bool) {
		at := from
		if at < 0 {
			yield(maru.StoreEvent{}, maru.Errorf(maru.Invalid, "watch from revision %d", at))
			return
		}
		for ctx.Err() == nil {
			events, covered, changed, err := f.step(at)
			if err == nil && !covered {
				events, err = older(ctx, at)
			}
			if err != nil {
				if ctx.Err() == nil {
					yield(maru.StoreEvent{}, err)
				}
				return
			}
			for _, e := range events {
				if ctx.Err() != nil || !yield(e, nil) {
					return
				}
				at = e.Revision
			}
			if len(events) == 0 {
				select {
				case <-changed:
				case <-ctx.Done():
				}
			}
		}
	}
}
