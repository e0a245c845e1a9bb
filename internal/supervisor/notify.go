package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/internal/sockets"
)

// notifier receives the processes' messages of readiness, in the manner of sd_notify(3).
type notifier struct {
	path string
	conn *net.UnixConn

	starting sync.RWMutex // held for reading while a process starts: it may be ready before it is expected
	mu       sync.Mutex
	expected map[int]*handle
}

func newNotifier(path string) (*notifier, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a stale socket: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for notifications: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	// The proxy writes here without being root; who wrote is known from the kernel.
	if err = errors.Join(err, failed, os.Chmod(path, 0o666)); err != nil {
		return nil, fmt.Errorf("listen for notifications: %w", err)
	}
	return &notifier{path: path, conn: conn, expected: map[int]*handle{}}, nil
}

func (n *notifier) run() {
	data, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		count, nc, _, _, err := n.conn.ReadMsgUnix(data, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !bytes.Contains(data[:count], []byte("READY=1")) {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(control[:nc])
		if err != nil || len(messages) == 0 {
			continue
		}
		if credentials, err := unix.ParseUnixCredentials(&messages[0]); err == nil {
			n.ready(int(credentials.Pid), sockets.VersionOf(string(data[:count])))
		}
	}
}

func (n *notifier) ready(pid int, version string) {
	n.starting.Lock()
	defer n.starting.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.expected[pid]; h != nil {
		h.becomeReady(version)
	}
}

// start expects the process that begin starts.
func (n *notifier) start(begin func() (*handle, error)) (*handle, error) {
	n.starting.RLock()
	defer n.starting.RUnlock()
	h, err := begin()
	if err == nil {
		n.expect(h)
	}
	return h, err
}

func (n *notifier) expect(h *handle) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.expected[h.pid()] = h
}

func (n *notifier) forget(h *handle) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.expected, h.pid())
}

func (n *notifier) close() { _ = n.conn.Close() }
