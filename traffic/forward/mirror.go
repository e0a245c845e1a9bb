package forward

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/table"
)

const (
	mostMirrors   = 64               // copies under way at once; more are not made
	mirrorTimeout = 10 * time.Second // for one copy
	mirrorAnswer  = 1 << 20          // bytes of an answer that are read
)

// mirror sends a copy of the request to the new release, if there is room. Its answer is thrown away, and the
// request knows nothing of it.
func (x *exchange) mirror() {
	select {
	case x.e.mirrors <- struct{}{}:
	default:
		x.trial.Weight = 0 // only what both had is compared
		return
	}
	ep := x.call.Service.Side(true, x.picked.UnixNano())
	if ep == nil {
		<-x.e.mirrors
		x.trial.Weight = 0
		return
	}
	x.prepare()
	c := shadow{e: x.e, ep: ep, port: x.call.Port, http2: x.overHTTP2(), split: x.trial.split, began: x.picked, evidence: maru.EvidenceRecord{New: true, Weight: 0.5}}
	c.out = http1.Outgoing{
		Now: x.picked, Method: strings.Clone(x.out.Method), Target: strings.Clone(x.out.Target), Host: strings.Clone(x.out.Host),
		Header: slices.Clone(x.out.Header), Hurry: true, Interim: func(int, message.Header) error { return nil },
	}
	for i, f := range c.out.Header {
		c.out.Header[i] = message.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)}
	}
	go func() {
		defer func() { <-c.e.mirrors }()
		c.run()
	}()
}

// shadow is a copy of a request, with nothing of the request's memory in it.
type shadow struct {
	e        *Engine
	ep       *table.Endpoint
	port     uint16
	http2    bool
	split    *maru.Split
	began    time.Time
	out      http1.Outgoing
	evidence maru.EvidenceRecord // that there will be, but for how it went
}

func (c *shadow) run() {
	defer c.ep.Done()
	ctx, cancel := context.WithTimeoutCause(context.Background(), mirrorTimeout, errTimeout)
	defer cancel()
	c.out.Slow = func(cut func()) func() bool { return context.AfterFunc(ctx, cut) }
	res, err := c.send(ctx)
	took, failed := c.e.now().Sub(c.began), err != nil || failure(res.Status)
	if err == nil && res.Body != nil {
		failed = !drained(res.Body) || failed
	}
	if !c.split.Judged {
		return
	}
	if failed {
		took = 0
	}
	c.evidence.Failed, c.evidence.Latency, c.evidence.At = failed, took, c.e.now()
	c.e.cfg.Evidence.Put(c.ep.Service.ID, c.split, c.evidence)
}

func (c *shadow) send(ctx context.Context) (*message.Response, error) {
	if c.http2 {
		return c.overHTTP2(ctx)
	}
	pool := &c.e.conns(c.ep).http1
	for fresh := false; ; fresh = true {
		var conn *http1.Conn
		if !fresh {
			conn = pool.Get(c.port, c.out.Now)
		}
		if conn == nil {
			dialed, err := c.e.connector.Dial(ctx, c.ep, c.port)
			if err != nil {
				return nil, err
			}
			conn = http1.NewConn(pool, c.port, dialed)
		}
		res, err := conn.RoundTrip(&c.out)
		var failed *http1.Failed
		if err == nil || !errors.As(err, &failed) || !failed.Reused || ctx.Err() != nil {
			return res, err
		}
	}
}

func (c *shadow) overHTTP2(ctx context.Context) (*message.Response, error) {
	out, err := toHTTP(&c.out, c.ep.Address(c.port))
	if err != nil {
		return nil, err
	}
	res, err := c.e.conns(c.ep).http2.transport.RoundTrip(out.WithContext(ctx)) //nolint:bodyclose // the answer has it from here on
	if err != nil {
		return nil, err
	}
	return &message.Response{Status: res.StatusCode, Length: res.ContentLength, Body: &http2Body{res: res}}, nil
}

// drained reads the answer to its end, or as far as is enough, and tells whether it was whole so far.
func drained(body message.Body) bool {
	defer body.Close()
	for n := 0; n < mirrorAnswer; {
		piece, err := body.Next()
		n += len(piece)
		switch {
		case errors.Is(err, io.EOF):
			return true
		case err != nil:
			return false
		}
	}
	return true
}
