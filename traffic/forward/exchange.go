package forward

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"
	"unsafe"

	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/limit"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/record"
	"github.com/marucloud/maru/traffic/table"
	"github.com/marucloud/maru/traffic/trace"
)

// exchange is one request with its answer. It is used again for another one afterwards.
type exchange struct {
	e    *Engine
	c    message.Client
	r    *message.Request
	call Call

	ctx    context.Context //nolint:containedctx // of one request; see context
	cancel context.CancelCauseFunc
	clock  *patience
	stream bool // the answer may take as long as it likes
	cut    bool // the client learns that something went wrong by the end of its connection

	header   message.Header // as sent to endpoints
	answer   message.Response
	upgrade  string // protocol that the client asks to switch to
	grpc     bool
	trailers bool    // the client understands trailers
	body     *replay // nil without a body
	sending  bool    // the body was not all there at the beginning
	parent   string  // traceparent, when the request had none
	tried    []*table.Endpoint
	picked   time.Time      // when the present endpoint was chosen
	load     int            // requests it had then
	status   string         // of gRPC, from the trailer
	left     string         // of its caller's time, as told
	timeout  time.Duration  // 0: none
	limiter  *limit.Limiter // that the request is counted in at
	entered  time.Time
	corrupt  bool // the answer is damaged on purpose
	endHedge context.CancelFunc
	waited   bool // for room at the service
	gap      connect.Gap
	trial    trial // while a rollout shares requests out
	entry    record.Record

	out     http1.Outgoing
	named   []string
	scratch []byte
}

var (
	errTimeout    = errors.New("the service did not answer in time")
	errClientGone = errors.New("the client went away")
)

// statusClientGone is logged when nobody was left to answer. It is nginx's.
const statusClientGone = 499

func newExchange(e *Engine) *exchange {
	x := &exchange{e: e}
	x.out.Slow, x.out.Interim = x.slow, x.interim
	return x
}

func (e *Engine) exchange(c message.Client, r *message.Request, call Call) *exchange {
	x := e.exchanges.Get().(*exchange) //nolint:forcetypeassert // its New gives nothing else
	x.c, x.r, x.call = c, r, call
	x.upgrade = upgradeOf(r)
	x.grpc = isGRPC(r.Header)
	x.trailers = r.Header.HasToken("Te", "trailers")
	x.entry = record.Record{
		Time: e.now(), Door: call.Door, ID: traceID(r.Header), Client: r.Client,
		Protocol: protocol(r), Method: r.Method, Scheme: r.Scheme, Host: r.Host, Path: r.Path, Agent: r.Header.Get("User-Agent"),
	}
	if x.entry.ID == "" {
		x.parent = x.text(func(b []byte) []byte { return trace.Append(b) })
		x.entry.ID = trace.ID(x.parent)
	}
	if call.Service != nil {
		x.entry.Service = call.Service.ID
	}
	if route := call.Route; route != nil {
		x.entry.Route = x.join(cmp.Or(route.Host, "*"), route.Path)
	}
	if call.Caller != nil {
		x.entry.Caller, x.entry.From = call.Caller.Instance, call.Caller.Service.ID
	}
	return x
}

