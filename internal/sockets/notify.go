package sockets

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// barrierTimeout is how long systemd may take to work off the messages sent to it before.
const barrierTimeout = 10 * time.Second

// send gives the parent a message in the manner of sd_notify(3), with a descriptor if file is not nil.
func send(to, message string, file *os.File) error {
	if file == nil {
		return sendRights(to, message, nil)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = sendRights(to, message, unix.UnixRights(int(fd))) })
	return errors.Join(err, failed)
}

func sendRights(to, message string, rights []byte) error {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("notify the parent: %w", err)
	}
	defer unix.Close(socket)
	for {
		err := unix.Sendmsg(socket, []byte(message), rights, &unix.SockaddrUnix{Name: to}, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("notify the parent: %w", err)
		}
		return nil
	}
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
