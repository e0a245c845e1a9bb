package table

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

const blockSize = 20

// wheel deals turns out by weight, exactly: of every 20 turns each share gets its part, rounded so
// that what a block gives too little or too much the next ones make up for. Within a block the order
// is random, so that no pattern of requests meets a pattern of turns. A lock is taken once a block.
type wheel struct {
	weights []int
	total   int

	block atomic.Pointer[block]
	mu    sync.Mutex
	owed  []int // what each share is to get yet, in parts of 1/total of a turn
}

type block struct {
	next  atomic.Uint32
	turns [blockSize]uint16
}

func newWheel(weights []int) *wheel {
	w := &wheel{weights: weights, owed: make([]int, len(weights))}
	for _, n := range weights {
		w.total += n
	}
	w.block.Store(w.deal())
	return w
}

// turn gives the share whose turn it is.
func (w *wheel) turn() int {
	for {
		b := w.block.Load()
		if i := b.next.Add(1) - 1; i < blockSize {
			return int(b.turns[i])
		}
		w.mu.Lock()
		if w.block.Load() == b {
			w.block.Store(w.deal())
		}
		w.mu.Unlock()
	}
}

func (w *wheel) deal() *block {
	b := &block{}
	n := 0
	for i, weight := range w.weights {
		w.owed[i] += blockSize * weight
		for ; w.owed[i] >= w.total && n < blockSize; n++ {
			b.turns[n] = uint16(i)
			w.owed[i] -= w.total
		}
	}
	for ; n < blockSize; n++ {
		most := 0
		for i := range w.owed {
			if w.owed[i] > w.owed[most] {
				most = i
			}
		}
		b.turns[n] = uint16(most)
		w.owed[most] -= w.total
	}
	rand.Shuffle(blockSize, func(i, j int) { b.turns[i], b.turns[j] = b.turns[j], b.turns[i] })
	return b
}
