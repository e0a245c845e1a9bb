package quic

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	waiting  = 512              // packets from the successor that are not read yet; more are lost, as packets may be
	packet   = 1500             // bytes of the largest packet that is taken
	lease    = 20 * time.Second // a successor after which this process is not ended within this has failed
	succeeds = 2 * time.Second  // how long a successor that is there may take until it reads the socket
	between  = 8 << 20          // bytes of the buffer between two processes
)

var past = time.Unix(1, 0)

// Socket is the end of a UDP socket that one process has. It reads what is its own; the rest it gives to
// the process before it. After a successor has begun it reads what that one gives it.
type Socket struct {
	*net.UDPConn
	batch *ipv4.PacketConn
	tag   tag
	inbox *net.UnixConn
	given chan []byte
	taken chan struct{} // closed when a successor reads the socket
	once  sync.Once     // of that

	closed chan struct{}
	end    sync.Once // of that

	mu      sync.Mutex
	changed chan struct{} // closed when what follows changes
	leading bool          // reads the socket
	cut     bool          // reading ends
	left    bool          // this process takes no new connections
	before  *predecessor  // nil: none
}

// state is what ReadBatch goes by.
func (s *Socket) state() (leading, cut bool, before *predecessor, changed chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leading, s.cut, s.before, s.changed
}

// set changes the state, and has whoever reads look at it.
func (s *Socket) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
	at := time.Time{}
	if !s.leading || s.cut {
		at = past
	}
	_ = s.UDPConn.SetReadDeadline(at) // one that is closed tells by itself
}

// SetReadDeadline ends reading, for any time but zero: that is what it is used for.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.set(func() { s.cut = !t.IsZero() })
	return nil
}

// ReadBatch reads packets that are for this process.
func (s *Socket) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		leading, cut, before, changed := s.state()
		switch {
		case cut:
			return 0, os.ErrDeadlineExceeded
		case !leading:
			select {
			case p := <-s.given:
				if before != nil && before.owns(p[headerSize(p):]) && before.say(p) {
					continue
				}
				if unpack(p, &ms[0]) {
					return 1, nil
				}
			case <-changed:
			}
			continue
		}
		n, err := s.batch.ReadBatch(ms, flags)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			return 0, err
		}
		if n = s.own(ms[:n], before); n > 0 {
			return n, nil
		}
	}
}

// own keeps the packets that are for this process at the front.
func (s *Socket) own(ms []ipv4.Message, before *predecessor) int {
	if before == nil {
		return len(ms)
	}
	n := 0
	for i := range ms {
		m := &ms[i]
		data := m.Buffers[0][:m.N]
		if !s.tag.on(data) && before.owns(data) && before.say(pack(m)) {
			continue
		}
		if to := &ms[n]; n < i {
			// Each buffer is known by its place: the content moves.
			to.N, to.NN, to.Addr, to.Flags = copy(to.Buffers[0], data), copy(to.OOB, m.OOB[:m.NN]), m.Addr, m.Flags
		}
		n++
	}
	return n
}

// listen takes what the successor says and gives, until the socket is closed.
func (s *Socket) listen() {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.inbox.Read(buf)
		if err != nil || n == 0 {
			return
		}
		switch buf[0] {
		case takes:
			s.set(func() { s.leading = false })
			s.once.Do(func() { close(s.taken) })
			time.AfterFunc(lease, s.resume)
		case passes:
			select {
			case s.given <- append([]byte(nil), buf[:n]...):
			default:
			}
		}
	}
}

// resume reads the socket again: this process was not ended, so that the successor must have failed.
func (s *Socket) resume() { s.set(func() { s.leading = s.leading || !s.left }) }

// Leave says that this process ends, and leaves the socket to its successor for good. It returns when that
// one reads it, and after a moment if there is none.
func (s *Socket) Leave() {
	s.set(func() { s.left = true })
	timer := time.NewTimer(succeeds)
	defer timer.Stop()
	select {
	case <-s.taken:
	case <-s.closed:
	case <-timer.C:
	}
}

// Take begins to read, in the place of the process before.
func (s *Socket) Take() {
	_, _, before, _ := s.state()
	if before != nil {
		before.say([]byte{takes})
	}
	s.set(func() { s.leading = true })
}

// Close ends this process's use of the socket.
func (s *Socket) Close() error {
	s.end.Do(func() { close(s.closed) })
	if _, _, before, _ := s.state(); before != nil {
		before.close()
	}
	return errors.Join(s.inbox.Close(), s.UDPConn.Close())
}

// Messages between two processes: what the first byte says.
const (
	begins byte = iota + 1 // to the successor: the tags of connections that this process has, or those before it
	takes                  // to the predecessor: the successor reads the socket from here on
	passes                 // to the predecessor: a packet, behind where it came from
)

// pack makes a message of a packet: kind, length of the address, address, port, length of the control
// messages, those, the packet.
func pack(m *ipv4.Message) []byte {
	from := m.Addr.(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // the socket is one of UDP
	address := from.Addr().AsSlice()
	b := make([]byte, 0, 32+m.NN+m.N)
	b = append(b, passes, byte(len(address)))
	b = append(b, address...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(m.NN)) //nolint:gosec // some hundred bytes
	b = append(b, m.OOB[:m.NN]...)
	return append(b, m.Buffers[0][:m.N]...)
}

// headerSize is how much of a message is before the packet.
func headerSize(b []byte) int {
	if len(b) < 2 {
		return len(b)
	}
	at := 2 + int(b[1]) + 2
	if len(b) < at+2 {
		return len(b)
	}
	return min(len(b), at+2+int(binary.BigEndian.Uint16(b[at:])))
}

// unpack reads what pack made.
func unpack(b []byte, m *ipv4.Message) bool {
	size := headerSize(b)
	if size >= len(b) {
		return false
	}
	address, ok := netip.AddrFromSlice(b[2 : 2+int(b[1])])
	if !ok {
		return false
	}
	at := 2 + int(b[1])
	m.Addr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, binary.BigEndian.Uint16(b[at:])))
	m.NN = copy(m.OOB, b[at+4:size])
	m.N = copy(m.Buffers[0], b[size:])
	return true
}

// predecessor is the process before, as far as it still has connections.
type predecessor struct {
	tags []tag

	mu sync.Mutex
	to *os.File // nil: it is gone
}

// owns tells whether the packet is for a connection of it, or of one before it.
func (p *predecessor) owns(data []byte) bool {
	for _, t := range p.tags {
		if t.on(data) {
			return true
		}
	}
	return false
}

// say sends a message without waiting: what can't be taken is lost, as packets may be. False: nobody is
// there any more.
func (p *predecessor) say(message []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to == nil {
		return false
	}
	err := unix.Send(int(p.to.Fd()), message, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ECONNREFUSED) {
		p.to.Close()
		p.to = nil
	}
	return p.to != nil
}

func (p *predecessor) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to != nil {
		p.to.Close()
		p.to = nil
	}
}
