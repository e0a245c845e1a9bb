package table

import (
	"hash/maphash"
	"sync"
)

const shardCount = 64

// index is a map for many readers and one writer. Values are immutable once stored.
type index[K comparable, V any] struct {
	seed   maphash.Seed
	shards [shardCount]struct {
		sync.RWMutex
		values map[K]V
	}
}

func newIndex[K comparable, V any]() *index[K, V] {
	return &index[K, V]{seed: maphash.MakeSeed()}
}

func (x *index[K, V]) get(k K) (V, bool) {
	s := &x.shards[maphash.Comparable(x.seed, k)%shardCount]
	s.RLock()
	v, ok := s.values[k]
	s.RUnlock()
	return v, ok
}

// change replaces the value of k by what f makes of it; keep false removes it.
func (x *index[K, V]) change(k K, f func(V, bool) (v V, keep bool)) {
	s := &x.shards[maphash.Comparable(x.seed, k)%shardCount]
	s.Lock()
	defer s.Unlock()
	old, ok := s.values[k]
	v, keep := f(old, ok)
	switch {
	case keep && s.values == nil:
		s.values = map[K]V{k: v}
	case keep:
		s.values[k] = v
	case ok:
		delete(s.values, k)
	}
}

func (x *index[K, V]) set(k K, v V) {
	x.change(k, func(V, bool) (V, bool) { return v, true })
}

// each gives a moment's values, shard by shard.
func (x *index[K, V]) each(yield func(K, V) bool) {
	type pair struct {
		k K
		v V
	}
	var pairs []pair
	for i := range x.shards {
		s := &x.shards[i]
		s.RLock()
		pairs = pairs[:0]
		for k, v := range s.values {
			pairs = append(pairs, pair{k, v})
		}
		s.RUnlock()
		for _, p := range pairs {
			if !yield(p.k, p.v) {
				return
			}
		}
	}
}
