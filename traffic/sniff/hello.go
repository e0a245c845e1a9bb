package sniff

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"
)

// mostHello bounds what is read of a connection until its ClientHello is whole, in bytes. Those of browsers
// have 2 KiB.
const mostHello = 64 << 10

var (
	errHelloRead = errors.New("the ClientHello is read")
	errHelloSize = errors.New("the ClientHello is too large")
)

// ServerName reads the ClientHello that a connection by TLS begins with, for at most patience, and gives the
// name that it asks for, in lower case, and what was read. It is read by crypto/tls, so that nobody whose
// TLS is ended here is understood otherwise. Of an encrypted ClientHello it is the outer name. An error says
// that it can't be read; what was read is given all the same.
func ServerName(c net.Conn, patience time.Duration) (name string, first []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", nil, err
	}
	r := &recorder{Conn: c}
	err = tls.Server(r, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name = strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
		return nil, errHelloRead
	}}).Handshake()
	if !errors.Is(err, errHelloRead) {
		return "", r.read, err
	}
	return name, r.read, c.SetReadDeadline(time.Time{})
}

// recorder keeps what is read, and sends nothing.
type recorder struct {
	net.Conn
	read []byte
}

// Read reads and keeps.
func (r *recorder) Read(p []byte) (int, error) {
	if len(r.read) >= mostHello {
		return 0, errHelloSize
	}
	n, err := r.Conn.Read(p)
	r.read = append(r.read, p[:n]...)
	return n, err
}

// Write sends nothing.
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }

// Close closes nothing.
func (r *recorder) Close() error { return nil }

// SetWriteDeadline does nothing.
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// Again gives a connection on which what was read is read again.
func Again(c net.Conn, first []byte) net.Conn {
	if len(first) == 0 {
		return c
	}
	return &again{c, first}
}

type again struct {
	net.Conn
	first []byte
}

// Read gives first what was read before.
func (a *again) Read(p []byte) (int, error) {
	if len(a.first) > 0 {
		n := copy(p, a.first)
		a.first = a.first[n:]
		return n, nil
	}
	return a.Conn.Read(p)
}

// NetConn is the connection beneath.
func (a *again) NetConn() net.Conn { return a.Conn }
