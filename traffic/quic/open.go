// Package quic shares a UDP socket between a process and those before it, so that connections of QUIC
// outlive a restart of the proxy. A socket of TCP gives each connection a descriptor of its own; one of
// UDP has the packets of all in one queue. The newest process reads it. Packets for connections of the
// process before, which it knows by the beginning of the connection's ID, it gives to that one through a
// pair of sockets, one end of which was left with whoever holds the proxy's descriptors.
package quic

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/internal/memfile"
)

// Holder keeps descriptors over restarts, as in traffic.Config.
type Holder struct {
	Keep func(name string, f *os.File) error
	Kept func(name string) (*os.File, error) // nil with no error: there is none
}

// Names under which descriptors are kept.
const (
	doorName   = "quic"        // the end of a pair of sockets, by which the successor speaks with this process
	secretName = "quic-secret" // see secret
)

// Open makes a Socket of a UDP socket, which is its own from here on. Nothing is read before Take.
func Open(pc *net.UDPConn, h Holder) (*Socket, error) {
	s := &Socket{
		UDPConn: pc, batch: ipv4.NewPacketConn(pc), tag: newTag(), given: make(chan []byte, waiting), changed: make(chan struct{}),
		taken: make(chan struct{}), closed: make(chan struct{}),
	}
	if h.Kept != nil {
		before, err := predecessorFrom(h)
		if err != nil {
			return nil, err
		}
		s.before = before
	}
	if err := s.openInbox(h); err != nil {
		if s.before != nil {
			s.before.close()
		}
		return nil, err
	}
	go s.listen()
	return s, nil
}

func (s *Socket) openInbox(h Holder) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("quic: %w", err)
	}
	own, theirs := os.NewFile(uintptr(fds[0]), "inbox"), os.NewFile(uintptr(fds[1]), doorName)
	defer own.Close()
	defer theirs.Close()
	_ = unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_SNDBUF, between) // as much as the system gives
	begin := append([]byte{begins}, s.tag[:]...)
	if s.before != nil {
		for _, t := range s.before.tags {
			begin = append(begin, t[:]...)
		}
	}
	if err := unix.Send(fds[0], begin, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("quic: %w", err)
	}
	conn, err := net.FileConn(own)
	if err != nil {
		return fmt.Errorf("quic: %w", err)
	}
	s.inbox = conn.(*net.UnixConn) //nolint:forcetypeassert // it is one
	if h.Keep != nil {
		return h.Keep(doorName, theirs)
	}
	return nil
}

// mostTags bounds how many processes before are known, which is more than ever drain at once.
const mostTags = 16

// predecessorFrom gives the process before, or nil.
func predecessorFrom(h Holder) (*predecessor, error) {
	f, err := h.Kept(doorName)
	if err != nil || f == nil {
		return nil, err
	}
	buf := make([]byte, 1+mostTags*tagSize)
	// It stays there for other successors, should this one not become one.
	n, _, err := unix.Recvfrom(int(f.Fd()), buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil || n < 1+tagSize || buf[0] != begins {
		f.Close()
		return nil, nil //nolint:nilerr,nilnil // it is gone
	}
	p := &predecessor{to: f}
	for at := 1; at+tagSize <= n; at += tagSize {
		p.tags = append(p.tags, tag(buf[at:at+tagSize]))
	}
	return p, nil
}

// Transport makes the transport of QUIC over the socket. Clients of a process that died are told so at once
// (RFC 9000, 10.3) by the one that follows, since both have the same secret.
func (s *Socket) Transport(h Holder, verify func(net.Addr) bool) (*quic.Transport, error) {
	secret, err := secretFrom(h)
	if err != nil {
		return nil, err
	}
	reset, err := hkdf.Key(sha256.New, secret, nil, "maru quic reset", len(quic.StatelessResetKey{}))
	if err != nil {
		return nil, err
	}
	token, err := hkdf.Key(sha256.New, secret, nil, "maru quic token", len(quic.TokenGeneratorKey{}))
	if err != nil {
		return nil, err
	}
	resetKey, tokenKey := quic.StatelessResetKey(reset), quic.TokenGeneratorKey(token)
	return &quic.Transport{
		Conn: s, ConnectionIDGenerator: s.tag, StatelessResetKey: &resetKey, TokenGeneratorKey: &tokenKey, VerifySourceAddress: verify,
	}, nil
}

// secretFrom gives the secret that all processes of the installation have, in memory alone.
func secretFrom(h Holder) ([]byte, error) {
	const size = 32
	if h.Kept != nil {
		f, err := h.Kept(secretName)
		if err != nil {
			return nil, err
		}
		if f != nil {
			defer f.Close()
			secret, err := memfile.Read(f)
			if err == nil && len(secret) != size {
				err = errors.New("quic: the kept secret is of another size")
			}
			return secret, err
		}
	}
	secret := make([]byte, size)
	_, _ = rand.Read(secret) // never fails
	if h.Keep == nil {
		return secret, nil
	}
	f, err := memfile.Seal(secretName, secret)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return secret, h.Keep(secretName, f)
}
