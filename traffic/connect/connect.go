// Package connect makes connections to endpoints and knows when it is worth waiting for one.
package connect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/marucloud/maru/traffic/table"
)

// Config says how long callers wait.
type Config struct {
	Hold         time.Duration // longest wait for an endpoint; <=0: none
	HoldRequests int           // most that wait at once
}

// Connector connects. It is for many goroutines.
type Connector struct {
	cfg     Config
	waiting atomic.Int32
	dialer  net.Dialer
}

// New makes a connector.
func New(cfg Config) *Connector {
	return &Connector{cfg: cfg, dialer: net.Dialer{
		Timeout: dialTimeout,
		// An instance whose network is gone answers nothing, not even that it is gone.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 4},
	}}
}

// dialTimeout allows for a few lost packets: an overloaded instance drops them.
const dialTimeout = 5 * time.Second

// Error says that an endpoint could not be connected to: nothing was sent.
type Error struct {
	Address string
	err     error
}

// Error gives the reason in the words of the system.
func (e *Error) Error() string { return e.Address + ": " + Reason(e.err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.err }

// Reason gives the innermost words of a network error.
func Reason(err error) string {
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	}
	return err.Error()
}

// Dial connects to a TCP port of the endpoint and notes how that went. An instance with two addresses
// that refuses at one of them may listen at the other only. The error is an [Error], or ctx's.
func (c *Connector) Dial(ctx context.Context, ep *table.Endpoint, port uint16) (net.Conn, error) {
	at := ep.Address(port)
	network, address := "tcp", at.String()
	if ep.Socket != "" {
		network, address = "unix", ep.Socket
	}
	conn, err := c.dialer.DialContext(ctx, network, address)
	if err != nil && errors.Is(err, syscall.ECONNREFUSED) && at.Addr().Is4() && ep.Addresses.V6.IsValid() {
		conn, err = c.dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(ep.Addresses.V6, port).String())
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		ep.Failed(time.Now())
		return nil, &Error{address, err}
	}
	ep.Connected(time.Now())
	return conn, nil
}
