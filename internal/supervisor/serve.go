package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

func listenClients(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a stale socket: %w", err)
	}
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // who may ask for what is told by the peer's credentials
		return nil, fmt.Errorf("listen for clients: %w", errors.Join(err, listener.Close()))
	}
	return listener, nil
}

// serve answers clients until the listener is closed, and returns when all have their answers.
func (s *Supervisor) serve(ctx context.Context, listener *net.UnixListener) {
	var pending sync.WaitGroup
	defer pending.Wait()
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		pending.Go(func() {
			defer conn.Close()
			s.answer(ctx, conn)
		})
	}
}

func (s *Supervisor) answer(ctx context.Context, conn *net.UnixConn) {
	var r request
	given, err := receive(conn, &r)
	if err != nil {
		return
	}
	a, file, err := answer{}, (*os.File)(nil), s.allow(conn, r)
	if err == nil {
		a, file, err = s.do(ctx, r, given)
	} else if given != nil {
		_ = given.Close()
	}
	if err != nil {
		a = answer{Kind: maru.KindOf(err), Error: err.Error()}
	}
	if err := send(conn, a, file); err != nil {
		s.log.Warn("could not answer a client", "op", r.Op, "error", err)
	}
	if file != nil {
		_ = file.Close()
	}
}

// allow tells whether the peer may ask this: root all, the processes' users what concerns sockets.
func (s *Supervisor) allow(conn *net.UnixConn, r request) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("ask who a client is: %w", err)
	}
	uid := int(peer.Uid)
	if uid == os.Getuid() {
		return nil
	}
	if r.Op == "listen" || r.Op == "close" || r.Op == "keep" || r.Op == "kept" {
		for _, spec := range s.cfg.Processes {
			if uid == spec.UID {
				return nil
			}
		}
	}
	return maru.WithHint(maru.Errorf(maru.Denied, "user %d may not ask the supervisor for %s", uid, r.Op), "run as root")
}

// do carries out one request. It owns given.
func (s *Supervisor) do(ctx context.Context, r request, given *os.File) (answer, *os.File, error) {
	if r.Op == "keep" && given != nil {
		s.held.keep(r.Name, given)
		return answer{}, nil, nil
	}
	if given != nil {
		_ = given.Close()
	}
	switch r.Op {
	case "listen":
		file, err := s.held.get(ctx, r.Network, r.Address)
		return answer{}, file, err
	case "close":
		s.held.close(r.Network, r.Address)
		return answer{}, nil, nil
	case "kept":
		file, err := s.held.leave(r.Name)
		return answer{}, file, err
	case "restart":
		for _, p := range s.processes {
			if p.spec.Name == r.Name {
				return answer{}, nil, p.askRestart(ctx)
			}
		}
		return answer{}, nil, maru.Errorf(maru.NotFound, "there is no process %q", r.Name)
	case "status":
		var a answer
		for _, p := range s.processes {
			a.Processes = append(a.Processes, p.status())
		}
		return a, nil, nil
	case "shutdown":
		s.shutdownOnce.Do(func() { close(s.shutdown) })
		<-s.stopped
		return answer{}, nil, nil
	}
	return answer{}, nil, maru.Errorf(maru.Unsupported, "request %q is not known", r.Op)
}
