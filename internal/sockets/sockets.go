// Package sockets opens listening sockets in one process and hands them to another: by inheritance,
// in the manner of systemd's socket activation (sd_listen_fds(3)), and over a unix socket.
package sockets

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstInherited is the first descriptor that a process inherits, SD_LISTEN_FDS_START.
const firstInherited = 3

// Open binds a listening socket. Network is tcp, tcp4, tcp6, udp, udp4, udp6 or unix. An address that
// the machine does not have yet is allowed (IP_FREEBIND), so that sockets can be held before the
// interface exists. The file is the caller's to close.
func Open(ctx context.Context, network, address string) (*os.File, error) {
	config := net.ListenConfig{Control: freebind}
	if strings.HasPrefix(network, "udp") {
		conn, err := config.ListenPacket(ctx, network, address)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return Duplicate(conn.(*net.UDPConn), address)
	}
	listener, err := config.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	if l, ok := listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	return Duplicate(listener.(syscall.Conn), address)
}

// Duplicate copies the descriptor of a socket or file; both share what it refers to. Unlike the File
// method of package net's types, it gives a file whose Fd leaves the socket in non-blocking mode:
// blocking mode would be every holder's, and an Accept elsewhere would never be interrupted.
func Duplicate(of syscall.Conn, name string) (*os.File, error) {
	raw, err := of.SyscallConn()
	if err != nil {
		return nil, err
	}
	var copied int
	var failed error
	if err := raw.Control(func(fd uintptr) { copied, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, fmt.Errorf("copy descriptor: %w", failed)
	}
	return os.NewFile(uintptr(copied), name), nil
}

func freebind(network, _ string, conn syscall.RawConn) error {
	if strings.HasPrefix(network, "unix") {
		return nil
	}
	var failed error
	err := conn.Control(func(fd uintptr) {
		if strings.HasSuffix(network, "6") {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
			return
		}
		failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
	})
	if err != nil {
		return err
	}
	return failed
}

// Parent is what the process that started this one handed to it.
type Parent struct {
	Files      map[string]*os.File // by name
	Supervised bool                // it is the supervisor, which holds sockets and files for this process
	notify     string
}

// ProcessMark is the environment variable by which the supervisor finds its processes again.
const ProcessMark = "MARU_PROCESS"

// FromParent takes what the parent process handed to this one, and clears the environment that told
// of it, so that further children don't take it for theirs. LISTEN_PID, when set, must be this process.
func FromParent() (Parent, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	p := Parent{Files: map[string]*os.File{}, Supervised: os.Getenv(ProcessMark) != "", notify: os.Getenv("NOTIFY_SOCKET")}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", ProcessMark} {
		if err := os.Unsetenv(name); err != nil {
			return p, err
		}
	}
	if count == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return p, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 1000 {
		return p, fmt.Errorf("LISTEN_FDS=%q is not a number of descriptors", count)
	}
	given := strings.Split(names, ":")
	for i := range n {
		fd := firstInherited + i
		unix.CloseOnExec(fd)
		name := "unknown"
		if i < len(given) && given[i] != "" {
			name = given[i]
		}
		p.Files[name] = os.NewFile(uintptr(fd), name)
	}
	return p, nil
}

// Listener takes the listening socket of the name.
func (p Parent) Listener(name string) (net.Listener, error) {
	file := p.Files[name]
	if file == nil {
		return nil, fmt.Errorf("no socket %q was handed to this process: it is started by 'maru start', or by systemd", name)
	}
	delete(p.Files, name)
	listener, err := Listener(file)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", name, err)
	}
	return listener, nil
}

// Ready tells the parent that this process does its work, and its version (sd_notify(3)).
func (p Parent) Ready(version string) error {
	if p.notify == "" {
		return nil
	}
	return send(p.notify, ready(version), nil)
}

// versionStatus is what a process that is ready says of itself before its version.
const versionStatus = "STATUS=version "

func ready(version string) string { return lines("READY=1", versionStatus+version) }

// VersionOf gives the version in what a process said when it became ready, or in the status that systemd
// shows of it.
func VersionOf(said string) string {
	for line := range strings.Lines(said) {
		line = "STATUS=" + strings.TrimPrefix(strings.TrimSpace(line), "STATUS=")
		if version, ok := strings.CutPrefix(line, versionStatus); ok {
			return version
		}
	}
	return ""
}

// Environment gives the variables that tell a child of the names of its inherited sockets.
func Environment(names []string) []string {
	return []string{"LISTEN_FDS=" + strconv.Itoa(len(names)), "LISTEN_FDNAMES=" + strings.Join(names, ":")}
}

// Listener makes a stream listener of the file and closes the file.
func Listener(file *os.File) (net.Listener, error) {
	defer file.Close()
	listener, err := net.FileListener(file)
	if unixListener, ok := listener.(*net.UnixListener); ok {
		unixListener.SetUnlinkOnClose(false)
	}
	return listener, err
}

// PacketConn makes a packet connection of the file and closes the file.
func PacketConn(file *os.File) (net.PacketConn, error) {
	defer file.Close()
	return net.FilePacketConn(file)
}
