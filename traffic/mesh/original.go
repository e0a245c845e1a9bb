package mesh

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// Original asks the kernel where a connection was going before it was led here. For one that was not
// led, it is the address that was connected to.
func Original(c net.Conn) (netip.AddrPort, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return netip.AddrPort{}, maru.Errorf(maru.Internal, "original destination: a %T has none", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, maru.Errorf(maru.Internal, "original destination: %w", err)
	}
	level := unix.SOL_IP
	if local, ok := c.LocalAddr().(*net.TCPAddr); ok && local.IP.To4() == nil {
		level = unix.SOL_IPV6
	}
	var addr netip.AddrPort
	var failed error
	if err := raw.Control(func(fd uintptr) { addr, failed = original(fd, level) }); err != nil {
		return netip.AddrPort{}, maru.Errorf(maru.Internal, "original destination: %w", err)
	}
	if failed != nil {
		if local, ok := c.LocalAddr().(*net.TCPAddr); ok {
			a := local.AddrPort()
			return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
		}
		return netip.AddrPort{}, maru.Errorf(maru.Internal, "original destination: %w", failed)
	}
	return addr, nil
}

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, which are the same number.
const soOriginalDst = 80

func original(fd uintptr, level int) (netip.AddrPort, error) {
	var buf [unix.SizeofSockaddrInet6]byte
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), soOriginalDst,
		uintptr(unsafe.Pointer(&buf)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	return decodeSockaddr(buf[:size])
}

// decodeSockaddr reads a struct sockaddr_in or sockaddr_in6.
func decodeSockaddr(b []byte) (netip.AddrPort, error) {
	if len(b) < 2 {
		return netip.AddrPort{}, maru.Errorf(maru.Internal, "socket address of %d bytes", len(b))
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET && len(b) >= 8:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), nil
	case family == unix.AF_INET6 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), binary.BigEndian.Uint16(b[2:])), nil
	default:
		return netip.AddrPort{}, maru.Errorf(maru.Internal, "socket address of family %d and %d bytes", family, len(b))
	}
}
