package record

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultSize of a ring: a reader may be 40 ms behind 100,000 requests a second.
const DefaultSize = 4096

// Ring holds the youngest records. It is for many goroutines. A nil Ring takes and forgets them.
type Ring struct {
	slots []slot
	next  atomic.Uint64 // number of the next record; its place is that modulo the size
	calls atomic.Bool   // a reader waits for the next record

	mu      sync.Mutex
	readers []*Reader
}

type slot struct {
	mu     sync.Mutex
	number uint64 // of the record here, counted from 1; 0: none yet
	text   []byte
	record Record
	missed atomic.Uint64 // number of a record that came while a reader was here
}

// NewRing makes a ring; its size is a power of 2, 0: [DefaultSize].
func NewRing(size int) *Ring {
	if size == 0 {
		size = DefaultSize
	}
	return &Ring{slots: make([]slot, size)}
}

// Put keeps a copy of the record. It never waits for a reader: a record whose place is being read is
// lost to all.
func (r *Ring) Put(rec *Record) {
	if r == nil {
		return
	}
	n := r.next.Add(1)
	s := r.at(n)
	if s.mu.TryLock() {
		s.put(n, rec)
		s.mu.Unlock()
	} else {
		s.missed.Store(n)
	}
	if r.calls.Load() && r.calls.CompareAndSwap(true, false) {
		r.tell(func(reader *Reader) chan struct{} { return reader.some })
	}
	if n%uint64(len(r.slots)/4) == 0 {
		r.tell(func(reader *Reader) chan struct{} { return reader.much })
	}
}

func (s *slot) put(n uint64, rec *Record) {
	if n < s.number {
		return // it took so long that the ring went round meanwhile
	}
	s.record, s.number = *rec, n
	s.text = s.record.settle(s.text)
}

func (r *Ring) at(n uint64) *slot { return &r.slots[n&uint64(len(r.slots)-1)] }

func (r *Ring) tell(which func(*Reader) chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, reader := range r.readers {
		select {
		case which(reader) <- struct{}{}:
		default:
		}
	}
}

// Reader reads a ring's records in their order. It is for one goroutine.
type Reader struct {
	ring *Ring
	next uint64
	some chan struct{} // there is a record
	much chan struct{} // a quarter of the ring is new
}

// Reader gives a reader of the records from now on. Close it when done.
func (r *Ring) Reader() *Reader {
	reader := &Reader{ring: r, next: r.next.Load() + 1, some: make(chan struct{}, 1), much: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers = append(r.readers, reader)
	return reader
}

// Close has the ring forget the reader.
func (r *Reader) Close() {
	r.ring.mu.Lock()
	defer r.ring.mu.Unlock()
	r.ring.readers = slices.DeleteFunc(r.ring.readers, func(other *Reader) bool { return other == r })
}

// Wait returns when there is a record to read and then, if many more don't come first, the time gather
// has gone by; or when ctx ends.
func (r *Reader) Wait(ctx context.Context, gather time.Duration) {
	select {
	case <-r.much:
	default:
	}
	for r.ring.next.Load() < r.next {
		r.ring.calls.Store(true)
		if r.ring.next.Load() >= r.next {
			break
		}
		select {
		case <-r.some:
		case <-ctx.Done():
			return
		}
	}
	timer := time.NewTimer(gather)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.much:
	case <-ctx.Done():
	}
}

// Read shows at most that many records in their order, and tells how many those were and how many were
// lost since the last time. A record is good until visit returns.
func (r *Reader) Read(most int, visit func(*Record)) (shown int, lost uint64) {
	size := uint64(len(r.ring.slots))
	for shown < most {
		last := r.ring.next.Load()
		if r.next > last {
			break
		}
		if oldest := last + 1 - min(size, last); r.next < oldest {
			lost += oldest - r.next
			r.next = oldest
		}
		switch r.ring.at(r.next).read(r.next, visit) {
		case isRead:
			shown++
		case isLost:
			lost++
		case isBeingWritten:
			return shown, lost
		}
		r.next++
	}
	return shown, lost
}

type found int

const (
	isRead found = iota
	isLost
	isBeingWritten
)

func (s *slot) read(n uint64, visit func(*Record)) found {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.number == n:
		visit(&s.record)
		return isRead
	case s.number > n || s.missed.Load() >= n:
		return isLost
	}
	return isBeingWritten
}
