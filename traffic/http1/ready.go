package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawConn gives the socket beneath a connection, or nil where there is none to be had.
func rawConn(c net.Conn) syscall.RawConn {
	tcp, ok := beneath(c).(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// beneath gives the connection that is under TLS and whatever else there is.
func beneath(c net.Conn) net.Conn {
	for {
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = over.NetConn()
	}
}

// readSocket reads once without waiting. again tells that nothing is there yet.
func readSocket(fd uintptr, p []byte) (n int, again bool, err error) {
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

// quiet tells whether an idle connection is as it should be: open, and with nothing to read.
func quiet(fd uintptr, one *byte) bool {
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(one)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return errno == unix.EAGAIN
		}
	}
}

// gone tells whether the other side has ended the connection, even if there is something to read
// before its end.
func gone(raw syscall.RawConn) (is bool) {
	err := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		is = err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return is || err != nil
}

// waiting tells whether there is something to read.
func waiting(raw syscall.RawConn) (is bool) {
	err := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		is = err == nil && n > 0
	})
	return is && err == nil
}
