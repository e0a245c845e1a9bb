// Package memory keeps objects in this process only. It is the whole contract of [maru.Store] but
// for durability, for tests and for simulating large installations.
package memory

import (
	"context"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/google/btree"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/changes"
)

// degree of the tree: nodes of a few cache lines.
const degree = 32

// Store is a [maru.Store] in memory.
type Store struct {
	feed *changes.Feed

	mu     sync.RWMutex
	tree   *btree.BTreeG[maru.Object] // by kind, then name
	head   maru.Revision
	closed bool
}

var _ maru.Store = (*Store)(nil)

// New makes an empty store.
func New() *Store {
	return &Store{feed: changes.NewFeed(0, changes.Limits{}), tree: btree.NewG(degree, less)}
}

func less(a, b maru.Object) bool {
	if a.Kind != b.Kind {
		return a.Kind < b.Kind
	}
	return a.Name < b.Name
}

// Close ends all watching. Later calls give Unavailable.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.feed.Close()
	return nil
}

func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return maru.Errorf(maru.Interrupted, "store: %w", context.Cause(ctx))
	}
	if s.closed {
		return changes.Closed()
	}
	return nil
}

// Get implements [maru.Store].
func (s *Store) Get(ctx context.Context, key maru.Key) (maru.Object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return maru.Object{}, err
	}
	object, ok := s.tree.Get(maru.Object{Key: key})
	if !ok {
		return maru.Object{}, changes.NotFound(key)
	}
	return object, nil
}

// List implements [maru.Store].
func (s *Store) List(ctx context.Context, kind, prefix string) ([]maru.Object, maru.Revision, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return nil, 0, err
	}
	var found []maru.Object
	s.tree.AscendGreaterOrEqual(maru.Object{Key: maru.Key{Kind: kind, Name: prefix}}, func(o maru.Object) bool {
		if o.Kind != kind || !strings.HasPrefix(o.Name, prefix) {
			return false
		}
		found = append(found, o)
		return true
	})
	return found, s.head, nil
}

// Commit implements [maru.Store].
func (s *Store) Commit(ctx context.Context, batch ...maru.Change) (maru.Revision, error) {
	if err := changes.Check(batch); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	present := make([]bool, len(batch))
	for i, c := range batch {
		object, ok := s.tree.Get(maru.Object{Key: c.Key})
		if err := changes.CheckExpect(c, object.Revision); err != nil {
			return 0, err
		}
		present[i] = ok
	}
	now := time.Now().UTC().Round(0)
	var events []maru.StoreEvent
	for i, c := range batch {
		if c.Data == nil && !present[i] {
			continue
		}
		s.head++
		object := maru.Object{Key: c.Key, Revision: s.head, Data: c.Data}
		if c.Data == nil {
			s.tree.Delete(object)
		} else {
			s.tree.ReplaceOrInsert(object)
		}
		events = append(events, maru.StoreEvent{Revision: s.head, Key: c.Key, Data: c.Data, At: now})
	}
	s.feed.Append(events)
	return s.head, nil
}

// Watch implements [maru.Store].
func (s *Store) Watch(ctx context.Context, from maru.Revision) iter.Seq2[maru.StoreEvent, error] {
	return s.feed.Watch(ctx, from, func(_ context.Context, at maru.Revision) ([]maru.StoreEvent, error) {
		_, base := s.feed.Events(at)
		return nil, changes.Compacted(at, base)
	})
}

// All gives every object as it was at one moment, sorted by kind and name, while the store is in use.
func (s *Store) All(ctx context.Context) iter.Seq2[maru.Object, error] {
	return func(yield func(maru.Object, error) bool) {
		s.mu.Lock() // Clone writes to the tree
		err := s.usable(ctx)
		snapshot := s.tree.Clone()
		s.mu.Unlock()
		if err != nil {
			yield(maru.Object{}, err)
			return
		}
		snapshot.Ascend(func(o maru.Object) bool {
			if err := ctx.Err(); err != nil {
				yield(maru.Object{}, maru.Errorf(maru.Interrupted, "store: %w", context.Cause(ctx)))
				return false
			}
			return yield(o, nil)
		})
	}
}

// Compact implements [maru.Store].
func (s *Store) Compact(ctx context.Context, before time.Time, keep int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	if keep < 0 {
		return maru.Errorf(maru.Invalid, "compact: keep the last %d changes", keep)
	}
	_, base := s.feed.Events(0)
	events, _ := s.feed.Events(base)
	for i := len(events) - 1 - keep; i >= 0; i-- {
		if events[i].At.Before(before) {
			s.feed.Forget(events[i].Revision)
			break
		}
	}
	return nil
}
