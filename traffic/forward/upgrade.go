package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// switchProtocols passes on the agreement to speak another protocol, and carries that one until both
// sides are done.
func (x *exchange) switchProtocols(res *http.Response) error {
	to := ""
	if httpguts.HeaderValuesContainsToken(res.Header["Connection"], "Upgrade") {
		to = res.Header.Get("Upgrade")
	}
	service, ok := res.Body.(io.ReadWriteCloser)
	if !ok || x.upgrade == "" || !strings.EqualFold(to, x.upgrade) {
		res.Body.Close()
		return fmt.Errorf("%w: it switched to %q when %q was asked for", errAnswer, to, x.upgrade)
	}
	if x.clock != nil {
		x.clock.stop()
	}
	conn, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		service.Close()
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	x.entry.Status = res.StatusCode
	release := x.e.streams.add(func() { conn.Close(); service.Close() })
	defer release()
	h := make(http.Header, len(res.Header))
	copyAnswer(h, res.Header)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{to}
	head := &http.Response{StatusCode: res.StatusCode, ProtoMajor: 1, ProtoMinor: 1, Header: h}
	if err := errors.Join(head.Write(buffered), buffered.Flush()); err != nil {
		x.entry.Error = errClientGone.Error()
		conn.Close()
		service.Close()
		return nil
	}
	x.entry.In, x.entry.Out = carry(conn, buffered.Reader, service)
	return nil
}

// carry copies both ways until both have ended, or one has failed.
func carry(client net.Conn, fromClient io.Reader, service io.ReadWriteCloser) (in, out int64) {
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
