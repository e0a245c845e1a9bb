package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/memfile"
	"github.com/marucloud/maru/internal/sockets"
)

// holder keeps sockets by network and address, and descriptors that processes left, by name.
type holder struct {
	mu      sync.Mutex
	sockets map[string]*os.File
	kept    map[string]*os.File
}

func newHolder() *holder {
	return &holder{sockets: map[string]*os.File{}, kept: map[string]*os.File{}}
}

func socketKey(network, address string) string {
	if network == "unix" {
		return "unix " + address
	}
	transport, family := network[:3], strings.TrimLeft(network[3:], " ")
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		// ":8080" listens on all addresses of both families.
		return transport + " * " + strings.TrimPrefix(address, ":") + family
	}
	if addr.Addr().IsUnspecified() && family == "" {
		return transport + " * " + strconv.Itoa(int(addr.Port()))
	}
	return transport + " " + addr.Addr().Unmap().String() + " " + strconv.Itoa(int(addr.Port()))
}

// open binds those of the sockets that are not held yet.
func (h *holder) open(ctx context.Context, wanted []Socket) error {
	for _, s := range wanted {
		file, err := h.get(ctx, s.Network, s.Address)
		if err != nil {
			return err
		}
		_ = file.Close()
		if s.Network != "unix" {
			continue
		}
		if err := errors.Join(os.Chown(s.Address, s.UID, s.GID), os.Chmod(s.Address, s.Mode)); err != nil {
			return fmt.Errorf("set the owner of a socket: %w", err)
		}
	}
	return nil
}

// get gives a copy of a held socket, binding it first when it is not held.
func (h *holder) get(ctx context.Context, network, address string) (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := socketKey(network, address)
	if held := h.sockets[key]; held != nil {
		return sockets.Duplicate(held, key)
	}
	if network == "unix" {
		if err := os.MkdirAll(filepath.Dir(address), 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of a socket: %w", err)
		}
		// No process serves it any more: a live one would have been adopted with it.
		if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove a stale socket: %w", err)
		}
	}
	file, err := sockets.Open(ctx, network, address)
	if err != nil {
		return nil, listenError(network, address, err)
	}
	h.sockets[key] = file
	return sockets.Duplicate(file, key)
}

func listenError(network, address string, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return maru.WithHint(maru.Errorf(maru.Conflict, "listen on %s %s: another program has this port", network, address),
			"find it with 'ss -lntup', or choose another port")
	case errors.Is(err, unix.EACCES):
		return maru.WithHint(maru.Errorf(maru.Denied, "listen on %s %s: %w", network, address, err), "run as root")
	}
	return maru.Errorf(maru.Invalid, "listen on %s %s: %w", network, address, err)
}

func (h *holder) close(network, address string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := socketKey(network, address)
	if file := h.sockets[key]; file != nil {
		_ = file.Close()
		delete(h.sockets, key)
	}
}

// file gives the held socket itself, which stays the holder's.
func (h *holder) file(s Socket) *os.File {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sockets[socketKey(s.Network, s.Address)]
}

// inherit gives the sockets as a child is to have them. The files stay the holder's.
func (h *holder) inherit(wanted []Socket) (names []string, files []*os.File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range wanted {
		names = append(names, s.Name)
		files = append(files, h.sockets[socketKey(s.Network, s.Address)])
	}
	return names, files
}

func (h *holder) keep(name string, file *os.File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.kept[name]; old != nil {
		_ = old.Close()
	}
	h.kept[name] = file
}

func (h *holder) leave(name string) (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	file := h.kept[name]
	if file == nil {
		return nil, maru.Errorf(maru.NotFound, "nothing was kept as %q", name)
	}
	return sockets.Duplicate(file, name)
}

func (h *holder) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, files := range []map[string]*os.File{h.sockets, h.kept} {
		for _, file := range files {
			_ = file.Close()
		}
		clear(files)
	}
}

// takeBack copies the listening sockets and memory files of a running process.
func (h *holder) takeBack(from *handle) error {
	pidfd, err := unix.PidfdOpen(from.pid(), 0)
	if err != nil {
		return fmt.Errorf("open process %d: %w", from.pid(), err)
	}
	defer unix.Close(pidfd)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", from.pid()))
	if err != nil {
		return fmt.Errorf("list descriptors of process %d: %w", from.pid(), err)
	}
	for _, entry := range entries {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", from.pid(), entry.Name()))
		if err != nil {
			continue
		}
		number, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		name, isKept := strings.CutPrefix(target, "/memfd:"+memfile.Prefix)
		if !isKept && !strings.HasPrefix(target, "socket:") {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err != nil {
			return fmt.Errorf("take descriptor %d of process %d: %w", number, from.pid(), err)
		}
		unix.CloseOnExec(fd)
		h.classify(os.NewFile(uintptr(fd), target), strings.TrimSuffix(name, " (deleted)"), isKept)
	}
	return nil
}

func (h *holder) classify(file *os.File, name string, isKept bool) {
	if isKept {
		h.keep(name, file)
		return
	}
	key, ok := listeningKey(int(file.Fd()))
	h.mu.Lock()
	defer h.mu.Unlock()
	if !ok || h.sockets[key] != nil {
		_ = file.Close()
		return
	}
	h.sockets[key] = file
}

// listeningKey gives the key of a socket that listens, or of a bound UDP one.
func listeningKey(fd int) (string, bool) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return "", false
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || kind != unix.SOCK_DGRAM && listens == 0 {
		return "", false
	}
	transport := "tcp"
	if kind == unix.SOCK_DGRAM {
		if _, err := unix.Getpeername(fd); err == nil {
			return "", false
		}
		transport = "udp"
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return "", false
	}
	switch a := address.(type) {
	case *unix.SockaddrUnix:
		return "unix " + a.Name, transport == "tcp" && a.Name != ""
	case *unix.SockaddrInet4:
		return inetKey(transport, netip.AddrFrom4(a.Addr), a.Port, "4"), a.Port != 0
	case *unix.SockaddrInet6:
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		family := ""
		if err == nil && only == 1 {
			family = "6"
		}
		return inetKey(transport, netip.AddrFrom16(a.Addr), a.Port, family), a.Port != 0
	}
	return "", false
}

func inetKey(transport string, addr netip.Addr, port int, family string) string {
	if addr.IsUnspecified() {
		return socketKey(transport+family, ":"+strconv.Itoa(port))
	}
	return socketKey(transport, netip.AddrPortFrom(addr, uint16(port)).String())
}
