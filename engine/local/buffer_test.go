package local_test

import (
	"bytes"
	"strings"
	"sync"
)

// watchedBuffer is a buffer of which one can wait for content.
type watchedBuffer struct {
	mu      sync.Mutex
	content bytes.Buffer
	waiting map[string]chan struct{}
}

// newWatchedBuffer gives a buffer, and a function that gives a channel that is closed when a text is in it.
func newWatchedBuffer() (*watchedBuffer, func(text string) <-chan struct{}) {
	b := &watchedBuffer{waiting: make(map[string]chan struct{})}
	return b, func(text string) <-chan struct{} {
		b.mu.Lock()
		defer b.mu.Unlock()
		seen := make(chan struct{})
		b.waiting[text] = seen
		b.check()
		return seen
	}
}

func (b *watchedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.content.Write(p)
	b.check()
	return len(p), nil
}

func (b *watchedBuffer) check() {
	for text, seen := range b.waiting {
		if strings.Contains(b.content.String(), text) {
			close(seen)
			delete(b.waiting, text)
		}
	}
}

func (b *watchedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}
