package supervisor

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// demand waits for a connection at a held socket without accepting it.
type demand struct{ socket *os.File }

func newDemand(socket *os.File) *demand { return &demand{socket} }

// wait returns true when a connection waits or a restart is asked for, false when stop is closed.
func (d *demand) wait(stop <-chan struct{}, restarts <-chan chan error) bool {
	reader, writer, err := os.Pipe()
	if err != nil {
		return false
	}
	defer reader.Close()
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		fds := []unix.PollFd{{Fd: int32(d.socket.Fd()), Events: unix.POLLIN}, {Fd: int32(reader.Fd()), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	demanded := true
	select {
	case <-waiting:
	case reply := <-restarts:
		reply <- nil // nothing runs: what is started next is new
	case <-stop:
		demanded = false
	}
	_ = writer.Close()
	<-waiting
	return demanded
}
