package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/marucloud/maru/traffic/message"
)

// streamBuffer is for what stays open for long and mostly says nothing.
const streamBuffer = 4 << 10

// switchProtocols passes on the agreement to speak another protocol, and carries that one until both
// sides are done.
func (x *exchange) switchProtocols(res *message.Response) error {
	service := res.Switched()
	to := ""
	if res.Header.HasToken("Connection", "Upgrade") {
		to = res.Header.Get("Upgrade")
	}
	if x.upgrade == "" || !message.Equal(to, x.upgrade) {
		service.Close()
		return fmt.Errorf("%w: it switched to %q when %q was asked for", errAnswer, to, x.upgrade)
	}
	if x.clock != nil {
		x.clock.stop()
	}
	x.entry.Status = res.Status
	x.judged() // its end may be far
	x.watchStream()
	h := copyAnswer(x.answer.Header[:0], res.Header)
	h.Add("Connection", "Upgrade")
	h.Add("Upgrade", to)
	x.answer.Header = h
	conn, client, err := x.c.Switch(h)
	if err != nil {
		service.Close()
		x.entry.Error = errClientGone.Error()
		x.cut = true
		return nil //nolint:nilerr // the client's is the only side that could be told
	}
	release := x.e.streams.add(func() { conn.Close(); service.Close() })
	defer release()
	x.entry.In, x.entry.Out = carry(conn, client, service)
	return nil
}

// carry copies both ways until both have ended, or one has failed.
func carry(client net.Conn, fromClient io.Reader, service net.Conn) (in, out int64) {
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		in, err = pump(service, fromClient)
		end(service, err)
		if err != nil {
			client.Close()
		}
	})
	var err error
	out, err = pump(client, service)
	end(client, err)
	if err != nil {
		service.Close()
	}
	wg.Wait()
	client.Close()
	service.Close()
	return in, out
}

// end passes on that a side sends no more. Who can't end half of a connection ends all of it.
func end(to io.Closer, err error) {
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
	}
}

func pump(to io.Writer, from io.Reader) (int64, error) {
	buf := make([]byte, streamBuffer)
	var sum int64
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return sum, werr
			}
			sum += int64(n)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return sum, err
		}
	}
}

// streams are the upgraded connections, which an HTTP server does not know any more.
type streams struct {
	mu    sync.Mutex
	next  int
	open  map[int]func()
	empty chan struct{}
}

func (s *streams) add(cut func()) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[int]func(){}
	}
	id := s.next
	s.next++
	s.open[id] = cut
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, id)
		if len(s.open) == 0 && s.empty != nil {
			close(s.empty)
			s.empty = nil
		}
	}
}

func (s *streams) drain(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		if len(s.open) == 0 {
			s.mu.Unlock()
			return
		}
		if s.empty == nil {
			s.empty = make(chan struct{})
		}
		empty := s.empty
		s.mu.Unlock()
		select {
		case <-empty:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cut := range s.open {
		cut()
	}
}
