package control

import (
	"context"
	"sync"
	"time"
)

// queue hands out keys, each to one worker at a time. A key that is added while a worker has it is
// handed out again afterwards.
type queue[K comparable] struct {
	mu      sync.Mutex
	ready   []K
	state   map[K]keyState
	later   map[K]*time.Timer
	wakeAt  map[K]time.Time
	more    chan struct{} // holds a value while keys are ready
	stopped bool
}

type keyState int

const (
	queued keyState = iota + 1
	running
	runningAndQueued
)

func newQueue[K comparable]() *queue[K] {
	return &queue[K]{state: map[K]keyState{}, later: map[K]*time.Timer{}, wakeAt: map[K]time.Time{}, more: make(chan struct{}, 1)}
}

// add has the key handed out as soon as there is a worker.
func (q *queue[K]) add(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch q.state[key] {
	case 0:
		q.state[key] = queued
		q.ready = append(q.ready, key)
		q.poke()
	case running:
		q.state[key] = runningAndQueued
	case queued, runningAndQueued:
	}
}

// addAt adds the key then, unless it is to be added earlier anyway.
func (q *queue[K]) addAt(key K, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if before, waits := q.wakeAt[key]; q.stopped || waits && !at.Before(before) {
		return
	}
	if t := q.later[key]; t != nil {
		t.Stop()
	}
	q.wakeAt[key] = at
	q.later[key] = time.AfterFunc(time.Until(at), func() {
		q.mu.Lock()
		if q.wakeAt[key].Equal(at) {
			delete(q.wakeAt, key)
			delete(q.later, key)
		}
		q.mu.Unlock()
		q.add(key)
	})
}

func (q *queue[K]) poke() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// next waits for a key; ok is false when ctx ended.
func (q *queue[K]) next(ctx context.Context) (key K, ok bool) {
	for {
		select {
		case <-q.more:
		case <-ctx.Done():
			return key, false
		}
		q.mu.Lock()
		if len(q.ready) == 0 {
			q.mu.Unlock()
			continue
		}
		key = q.ready[0]
		q.ready = q.ready[1:]
		q.state[key] = running
		if len(q.ready) > 0 {
			q.poke()
		} else {
			q.ready = nil
		}
		q.mu.Unlock()
		return key, true
	}
}

// done gives a key back.
func (q *queue[K]) done(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state[key] == runningAndQueued {
		q.state[key] = queued
		q.ready = append(q.ready, key)
		q.poke()
		return
	}
	delete(q.state, key)
}

// stop drops what is to be added later.
func (q *queue[K]) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	for _, t := range q.later {
		t.Stop()
	}
	clear(q.later)
}
