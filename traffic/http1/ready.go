package http1

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
