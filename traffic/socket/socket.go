// Package socket opens and names the data plane's listening sockets. It is apart from the rest, and
// small, for the supervisor: it opens the sockets and hands them to one proxy after the other.
package socket

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// Names of the sockets by what they are for. A number may follow.
const (
	HTTP   = "http"
	HTTPS  = "https"
	Mesh   = "mesh"
	DNSTCP = "dns-tcp"
	DNSUDP = "dns-udp"
)

// Spec is a socket to open.
type Spec struct {
	Name    string `json:"name"`
	Network string `json:"network"` // tcp or udp, with 4 or 6 where it matters
	Address string `json:"address"`
}

// Specs gives the sockets of a proxy: the gateway's at the given addresses, and those at the host's
// own address in the ranges, for instances.
func Specs(ranges maru.Ranges, http, https []string) []Spec {
	var specs []Spec
	numbered := func(name, network string, addresses []string) {
		for i, address := range addresses {
			n := name
			if i > 0 {
				n += strconv.Itoa(i + 1)
			}
			specs = append(specs, Spec{n, network, address})
		}
	}
	numbered(HTTP, "tcp", http)
	numbered(HTTPS, "tcp", https)
	host := ranges.Host()
	for i, addr := range []netip.Addr{host.V4, host.V6} {
		if !addr.IsValid() {
			continue
		}
		family := [...]string{"4", "6"}[i]
		at := func(port uint16) string { return netip.AddrPortFrom(addr, port).String() }
		specs = append(specs,
			Spec{Mesh + family, "tcp" + family, at(maru.MeshPort)},
			Spec{DNSTCP + family, "tcp" + family, at(maru.DNSPort)},
			Spec{DNSUDP + family, "udp" + family, at(maru.DNSPort)})
	}
	return specs
}

// Kind gives what a socket of that name is for: the name without the number behind it.
func Kind(name string) string { return strings.TrimRight(name, "0123456789") }

// Open opens the socket. An address that the machine does not have yet is no error: it is served as
// soon as it is there. Opening a port below 1024 needs the privilege for it. Errors: Conflict when
// another process holds the address, Denied, Invalid, Unavailable.
func Open(ctx context.Context, network, address string) (*os.File, error) {
	var lc net.ListenConfig
	lc.Control = func(network, address string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = freebind(int(fd), network, address) }); e != nil {
			return e
		}
		return err
	}
	var s interface {
		File() (*os.File, error)
		Close() error
	}
	if strings.HasPrefix(network, "udp") {
		pc, err := lc.ListenPacket(ctx, network, address)
		if err != nil {
			return nil, explain(err, network, address)
		}
		s = pc.(*net.UDPConn)
	} else {
		l, err := lc.Listen(ctx, network, address)
		if err != nil {
			return nil, explain(err, network, address)
		}
		s = l.(*net.TCPListener)
	}
	f, err := s.File()
	if e := s.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "open %s %s: %w", network, address, err)
	}
	return f, nil
}

func freebind(fd int, network, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return nil //nolint:nilerr // every address: there is nothing to wait for
	}
	if strings.HasSuffix(network, "6") {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
}

func explain(err error, network, address string) error {
	kind, hint := maru.Unavailable, ""
	switch {
	case isErrno(err, unix.EADDRINUSE):
		kind, hint = maru.Conflict, "another program listens there: end it, or choose another port"
	case isErrno(err, unix.EACCES), isErrno(err, unix.EPERM):
		kind, hint = maru.Denied, "a port below 1024 needs root: run maru start as root or by systemd, or choose another port"
	}
	err = maru.Errorf(kind, "listen at %s %s: %w", network, address, err)
	if hint != "" {
		err = maru.WithHint(err, hint)
	}
	return err
}
