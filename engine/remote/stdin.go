package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"sync"
)

// stdinWindow is how much input may be under way to a command that does not read it. Because no more
// is sent, what else is sent to the command (sizes, the end of its caller) is never held up by it.
const stdinWindow = 256 << 10

// stdinQueue holds the input that the caller sent until the command reads it.
type stdinQueue struct {
	mu      sync.Mutex
	arrived sync.Cond
	content bytes.Buffer
	err     error // at the end of the content

	consumed func(n int) // is told what the command has read
}

func newStdinQueue(consumed func(n int)) *stdinQueue {
	q := &stdinQueue{consumed: consumed}
	q.arrived.L = &q.mu
	return q
}

// add takes input in. The error is of who sends more than the window lets him.
func (q *stdinQueue) add(input []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.content.Len()+len(input) > stdinWindow {
		return errFrame
	}
	if q.err == nil {
		q.content.Write(input)
		q.arrived.Signal()
	}
	return nil
}

// end has reads fail with err once all is read. The first end counts.
func (q *stdinQueue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	q.arrived.Broadcast()
}

// Read gives what has arrived, and waits if nothing has.
func (q *stdinQueue) Read(p []byte) (int, error) {
	n, err := q.next(p)
	if n > 0 {
		q.consumed(n)
	}
	return n, err
}

func (q *stdinQueue) next(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.content.Len() == 0 && q.err == nil {
		q.arrived.Wait()
	}
	if q.content.Len() == 0 {
		return 0, q.err
	}
	return q.content.Read(p)
}

// credit is the frame's payload that says how much more may be sent.
func credit(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// stdinSender sends input as far as the window lets it.
type stdinSender struct {
	out     *frames
	allowed chan int // more of the window
}

func newStdinSender(out *frames) *stdinSender {
	return &stdinSender{out: out, allowed: make(chan int, 1)}
}

// allow adds to the window. It never waits.
func (s *stdinSender) allow(payload []byte) {
	if len(payload) != 4 {
		return
	}
	more := int(binary.BigEndian.Uint32(payload))
	for {
		select {
		case s.allowed <- more:
			return
		case earlier := <-s.allowed:
			more += earlier
		}
	}
}

// run sends all of the input and that it has ended, until ctx ends.
func (s *stdinSender) run(ctx context.Context, stdin io.Reader) {
	window, buffer := stdinWindow, make([]byte, maxFrame)
	for {
		for window == 0 {
			select {
			case more := <-s.allowed:
				window += more
			case <-ctx.Done():
				return
			}
		}
		n, err := stdin.Read(buffer[:min(len(buffer), window)])
		if n > 0 && s.out.write(frameStdin, buffer[:n]) != nil {
			return
		}
		window -= n
		if err != nil {
			if err == io.EOF {
				_ = s.out.write(frameStdinEnd, nil) // the command may be over
			}
			return
		}
	}
}
