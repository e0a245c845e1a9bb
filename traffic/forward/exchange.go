package forward

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/marucloud/maru/traffic/accesslog"
	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/table"
)

// exchange is one request with its answer.
type exchange struct {
	e    *Engine
	w    http.ResponseWriter
	r    *http.Request
	call Call

	ctx    context.Context
	cancel context.CancelCauseFunc // nil without a time-out
	clock  *patience

	header  http.Header // as sent to endpoints
	upgrade string      // protocol that the client asks to switch to
	grpc    bool
	body    *replay // nil without a body
	client  netip.Addr
	parent  string // traceparent, when the request had none
	tried   []*table.Endpoint
	entry   accesslog.Entry
}

var (
	errTimeout    = errors.New("the service did not answer in time")
	errClientGone = errors.New("the client went away")
)

// statusClientGone is logged when nobody was left to answer. It is nginx's.
const statusClientGone = 499

func (e *Engine) exchange(w http.ResponseWriter, r *http.Request, call Call) *exchange {
	x := &exchange{e: e, w: w, r: r, call: call, ctx: r.Context()}
	x.client = remote(r)
	x.upgrade = upgradeOf(r.Header)
	x.grpc = isGRPC(r.Header)
	x.entry = accesslog.Entry{
		Time: e.now(), Door: call.Door, ID: traceID(r.Header), Client: x.client,
		Protocol: r.Proto, Method: r.Method, Scheme: scheme(r), Host: r.Host, Path: r.URL.Path, Agent: r.UserAgent(),
	}
	if x.entry.ID == "" {
		x.entry.ID, x.parent = newTrace()
	}
	if call.Service != nil {
		x.entry.Service = call.Service.ID
	}
	if call.Caller != nil {
		x.entry.Caller = call.Caller.Instance
	}
	return x
}

func remote(r *http.Request) netip.Addr {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		if a, err := netip.ParseAddr(host); err == nil {
			return a.Unmap()
		}
	}
	return netip.Addr{}
}

func (x *exchange) run() {
	svc := x.call.Service
	svc.Retries.Request()
	if r := x.r; r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		x.body = newReplay(r.Body)
		defer x.endBody()
		if r.ProtoMajor == 1 {
			// Answers may begin before the request's body ends.
			_ = http.NewResponseController(x.w).EnableFullDuplex()
		}
	}
	if timeout := svc.State().Timeout; timeout > 0 {
		x.ctx, x.cancel = context.WithCancelCause(x.ctx)
		defer x.cancel(nil)
		x.clock = newPatience(timeout, func() { x.cancel(errTimeout) })
		defer x.clock.stop()
		if x.body != nil {
			x.body.progress = x.clock.restart
		}
	}
	x.header = x.outHeader()
	if err := x.forward(); err != nil {
		x.fail(x.failure(err))
	}
}

// forward asks endpoints until one answers. The error says why none did.
func (x *exchange) forward() error {
	var gap connect.Gap
	defer gap.End()
	left := x.retries()
	for {
		ep := x.call.Service.Pick(x.tried)
		if ep == nil {
			if err := x.e.connector.Await(x.ctx, x.call.Service, x.tried, &gap); err != nil {
				return err
			}
			x.tried, left.connects = x.tried[:0], mostConnects
			continue
		}
		x.entry.Attempts++
		x.entry.Release, x.entry.Instance = ep.Release, ep.Instance
		res, err := x.send(ep)
		if err == nil {
			gap.End()
			defer ep.Done()
			return x.respond(res)
		}
		ep.Done()
		if x.ctx.Err() != nil {
			return context.Cause(x.ctx)
		}
		gap.Last = err
		if !x.mayRetry(err, &left) {
			return err
		}
		x.tried = append(x.tried, ep)
	}
}

// endBody leaves the request's body: what may still read it gets an error from here on. A read that
// hangs because the client sends nothing is cut, as nobody is interested in the rest.
func (x *exchange) endBody() {
	x.entry.In = x.body.count()
	hangs := x.body.close()
	if hangs && x.r.ProtoMajor == 1 {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Unix(1, 0))
	}
}

func (x *exchange) finish() {
	en := &x.entry
	en.Duration = x.e.now().Sub(en.Time)
	x.e.cfg.AccessLog.Write(*en)
	if svc := x.call.Service; svc != nil {
		class := en.Status / 100
		if en.Status == statusClientGone {
			class = 0
		}
		svc.Stats.Count(table.Key{Release: en.Release, Door: en.Door, Class: class}, en.Duration, max(0, en.Attempts-1))
	}
}

// patience calls a function when nothing happened for a while.
type patience struct {
	mu      sync.Mutex
	timer   *time.Timer
	d       time.Duration
	stopped bool
}

func newPatience(d time.Duration, out func()) *patience {
	return &patience{timer: time.AfterFunc(d, out), d: d}
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
