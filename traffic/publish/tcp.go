package publish

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/accesslog"
	"github.com/marucloud/maru/traffic/forward"
	"github.com/marucloud/maru/traffic/relay"
	"github.com/marucloud/maru/traffic/serve"
	"github.com/marucloud/maru/traffic/sniff"
	"github.com/marucloud/maru/traffic/table"
)

// firstWords is how long a connection to a port that speaks HTTP may be silent before it is taken
// for HTTP.
const firstWords = 5 * time.Second

// target is a connection with the place that it came to.
type target struct {
	net.Conn
	at      place
	tracked func()
}

// Tracked is called when the server knows of the connection.
func (t *target) Tracked() { t.tracked() }

type targetKey struct{}

func withTarget(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*target); ok {
		return context.WithValue(ctx, targetKey{}, t.at)
	}
	return ctx
}

// accepter gives what is done with a connection to a place.
func (p *Ports) accepter(ctx context.Context, at place) func(net.Conn) func() {
	return func(conn net.Conn) func() {
		release := p.server.Hold()
		return func() { p.accept(ctx, conn, at, release) }
	}
}

func (p *Ports) accept(ctx context.Context, conn net.Conn, at place, release func()) {
	c, ok := p.holder(at)
	if !ok {
		release()
		conn.Close()
		return
	}
	if !table.IsHTTP(c.service.State().Protocol(c.target, maru.TCP)) {
		release()
		p.carry(ctx, conn, nil, c)
		return
	}
	first, speaks, err := sniff.Wrap(conn, firstWords)
	switch {
	case err != nil:
		release()
		conn.Close()
	case speaks == sniff.Other:
		release()
		start, client := first.Take()
		p.carry(ctx, client, start, c)
	case !p.queue.Put(&target{first, at, release}):
		release()
		conn.Close()
	}
}

// ServeHTTP carries a request that came to a published port.
func (p *Ports) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at, _ := r.Context().Value(targetKey{}).(place)
	c, ok := p.holder(at)
	call := forward.Call{Door: forward.Published, Service: c.service, Port: c.target}
	switch {
	case !ok:
		p.engine.Refuse(w, r, forward.Call{Door: forward.Published}, forward.NoRoute(forward.HostOf(r)))
	case r.Method == http.MethodConnect:
		p.engine.Refuse(w, r, call, forward.BadRequest("CONNECT requests are not carried."))
	default:
		p.engine.Serve(w, r, call)
	}
}

// carry carries a connection as it is.
func (p *Ports) carry(ctx context.Context, client net.Conn, first []byte, c claim) {
	defer client.Close()
	entry := accesslog.Entry{Time: time.Now(), Door: forward.Published, Protocol: "tcp", Client: serve.Source(client), Service: c.service.ID}
	service, ep, err := relay.Open(ctx, p.cfg.Connector, c.service, c.target)
	if err != nil {
		entry.Error = err.Error()
	} else {
		entry.Release, entry.Instance = ep.Release, ep.Instance
		entry.In, entry.Out = relay.Carry(ctx, client, service, first)
		ep.Done()
	}
	entry.Duration = time.Since(entry.Time)
	p.cfg.AccessLog.Write(entry)
}
