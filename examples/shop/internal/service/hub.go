package service

import "sync"

// Hub passes events on to everybody who listens.
type Hub struct {
	mu        sync.Mutex
	listeners map[chan Event]bool
}

// NewHub gives a hub without listeners.
func NewHub() *Hub { return &Hub{listeners: map[chan Event]bool{}} }

// Publish gives the event to all listeners. One who does not read is let go: it comes back by itself.
func (h *Hub) Publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		select {
		case l <- e:
		default:
			delete(h.listeners, l)
			close(l)
		}
	}
}

// Join gives the events from now on, until leave is called.
func (h *Hub) Join() (events <-chan Event, leave func()) {
	l := make(chan Event, 64)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners[l] = true
	return l, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, l)
	}
}
