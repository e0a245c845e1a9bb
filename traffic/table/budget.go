package table

import (
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds how many requests are sent a second time, so that retries never multiply the load on
// a service that is failing: a fifth of its requests, and ten a second besides, saved up to a hundred.
type Budget struct {
	requests atomic.Uint64

	mu     sync.Mutex
	tokens float64
	at     time.Time
	seen   uint64
}

const (
	budgetShare = 0.2
	budgetRate  = 10.0
	budgetMost  = 100.0
)

// Request counts a request that may be tried again.
func (b *Budget) Request() { b.requests.Add(1) }

// Spend tells whether one more retry is within the budget, and takes it.
func (b *Budget) Spend(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	requests := b.requests.Load()
	if b.at.IsZero() {
		b.tokens = budgetMost
	} else {
		b.tokens += now.Sub(b.at).Seconds()*budgetRate + float64(requests-b.seen)*budgetShare
	}
	b.at, b.seen = now, requests
	b.tokens = min(b.tokens, budgetMost)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
