package publish

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/traffic/table"
)

const (
	sessionIdle  = time.Minute // without a datagram either way
	mostSessions = 4096        // of one port
	datagram     = 64 << 10
)

// datagrams carries UDP: each client has a session with one endpoint, until it is silent or the
// endpoint takes no more requests.
type datagrams struct {
	p  *Ports
	at place
	pc net.PacketConn

	mu       sync.Mutex
	sessions map[netip.AddrPort]*session
	running  sync.WaitGroup
}

type session struct {
	ep     *table.Endpoint
	target uint16
	conn   *net.UDPConn // to the endpoint
}

func newDatagrams(p *Ports, at place, pc net.PacketConn) *datagrams {
	return &datagrams{p: p, at: at, pc: pc, sessions: map[netip.AddrPort]*session{}}
}

// run carries datagrams until the port is closed.
func (d *datagrams) run(ctx context.Context) {
	defer d.running.Wait()
	defer d.closeAll()
	pc, ok := d.pc.(*net.UDPConn)
	if !ok {
		return
	}
	buf := make([]byte, datagram)
	for ctx.Err() == nil {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // such as an ICMP answer to an earlier datagram
		}
		if s := d.session(pc, from); s != nil {
			_ = s.conn.SetReadDeadline(time.Now().Add(sessionIdle))
			_, _ = s.conn.Write(buf[:n]) // like any datagram, it may get lost
		}
	}
}

// session gives the client's session, a new one if it has none or its endpoint is to go.
func (d *datagrams) session(pc *net.UDPConn, client netip.AddrPort) *session {
	c, ok := d.p.holder(d.at)
	if !ok {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sessions[client]
	if s != nil && s.ep.Service == c.service && s.target == c.target && s.ep.Usable() {
		return s
	}
	if s != nil {
		s.conn.Close()
		delete(d.sessions, client)
	}
	if len(d.sessions) >= mostSessions {
		return nil
	}
	ep := c.service.PickBy(client.Addr().Unmap(), nil)
	if ep == nil {
		return nil
	}
	ep.Done() // a session is no reason to wait with an instance's end: the next datagram goes elsewhere
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(ep.Address(c.target)))
	if err != nil {
		return nil
	}
	s = &session{ep: ep, target: c.target, conn: conn}
	_ = conn.SetReadDeadline(time.Now().Add(sessionIdle))
	d.sessions[client] = s
	d.running.Go(func() { d.answers(pc, client, s) })
	return s
}

// answers carries what the endpoint says to the client, until the session ends.
func (d *datagrams) answers(pc *net.UDPConn, client netip.AddrPort, s *session) {
	defer func() {
		s.conn.Close()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.sessions[client] == s {
			delete(d.sessions, client)
		}
	}()
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return
	}
	for {
		err := receive(raw, func(p []byte) error {
			_, err := pc.WriteToUDPAddrPort(p, client)
			return err
		})
		if err != nil && !errors.Is(err, syscall.ECONNREFUSED) { // an instance that was away may be back
			return
		}
		_ = s.conn.SetReadDeadline(time.Now().Add(sessionIdle))
	}
}

var datagrams64k = sync.Pool{New: func() any { return new([datagram]byte) }}

// receive waits for a datagram without holding a buffer meanwhile: most sessions are silent.
func receive(raw syscall.RawConn, take func([]byte) error) error {
	var failed error
	err := raw.Read(func(fd uintptr) bool {
		buf := datagrams64k.Get().(*[datagram]byte) //nolint:forcetypeassert // its New gives nothing else
		defer datagrams64k.Put(buf)
		n, _, err := unix.Recvfrom(int(fd), buf[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return false
		case err != nil:
			failed = err
		default:
			failed = take(buf[:n])
		}
		return true
	})
	return errors.Join(err, failed)
}

func (d *datagrams) closeAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sessions {
		s.conn.Close()
	}
}
