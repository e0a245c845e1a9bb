package serve

import (
	"net"
	"net/netip"
	"sync"
)

// Limiter bounds how many connections each address has open, so that one that opens ever more can't
// use up what all share.
type Limiter struct {
	most int
	mu   sync.Mutex
	open map[netip.Addr]int
}

// NewLimiter makes a limiter that lets each address have that many.
func NewLimiter(most int) *Limiter {
	return &Limiter{most: most, open: map[netip.Addr]int{}}
}

// Enter counts a connection in and gives what counts it out again; nil when there are too many.
func (l *Limiter) Enter(a netip.Addr) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[a] >= l.most {
		return nil
	}
	l.open[a]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.open[a]--; l.open[a] == 0 {
			delete(l.open, a)
		}
	})
}

// Listener gives the connections of a listener that are not too many, and closes the others.
func (l *Limiter) Listener(under net.Listener) net.Listener { return &limited{under, l} }

type limited struct {
	net.Listener
	limiter *Limiter
}

// Accept gives the next connection whose address may have one more.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if leave := l.limiter.Enter(Source(c)); leave != nil {
			return &counted{c, leave}, nil
		}
		c.Close()
	}
}

type counted struct {
	net.Conn
	leave func()
}

// Close closes the connection and counts it out.
func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// Source gives the address that a TCP connection comes from.
func Source(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
