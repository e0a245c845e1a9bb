package table

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/balance"
)

// Conns are an endpoint's connections, kept for it by whoever makes them.
type Conns interface {
	// CloseIdle closes the connections that carry nothing now.
	CloseIdle()
}

// Endpoint is an instance as the data plane uses it. It lives as long as the instance is listed with
// the same addresses.
type Endpoint struct {
	Service   *Service
	Instance  string
	Release   int
	Baseline  bool // a fresh one of the old release, that the new one is compared with
	Addresses maru.Addresses
	Socket    string // is connected to instead of Addresses, whatever the port; "": Addresses

	ready    atomic.Bool
	draining atomic.Bool
	gone     atomic.Bool
	inFlight atomic.Int64

	failures     atomic.Int32 // to connect, in a row
	ejectedUntil atomic.Int64 // Unix nanoseconds; for failures to connect
	connectedAt  atomic.Int64 // Unix nanoseconds of the last connection made

	key      uint64 // of its name
	meter    balance.Meter
	slowFrom atomic.Int64 // Unix nanoseconds of the moment it joined others that served; 0: it didn't
	outlier  outlier

	connsMu sync.Mutex
	conns   atomic.Pointer[Conns]
	idle    func(*Endpoint) // called when a draining endpoint has nothing in flight any more
}

// Draining tells whether the endpoint gets no new requests because its instance is to stop.
func (e *Endpoint) Draining() bool { return e.draining.Load() }

// Ready tells whether the instance is ready.
func (e *Endpoint) Ready() bool { return e.ready.Load() }

// InFlight is the number of requests and streams at the endpoint now.
func (e *Endpoint) InFlight() int { return int(e.inFlight.Load()) }

// Address is where to connect to a port: by IPv4 if the instance has it.
func (e *Endpoint) Address(port uint16) netip.AddrPort {
	if e.Addresses.V4.IsValid() {
		return netip.AddrPortFrom(e.Addresses.V4, port)
	}
	return netip.AddrPortFrom(e.Addresses.V6, port)
}

// Conns gives the endpoint's connections, made on first use.
func (e *Endpoint) Conns(fresh func(*Endpoint) Conns) Conns {
	if c := e.conns.Load(); c != nil {
		return *c
	}
	e.connsMu.Lock()
	defer e.connsMu.Unlock()
	if c := e.conns.Load(); c != nil {
		return *c
	}
	c := fresh(e)
	e.conns.Store(&c)
	return c
}

func (e *Endpoint) closeIdle() {
	if c := e.conns.Load(); c != nil {
		(*c).CloseIdle()
	}
}

// hold counts a request in, unless the endpoint began to drain since the caller chose it.
func (e *Endpoint) hold() bool {
	e.inFlight.Add(1)
	if e.draining.Load() || e.gone.Load() {
		e.Done()
		return false
	}
	return true
}

// Done counts a request out.
func (e *Endpoint) Done() {
	if e.inFlight.Add(-1) > 0 {
		return
	}
	if e.draining.Load() || e.gone.Load() {
		e.closeIdle()
		e.idle(e)
	}
}

// Connected tells that a connection to the endpoint was made.
func (e *Endpoint) Connected(now time.Time) {
	e.connectedAt.Store(now.UnixNano())
	if e.failures.Load() != 0 {
		e.failures.Store(0)
		e.ejectedUntil.Store(0)
	}
}

// ConnectedSince tells whether a connection was made after t.
func (e *Endpoint) ConnectedSince(t time.Time) bool {
	return e.connectedAt.Load() > t.UnixNano()
}

const (
	firstEjection   = 250 * time.Millisecond
	longestEjection = 10 * time.Second
)

// Failed tells that no connection could be made. The endpoint is passed over for a moment, longer
// the more often it failed in a row, while another one is there.
func (e *Endpoint) Failed(now time.Time) {
	n := e.failures.Add(1)
	away := firstEjection << min(n-1, 10)
	e.ejectedUntil.Store(now.Add(min(away, longestEjection)).UnixNano())
}

// out tells whether the endpoint is passed over while there is another.
func (e *Endpoint) out(now int64) bool {
	return e.ejectedUntil.Load() > now || e.outlier.until.Load() > now
}

// put takes over what the control plane says of the endpoint, beside others that served before or not.
// Draining goes first: from then on nothing new is counted in.
func (e *Endpoint) put(s maru.Endpoint, now time.Time, others bool) {
	was := e.draining.Swap(s.Draining)
	if e.ready.Swap(s.Ready) != s.Ready && s.Ready {
		e.failures.Store(0)
		e.ejectedUntil.Store(0)
		e.outlier.forget()
		e.slowFrom.Store(0)
		if others {
			e.slowFrom.Store(now.UnixNano())
		}
	}
	if s.Draining && !was {
		e.closeIdle()
	}
}

func (e *Endpoint) retire() {
	e.gone.Store(true)
	e.closeIdle()
}

// Usable tells whether the endpoint takes requests.
func (e *Endpoint) Usable() bool { return e.ready.Load() && !e.draining.Load() && !e.gone.Load() }
