package supervisor

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReadyBeforeExpected: a process may say that it is ready before the supervisor, which the machine gave
// no time since, knows its number.
func TestReadyBeforeExpected(t *testing.T) {
	n, err := newNotifier(filepath.Join(t.TempDir(), "notify.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	go n.run()
	process, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	h, err := n.start(func() (*handle, error) {
		if _, err := process.Write([]byte("READY=1")); err != nil {
			return nil, err
		}
		for unread(t, n.conn) > 0 {
			runtime.Gosched()
		}
		return newHandle(os.Getpid()), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.ready:
	case <-time.After(10 * time.Second):
		t.Error("it was not heard")
	}
}

// unread is how many bytes wait in the socket.
func unread(t *testing.T, c *net.UnixConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return n
}
