// Package proxyproto is the PROXY protocol, versions 1 and 2: a header that a proxy puts before a connection
// to tell whose it is (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	// longest1 is a header of version 1 at its longest, and longest2 what follows one of version 2 at most:
	// addresses with what some proxies tell besides, such as of TLS.
	longest1 = 107
	longest2 = 4096
	patience = 5 * time.Second // for a header
)

// ErrNone says that a connection does not begin with a header.
var ErrNone = errors.New("the connection does not begin with a PROXY header")

// Header is what a proxy tells of a connection. Without addresses it is the proxy's own.
type Header struct{ Source, Destination netip.AddrPort }

// Read reads a header, and not a byte more. The error is ErrNone, that of the reader, or says what is wrong.
func Read(r io.Reader) (Header, error) {
	var start [len(signature)]byte
	if _, err := io.ReadFull(r, start[:]); err != nil {
		return Header{}, short(err)
	}
	switch {
	case string(start[:]) == signature:
		return read2(r)
	case bytes.HasPrefix(start[:], []byte("PROXY ")):
		return read1(r, start[:])
	}
	return Header{}, ErrNone
}

// short tells of a connection that ended within its header.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// read1 reads the rest of a line.
func read1(r io.Reader, start []byte) (Header, error) {
	line := append(make([]byte, 0, longest1), start...)
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == longest1 || line[len(line)-1] == '\n' {
			return Header{}, errors.New("a PROXY header of version 1 has no end")
		}
		n, err := r.Read(line[len(line) : len(line)+1])
		if line = line[:len(line)+n]; err != nil && n == 0 {
			return Header{}, short(err)
		}
	}
	return parse1(string(line[:len(line)-2]))
}

func parse1(line string) (Header, error) {
	fields := strings.Split(line, " ")
	if len(fields) >= 2 && fields[1] == "UNKNOWN" {
		return Header{}, nil
	}
	if len(fields) != 6 {
		return Header{}, fmt.Errorf("a PROXY header of version 1 has %d fields", len(fields))
	}
	source, err := address1(fields[1], fields[2], fields[4])
	if err != nil {
		return Header{}, err
	}
	destination, err := address1(fields[1], fields[3], fields[5])
	if err != nil {
		return Header{}, err
	}
	return Header{source, destination}, nil
}

func address1(family, address, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" || (family == "TCP4") != a.Is4() || family != "TCP4" && family != "TCP6" {
		return netip.AddrPort{}, fmt.Errorf("a PROXY header of version 1 has the address %q for %q", address, family)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, fmt.Errorf("a PROXY header of version 1 has the port %q", port)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// Of version 2: commands, and families with the transport.
const (
	local2 = 0x20
	proxy2 = 0x21
	tcp4   = 0x11
	tcp6   = 0x21
)

func read2(r io.Reader) (Header, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Header{}, short(err)
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	if head[0] != local2 && head[0] != proxy2 || size > longest2 {
		return Header{}, fmt.Errorf("a PROXY header of version 2 begins with %#x and has %d bytes", head[0], size)
	}
	rest := make([]byte, size)
	if _, err := io.ReadFull(r, rest); err != nil {
		return Header{}, short(err)
	}
	length := 0
	switch {
	case head[0] == local2:
		return Header{}, nil
	case head[1] == tcp4:
		length = 4
	case head[1] == tcp6:
		length = 16
	default:
		return Header{}, nil // of a family that says nothing here
	}
	if size < 2*length+4 {
		return Header{}, fmt.Errorf("a PROXY header of version 2 has %d bytes of addresses", size)
	}
	at := func(address, port int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(rest[address : address+length])
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(rest[port:]))
	}
	return Header{at(0, 2*length), at(length, 2*length+2)}, nil
}

// Append adds the header of a version, 1 or 2, to b. One without both addresses says that they are not known.
func (h Header) Append(b []byte, version int) []byte {
	source, destination := h.Source, h.Destination
	known := source.IsValid() && destination.IsValid()
	four := known && source.Addr().Unmap().Is4() && destination.Addr().Unmap().Is4()
	if version == 1 {
		switch {
		case !known:
			return append(b, "PROXY UNKNOWN\r\n"...)
		case four:
			return fmt.Appendf(b, "PROXY TCP4 %s %s %d %d\r\n", source.Addr().Unmap(), destination.Addr().Unmap(), source.Port(), destination.Port())
		}
		return fmt.Appendf(b, "PROXY TCP6 %s %s %d %d\r\n", six(source), six(destination), source.Port(), destination.Port())
	}
	b = append(b, signature...)
	switch {
	case !known:
		return append(b, local2, 0, 0, 0)
	case four:
		b = append(b, proxy2, tcp4, 0, 12)
		b = append(b, source.Addr().Unmap().AsSlice()...)
		b = append(b, destination.Addr().Unmap().AsSlice()...)
	default:
		from, to := source.Addr().As16(), destination.Addr().As16()
		b = append(b, proxy2, tcp6, 0, 36)
		b = append(append(b, from[:]...), to[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, source.Port())
	return binary.BigEndian.AppendUint16(b, destination.Port())
}

// six writes an address of a pair of which one is of IPv6.
func six(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "::ffff:" + a.Addr().String()
	}
	return a.Addr().WithZone("").String()
}

// Of gives the header for a connection from a client.
func Of(client net.Conn) Header {
	return Header{addrPort(client.RemoteAddr()), addrPort(client.LocalAddr())}
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		at := tcp.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
	}
	return netip.AddrPort{}
}

// Trusted are the proxies whose connections begin with a header. No other one's is believed: to whoever reads
// the connection, it is part of what is said on it.
type Trusted []netip.Prefix

// Accept gives the connection as it is to whom it is from: that of a trusted proxy has the addresses that its
// header tells. It waits for the header, for 5 s at most. On an error the connection is the caller's still.
func (t Trusted) Accept(c net.Conn) (net.Conn, error) {
	if !t.trusts(addrPort(c.RemoteAddr()).Addr()) {
		return c, nil
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	h, err := Read(c)
	if err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if !h.Source.IsValid() {
		return c, nil
	}
	return &conn{c, h}, nil
}

func (t Trusted) trusts(a netip.Addr) bool {
	for _, p := range t {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// conn is a connection whose addresses somebody told.
type conn struct {
	net.Conn
	header Header
}

// RemoteAddr is the client's.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.header.Source) }

// LocalAddr is that by which the client came to the proxy before.
func (c *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.header.Destination) }

// NetConn is the connection beneath, on which the same is read.
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending half.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
