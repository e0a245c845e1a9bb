package forward

import (
	"io"
	"sync"
)

// leaveBytes is the most that one read gives.
const leaveBytes = 32 << 10

// leaver is a request body whose reader gets away when it is closed, also while the client sends nothing.
// When a connection ends, net/http's HTTP/2 fails its streams only after their bodies' readers have returned,
// and a client of a stream may wait for the answer before it sends more: both would wait for each other.
type leaver struct {
	body  io.ReadCloser
	data  []byte // of the read that is under way
	left  chan struct{}
	leave func()
}

func newLeaver(body io.ReadCloser) *leaver {
	l := &leaver{body: body, left: make(chan struct{})}
	l.leave = sync.OnceFunc(func() { close(l.left) })
	return l
}

// Read reads; it has one caller at a time. What comes after Close is not lost: body keeps it.
func (l *leaver) Read(p []byte) (int, error) {
	if len(l.data) < min(len(p), leaveBytes) {
		l.data = make([]byte, min(len(p), leaveBytes))
	}
	data := l.data[:min(len(p), len(l.data))]
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := l.body.Read(data)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return copy(p, data[:r.n]), r.err
	case <-l.left:
		l.data = nil // it is the other's now
		return 0, errBodyLeft
	}
}

// Close lets a reader go.
func (l *leaver) Close() error {
	err := l.body.Close()
	l.leave()
	return err
}