func protocol(r *message.Request) string {
	switch {
	case r.Major == 2:
		return "HTTP/2.0"
	case r.Major == 3:
		return "HTTP/3.0"
	case r.Minor == 0:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// text makes a string in memory of the exchange. It is good until the exchange ends.
func (x *exchange) text(write func([]byte) []byte) string {
	from := len(x.scratch)
	x.scratch = write(x.scratch)
	made := x.scratch[from:]
	return unsafe.String(unsafe.SliceData(made), len(made))
}

// join is a + b + c and so on, as text.
func (x *exchange) join(parts ...string) string {
	from := len(x.scratch)
	for _, p := range parts {
		x.scratch = append(x.scratch, p...)
	}
	made := x.scratch[from:]
	return unsafe.String(unsafe.SliceData(made), len(made))
}

func (x *exchange) run() {
	svc := x.call.Service
	svc.Retries.Request()
	if x.call.Door != Published && !x.permitted() {
		return
	}
	x.outHeader()
	x.setDeadline()
	x.out.Hurry = x.timeout > 0 && x.timeout < time.Second
	if b := x.r.Body; b != nil {
		x.body = newReplay(b)
		defer x.endBody()
		_, whole := b.Buffered()
		if x.sending = !whole; x.sending && x.timeout > 0 {
			x.context()
			x.body.progress = x.clock.restart
		}
	}
	if l := svc.State().Limiter(); l != nil {
		if err := x.enter(l); err != nil {
			x.fail(x.failure(err))
			return
		}
		defer x.leave()
	}
	if f := svc.State().Faults; len(f) > 0 && x.disturb(f) {
		return
	}
	if err := x.forward(); err != nil {
		x.fail(x.failure(err))
	}
}

// context gives what ends the exchange before it is done: the client goes away, or the service's
// time is up. Most exchanges are done before anybody asks for it.
func (x *exchange) context() context.Context {
	if x.ctx != nil {
		return x.ctx
	}
	x.ctx = x.c.Context()
	if timeout := x.timeout; timeout > 0 && !x.stream {
		if x.entry.Status == 0 {
			timeout -= x.e.now().Sub(x.entry.Time)
		}
		x.ctx, x.cancel = context.WithCancelCause(x.ctx)
		x.clock = newPatience(timeout, x.timeout, x.cancel)
	}
	return x.ctx
}

// slow has an exchange that takes long ended by what ends its context.
func (x *exchange) slow(cut func()) (stop func() bool) { return context.AfterFunc(x.context(), cut) }

// ended gives why the exchange was ended, if it was.
func (x *exchange) ended() error {
	if x.ctx == nil {
		return nil
	}
	return context.Cause(x.ctx)
}

// forward asks endpoints until one answers. The error says why none did.
func (x *exchange) forward() error {
	defer x.gap.End()
	left := x.retries()
	for {
		ep := x.pick()
		if ep == nil {
			if err := x.await(); err != nil {
				return err
			}
			x.tried, left.connects = x.tried[:0], mostConnects
			continue
		}
		x.entry.Attempts++
		x.entry.Release, x.entry.Instance = ep.Release, ep.Instance
		var res *message.Response
		var err error
		if after, ok := x.hedgeAfter(); ok {
			ep, res, err = x.sendHedged(ep, after)
		} else {
			res, err = x.send(ep)
		}
		x.observe(ep, res, err)
		x.attempted(ep, res, err)
		if err == nil {
			x.gap.End()
			return x.respondFrom(ep, res)
		}
		ep.Done()
		if cause := x.ended(); cause != nil {
			return cause
		}
		x.gap.Last = err
		if !x.mayRetry(err, &left) {
			return err
		}
		x.tried = append(x.tried, ep)
	}
}

// await waits for an endpoint to be there.
func (x *exchange) await() error {
	began := x.e.now()
	defer func() { x.entry.Waited += x.e.now().Sub(began) }()
	return x.e.connector.Await(x.context(), x.call.Service, x.tried, &x.gap)
}

func (x *exchange) respondFrom(ep *table.Endpoint, res *message.Response) error {
	defer ep.Done()
	err := x.respond(res)
	x.observeEnd(ep)
	return err
}

// endBody leaves the request's body: what may still read it gets an error from here on. A read that
// hangs because the client sends nothing is cut, as nobody is interested in the rest.
func (x *exchange) endBody() {
	if x.body.close() {
		x.r.Body.Cut()
	}
	x.body.join()
	x.entry.In = x.body.count()
}

// outcome tells whether the answer was ended as it should.
func (x *exchange) outcome() error {
	if x.cut {
		return errCut
	}
	return nil
}

func (x *exchange) finish() {
	if x.endHedge != nil {
		x.endHedge()
	}
	if x.clock != nil {
		x.clock.stop()
		x.cancel(nil)
	}
	en := &x.entry
	en.Duration = x.e.now().Sub(en.Time)
	x.e.cfg.Records.Put(en)
	x.judged()
	if svc := x.call.Service; svc != nil {
		svc.Stats.Count(x.counter(), en.Duration, max(0, en.Attempts-1))
	}
	x.reset()
	x.e.exchanges.Put(x)
}

// counter is what the exchange is counted by.
func (x *exchange) counter() table.Key {
	k := table.Key{Release: x.entry.Release, Door: x.entry.Door, Class: x.entry.Status / 100, From: x.entry.From}
	if x.entry.Status == statusClientGone {
		k.Class = 0
	}
	if r := x.call.Route; r != nil {
		k.Host, k.Path = r.Host, r.Path
	}
	return k
}

// reset forgets all of the exchange but its memory.
func (x *exchange) reset() {
	clear(x.header)
	clear(x.answer.Header)
	clear(x.tried)
	clear(x.named)
	*x = exchange{
		e: x.e, header: x.header[:0], answer: message.Response{Header: x.answer.Header[:0]}, tried: x.tried[:0], named: x.named[:0],
		scratch: x.scratch[:0], out: http1.Outgoing{Slow: x.out.Slow, Interim: x.out.Interim},
	}
}

// patience ends an exchange in which nothing happened for a while.
type patience struct {
	mu      sync.Mutex
	timer   *time.Timer
	d       time.Duration
	stopped bool
}

func newPatience(first, d time.Duration, out context.CancelCauseFunc) *patience {
	return &patience{timer: time.AfterFunc(first, func() { out(errTimeout) }), d: d}
}

func (p *patience) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.timer.Reset(p.d)
	}
}

func (p *patience) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.timer.Stop()
}
