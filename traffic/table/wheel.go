package table

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// leastBlock is the fewest turns of a block.
const leastBlock = 20

// wheel deals turns out by weight, exactly: in each block of turns every share gets its part. A block is the
// shortest of at least 20 in which all parts are whole: at 5% each 20 turns have one, at 1% each 100. Within
// a block the order is random, so that no pattern of requests meets a pattern of turns. A lock is taken once
// a block.
type wheel struct {
	weights []int // that are left when their common factor is taken out
	size    int

	block atomic.Pointer[block]
	mu    sync.Mutex
}

type block struct {
	next  atomic.Uint32
	turns []uint16
}

func newWheel(weights []int) *wheel {
	common, total := 0, 0
	for _, n := range weights {
		for a, b := n, common; ; a, b = b, a%b {
			if b == 0 {
				common = a
				break
			}
		}
	}
	w := &wheel{weights: make([]int, len(weights))}
	for i, n := range weights {
		w.weights[i] = n / max(1, common)
		total += w.weights[i]
	}
	if total > 0 {
		w.size = total * ((leastBlock + total - 1) / total)
	}
	w.block.Store(w.deal(total))
	return w
}

// turn gives the share whose turn it is.
func (w *wheel) turn() int {
	for {
		b := w.block.Load()
		if i := b.next.Add(1) - 1; int(i) < len(b.turns) {
			return int(b.turns[i])
		}
		w.mu.Lock()
		if w.block.Load() == b {
			total := 0
			for _, n := range w.weights {
				total += n
			}
			w.block.Store(w.deal(total))
		}
		w.mu.Unlock()
	}
}

func (w *wheel) deal(total int) *block {
	b := &block{turns: make([]uint16, 0, w.size)}
	for i, weight := range w.weights {
		for range weight * (w.size / max(1, total)) {
			b.turns = append(b.turns, uint16(i)) //nolint:gosec // there are not so many releases
		}
	}
	rand.Shuffle(len(b.turns), func(i, j int) { b.turns[i], b.turns[j] = b.turns[j], b.turns[i] })
	return b
}
