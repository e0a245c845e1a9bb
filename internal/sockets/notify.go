package sockets

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// barrierTimeout is how long systemd may take to work off the messages sent to it before.
const barrierTimeout = 10 * time.Second

// send gives the parent a message in the manner of sd_notify(3), with a descriptor if file is not nil.
func send(to, message string, file *os.File) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: to, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the parent: %w", err)
	}
	defer conn.Close()
	var rights []byte
	if file != nil {
		raw, err := file.SyscallConn()
		if err != nil {
			return err
		}
		var failed error
		err = raw.Control(func(fd uintptr) {
			rights = unix.UnixRights(int(fd))
			_, _, failed = conn.WriteMsgUnix([]byte(message), rights, nil)
		})
		if err := errors.Join(err, failed); err != nil {
			return fmt.Errorf("notify the parent: %w", err)
		}
		return nil
	}
	if _, err := conn.Write([]byte(message)); err != nil {
		return fmt.Errorf("notify the parent: %w", err)
	}
	return nil
}

// barrier returns when systemd has worked off all that was sent before, which it shows by closing a
// descriptor.
func barrier(to string) error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reader.Close()
	err = send(to, "BARRIER=1", writer)
	if err := errors.Join(err, writer.Close()); err != nil {
		return err
	}
	if err := reader.SetReadDeadline(time.Now().Add(barrierTimeout)); err != nil {
		return err
	}
	if _, err := reader.Read(make([]byte, 1)); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("systemd did not answer in %s", barrierTimeout)
	}
	return nil
}

// lines joins the assignments of a message.
func lines(assignments ...string) string { return strings.Join(assignments, "\n") }
