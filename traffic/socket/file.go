package socket

import (
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/marucloud/maru"
)

// Listener makes a listener of a file that [Open] gave, and closes the file. Closing the listener
// leaves the socket open for whoever else has it, with the connections that wait in it.
func Listener(f *os.File) (net.Listener, error) {
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "socket %s: %w", f.Name(), err)
	}
	return l, nil
}

// Packets is [Listener] for datagrams.
func Packets(f *os.File) (net.PacketConn, error) {
	defer f.Close()
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "socket %s: %w", f.Name(), err)
	}
	return pc, nil
}

func isErrno(err error, errno syscall.Errno) bool { return errors.Is(err, errno) }
