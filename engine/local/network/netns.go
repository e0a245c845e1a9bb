package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/engine/local/userns"
)

// makeOwnedNetns is makeNetns with a user namespace, of the users, that lives at owner: it owns the
// network namespace, so that who is root in the one has a say in the other.
func makeOwnedNetns(path, owner string, users userns.Range) (*netlink.Handle, *os.File, error) {
	for _, place := range []string{path, owner} {
		f, err := os.OpenFile(place, os.O_CREATE|os.O_RDONLY, 0o600)
		if err != nil {
			return nil, nil, err
		}
		f.Close()
	}
	err := userns.Make(users, unix.CLONE_NEWNET, func(folder string) error {
		return errors.Join(unix.Mount(folder+"/ns/user", owner, "", unix.MS_BIND, ""), unix.Mount(folder+"/ns/net", path, "", unix.MS_BIND, ""))
	})
	if err != nil {
		return nil, nil, err
	}
	ns, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	handle, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		ns.Close()
		return nil, nil, fmt.Errorf("enter network namespace: %w", err)
	}
	return handle, ns, nil
}

// makeNetns makes a network namespace that lives at path, and gives a netlink handle within it and
// an open file that names it. The caller closes both.
func makeNetns(path string) (*netlink.Handle, *os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	f.Close()
	type made struct {
		handle *netlink.Handle
		err    error
	}
	done := make(chan made, 1)
	go func() {
		// A thread that can't come back stays locked, and ends with this goroutine.
		runtime.LockOSThread()
		own := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		home, err := os.Open(own)
		if err != nil {
			done <- made{nil, err}
			return
		}
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- made{nil, fmt.Errorf("new network namespace: %w", err)}
			return
		}
		err = unix.Mount(own, path, "", unix.MS_BIND, "")
		var handle *netlink.Handle
		if err == nil {
			handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		}
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- made{handle, err}
	}()
	m := <-done
	if m.err != nil {
		return nil, nil, m.err
	}
	if f, err = os.Open(path); err != nil {
		m.handle.Close()
		return nil, nil, err
	}
	return m.handle, f, nil
}

// isNamespace tells whether a namespace lives at path.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// dropNamespace takes the namespace's name away. It ends when the last process in it does.
func dropNamespace(path string) error {
	for isNamespace(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
