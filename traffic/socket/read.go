package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Raw gives the socket beneath a connection, or nil where there is none to be had.
func Raw(c net.Conn) syscall.RawConn {
	var conn syscall.Conn
	switch c := Beneath(c).(type) {
	case *net.TCPConn:
		conn = c
	case *net.UnixConn:
		conn = c
	default:
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// Beneath gives the connection that is under TLS and whatever else there is, and is read and written in the
// end.
func Beneath(c net.Conn) net.Conn {
	for {
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = over.NetConn()
	}
}

// Read reads once without waiting. again tells that nothing is there yet.
func Read(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err := unix.Read(int(fd), p)
		switch {
		case err == nil && n == 0:
			return 0, false, io.EOF
		case err == nil:
			return n, false, nil
		case errors.Is(err, unix.EAGAIN):
			return 0, true, nil
		case !errors.Is(err, unix.EINTR):
			return 0, false, os.NewSyscallError("read", err)
		}
	}
}
