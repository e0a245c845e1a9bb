// Package forward carries HTTP requests to endpoints: it chooses one, sends the request, tries
// another where that is safe, streams both ways, and answers with a page that says what to do when
// nobody can. It is the same for every version of HTTP, on either side.
//
// A request is sent a second time when its endpoint could not be connected to, whatever the method,
// since then nothing was sent; or when the endpoint died before it answered and the method is
// idempotent, within the service's retry budget. Either way only as long as what was read of its
// body, at most 64 KiB, can be sent again.
package forward

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/record"
	"github.com/marucloud/maru/traffic/table"
)

// Doors by which requests come in.
const (
	Gateway   = "gateway"
	Mesh      = "mesh"
	Published = "published"
)

// Config says how requests are carried.
type Config struct {
	Connector *connect.Connector
	Records   *record.Ring     // may be nil
	Evidence  *record.Evidence // may be nil
	Trusted   []netip.Prefix   // whose forwarding headers are believed
}

// Call says where a request goes.
type Call struct {
	Door    string
	Service *table.Service
	Port    uint16
	Route   *maru.Route     // at the gateway
	Caller  *table.Endpoint // in the mesh
	Peer    *message.Peer   // the client, where the route asks who it is
	AltSvc  string          // Alt-Svc of answers (RFC 7838); "": none
	HSTS    string          // Strict-Transport-Security of answers (RFC 6797); "": none

	// What a route's policy has the service get instead of what the client sent.
	Target string // "": as it is
	Host   string // "": as it is
	Edits  []message.Edit
	HTTP2  bool // by HTTP/2, whatever the port is said to speak

	Timeout time.Duration // of the route, instead of the service's; 0: that
}

// Engine carries requests. It is for many goroutines and starts none that outlive a request, but
// those of idle connections, and of services whose requests are replayed.
type Engine struct {
	cfg       Config
	connector *connect.Connector
	log       *slog.Logger
	streams   streams
	exchanges sync.Pool
	mirrors   chan struct{} // has a value for each copy of a request that is under way
	recorders recorders
	now       func() time.Time
}

// New makes an engine.
func New(cfg Config, log *slog.Logger) *Engine {
	e := &Engine{cfg: cfg, connector: cfg.Connector, log: log, now: time.Now, mirrors: make(chan struct{}, mostMirrors),
		recorders: recorders{by: map[maru.ServiceID]*recorder{}, done: make(chan struct{})}}
	e.exchanges.New = func() any { return newExchange(e) }
	return e
}

// Drain ends replaying, waits until no upgraded connection is left, and cuts those that are left when ctx ends.
func (e *Engine) Drain(ctx context.Context) {
	e.recorders.end()
	e.streams.drain(ctx)
}

const copyBuffer = 32 << 10

var buffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// errCut says that the client must learn by the end of its connection that something went wrong.
var errCut = errors.New("the answer can't be ended")

// Serve carries the request to the call's service and answers it. The error is that of
// [message.Handler].
func (e *Engine) Serve(c message.Client, r *message.Request, call Call) error {
	x := e.exchange(c, r, call)
	defer x.finish()
	x.run()
	return x.outcome()
}

// Refuse answers a request that is not carried anywhere.
func (e *Engine) Refuse(c message.Client, r *message.Request, call Call, f Failure) error {
	x := e.exchange(c, r, call)
	defer x.finish()
	x.fail(f)
	return x.outcome()
}
