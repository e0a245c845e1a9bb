package http2

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/marucloud/maru/traffic/message"
)

// stream is a request with its answer. It is used again for another one afterwards. The connection's lock has
// all of it but the request, which is its handler's.
type stream struct {
	c    *conn
	id   uint32
	req  message.Request
	wake sync.Cond // something changed that somebody may wait for

	over   bool // nothing is sent or taken any more
	orphan bool // it was reset while its request runs

	body   body
	answer answer

	ctx    context.Context //nolint:containedctx // of one request, and its end
	cancel context.CancelFunc
}

var streamPool = sync.Pool{New: func() any {
	s := new(stream)
	s.body.s = s
	return s
}}

var errPanic = errors.New("the handler failed")

// open makes a stream for the next request. The lock is not held.
func (c *conn) open(id uint32) *stream {
	s := streamPool.Get().(*stream) //nolint:forcetypeassert // its New gives nothing else
	s.c, s.id, s.wake.L = c, id, &c.mu
	r := &s.req
	r.Scheme, r.TLS, r.Client, r.Name, r.Origin = c.scheme, c.tls, c.client, c.name, c.origin
	return s
}

// do answers the request.
func (s *stream) do() { s.finish(s.serve()) }

func (s *stream) serve() (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.c.s.log.Error("request failed by a fault of Maru", "panic", p, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return s.c.s.cfg.Handler.Serve(s, &s.req)
}

// finish ends an exchange. What was not ended properly is reset, so that the client does not take it for whole.
func (s *stream) finish(err error) {
	c := s.c
	c.mu.Lock()
	if !s.over {
		code := InternalError
		if err == nil && s.answer.ended {
			code = NoError
		}
		c.reset(s, code)
	}
	if s.cancel != nil {
		s.cancel()
	}
	c.credit(s.body.fail(errCut))
	c.flush(true)
	if s.orphan {
		c.orphans--
	}
	c.running--
	if c.running == 0 && c.goaway == departed {
		c.rouse()
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	s.recycle()
}

// recycle keeps the stream's memory for another one.
func (s *stream) recycle() {
	if s.answer.switched {
		return // who carries the other protocol may still have it
	}
	clear(s.req.Header)
	clear(s.body.trailer)
	*s = stream{
		req:  message.Request{Header: s.req.Header[:0]},
		body: body{s: s, chunks: s.body.chunks[:0], trailer: s.body.trailer[:0]},
	}
	streamPool.Put(s)
}

// Context ends when the client resets the stream or goes away.
func (s *stream) Context() context.Context {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(context.Background())
		if s.over && !s.answer.ended {
			s.cancel()
		}
	}
	return s.ctx
}

// reset ends a stream of which the other side may not have seen the end, and tells it why. The lock is held.
func (c *conn) reset(s *stream, code Code) {
	c.append(func(b []byte) []byte { return appendReset(b, s.id, code) })
	c.ended.add(s.id)
	c.abandon(s, !s.answer.ended)
}

// abandon ends a stream; early tells that its request has no whole answer. The lock is held.
func (c *conn) abandon(s *stream, early bool) {
	s.over = true
	c.streams.remove(s)
	c.credit(s.body.fail(errReset))
	if early {
		s.orphan = true
		c.orphans++
		if s.cancel != nil {
			s.cancel()
		}
	}
}

// stalled tells whether the client holds the stream up since a moment that is too long ago.
func (s *stream) stalled(before time.Time) bool {
	return !s.answer.since.IsZero() && s.answer.since.Before(before) || !s.body.since.IsZero() && s.body.since.Before(before)
}
