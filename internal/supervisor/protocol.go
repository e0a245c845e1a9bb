package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// maxMessage bounds a request or answer, in bytes.
const maxMessage = 64 << 10

// request is what a process asks of the supervisor, one for each connection. A Keep carries a
// descriptor with it; the answers to Listen and Kept do.
type request struct {
	Op      string `json:"op"` // listen, close, keep, kept, restart, shutdown, status
	Network string `json:"network,omitempty"`
	Address string `json:"address,omitempty"`
	Name    string `json:"name,omitempty"`
}

type answer struct {
	Kind      maru.Kind `json:"kind,omitempty"`
	Error     string    `json:"error,omitempty"`
	Processes []Process `json:"processes,omitempty"`
}

// Process is how one of the platform's processes is.
type Process struct {
	Name     string    `json:"name"`
	PID      int       `json:"pid,omitempty"` // 0: not running
	Since    time.Time `json:"since,omitzero"`
	Restarts int       `json:"restarts"`
	Ready    bool      `json:"ready"`
	Version  string    `json:"version,omitempty"` // as it told; "": not known
}

// Client asks the supervisor that listens at a socket.
type Client struct{ Socket string }

// Listen gives a listening socket that the supervisor holds, bound now if it was not before.
func (c Client) Listen(ctx context.Context, network, address string) (*os.File, error) {
	_, file, err := c.ask(ctx, request{Op: "listen", Network: network, Address: address}, nil)
	return file, err
}

// Close makes the supervisor let go of a socket got by Listen.
func (c Client) Close(ctx context.Context, network, address string) error {
	_, _, err := c.ask(ctx, request{Op: "close", Network: network, Address: address}, nil)
	return err
}

// Keep leaves a descriptor with the supervisor, which outlives this process. The file stays the caller's.
func (c Client) Keep(ctx context.Context, name string, file *os.File) error {
	_, _, err := c.ask(ctx, request{Op: "keep", Name: name}, file)
	return err
}

// Kept gives a descriptor that was left under the name; NotFound.
func (c Client) Kept(ctx context.Context, name string) (*os.File, error) {
	_, file, err := c.ask(ctx, request{Op: "kept", Name: name}, nil)
	return file, err
}

// Restart ends a process in good order and starts its successor.
func (c Client) Restart(ctx context.Context, process string) error {
	_, _, err := c.ask(ctx, request{Op: "restart", Name: process}, nil)
	return err
}

// Shutdown ends all processes of the platform, and returns when they are gone. Instances run on.
func (c Client) Shutdown(ctx context.Context) error {
	_, _, err := c.ask(ctx, request{Op: "shutdown"}, nil)
	return err
}

// Status tells how the processes are.
func (c Client) Status(ctx context.Context) ([]Process, error) {
	a, _, err := c.ask(ctx, request{Op: "status"}, nil)
	return a.Processes, err
}

func (c Client) ask(ctx context.Context, r request, file *os.File) (answer, *os.File, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unixpacket", c.Socket)
	if err != nil {
		return answer{}, nil, maru.Errorf(maru.Unavailable, "supervisor: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	sock := conn.(*net.UnixConn)
	if err := send(sock, r, file); err != nil {
		return answer{}, nil, fmt.Errorf("supervisor: %s: %w", r.Op, err)
	}
	var a answer
	got, err := receive(sock, &a)
	if err != nil {
		return answer{}, nil, fmt.Errorf("supervisor: %s: %w", r.Op, err)
	}
	if a.Error != "" {
		if got != nil {
			_ = got.Close()
		}
		return answer{}, nil, maru.Errorf(a.Kind, "%s", a.Error)
	}
	return a, got, nil
}

// send writes one message, with a descriptor if file is not nil.
func send(conn *net.UnixConn, message any, file *os.File) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if file != nil {
		raw, err := file.SyscallConn()
		if err != nil {
			return err
		}
		var failed error
		err = raw.Control(func(fd uintptr) {
			_, _, failed = conn.WriteMsgUnix(data, unix.UnixRights(int(fd)), nil)
		})
		return errors.Join(err, failed)
	}
	_, _, err = conn.WriteMsgUnix(data, rights, nil)
	return err
}

// receive reads one message and the descriptor that came with it, if any.
func receive(conn *net.UnixConn, message any) (*os.File, error) {
	data, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, nc, _, _, err := conn.ReadMsgUnix(data, control)
	if err != nil {
		return nil, err
	}
	var file *os.File
	if nc > 0 {
		if file, err = firstFile(control[:nc]); err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal(data[:n], message); err != nil {
		if file != nil {
			_ = file.Close()
		}
		return nil, fmt.Errorf("read message: %w", err)
	}
	return file, nil
}

func firstFile(control []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var first *os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if first != nil {
				_ = unix.Close(fd)
				continue
			}
			first = os.NewFile(uintptr(fd), "received")
		}
	}
	return first, nil
}
