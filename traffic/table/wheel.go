package table

import (
	"math/rand/v2"
	"sync"
)

const blockSize = 20

// wheel deals turns out by weight, exactly: of every 20 turns each share gets its part, rounded so
// that what a block gives too little or too much the next ones make up for. Within a block the order
// is random, so that no pattern of requests meets a pattern of turns.
type wheel struct {
	weights []int
	total   int

	mu    sync.Mutex
	owed  []int // what each share is to get yet, in parts of 1/total of a turn
	block [blockSize]uint16
	next  int
}

func newWheel(weights []int) *wheel {
	w := &wheel{weights: weights, owed: make([]int, len(weights)), next: blockSize}
	for _, n := range weights {
		w.total += n
	}
	return w
}

// turn gives the share whose turn it is.
func (w *wheel) turn() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == blockSize {
		w.deal()
		w.next = 0
	}
	i := w.block[w.next]
	w.next++
	return int(i)
}

func (w *wheel) deal() {
	n := 0
	for i, weight := range w.weights {
		w.owed[i] += blockSize * weight
		for ; w.owed[i] >= w.total && n < blockSize; n++ {
			w.block[n] = uint16(i)
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
		w.block[n] = uint16(most)
		w.owed[most] -= w.total
	}
	rand.Shuffle(blockSize, func(i, j int) { w.block[i], w.block[j] = w.block[j], w.block[i] })
}
