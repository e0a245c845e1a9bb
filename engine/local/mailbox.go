package local

import "sync"

// mailbox carries messages to an actor. Posting never blocks.
type mailbox struct {
	mu      sync.Mutex
	queue   []func()
	arrived chan struct{}
}

func newMailbox() *mailbox { return &mailbox{arrived: make(chan struct{}, 1)} }

// post has the actor run the function.
func (m *mailbox) post(message func()) {
	m.mu.Lock()
	m.queue = append(m.queue, message)
	m.mu.Unlock()
	select {
	case m.arrived <- struct{}{}:
	default:
	}
}

// take gives what was posted.
func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue := m.queue
	m.queue = nil
	return queue
}
