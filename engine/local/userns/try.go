package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/layout"
)

// TryName is what the init program is called by to have it try what an instance with users of its own
// needs from the kernel.
const TryName = "maru-try-users"

// Try tells why there can't be instances that have users of their own and their root file system below
// the folder, as Unsupported, or nil. It has a process try, with the init program.
func Try(folder, program string) error {
	// Who is root in an instance only has to get through to it.
	switch closed, err := layout.ClosedAt(folder); {
	case err != nil:
		return err
	case closed != "":
		return maru.Errorf(maru.Unsupported, "%s is closed to other users", closed)
	}
	// Opened here: the folders on the way to it may be closed to who runs it.
	f, err := os.Open(program)
	if err != nil {
		return err
	}
	defer f.Close()
	mappings := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(First), Size: Size}}
	cmd := exec.Cmd{Path: "/proc/self/fd/3", ExtraFiles: []*os.File{f}, Args: []string{TryName}, Env: []string{}, SysProcAttr: &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP,
		UidMappings: mappings, GidMappings: mappings, GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{},
	}}
	out, err := cmd.CombinedOutput()
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) {
		return maru.Errorf(maru.Unsupported, "a user namespace is less than instances need: %s", strings.TrimSpace(string(out)))
	}
	if err != nil {
		return maru.Errorf(maru.Unsupported, "new user namespace: %w", err)
	}
	return nil
}

// TryFolder tells why the folder can't be mounted with the owners that files have to who is in a user
// namespace, as Unsupported, or nil.
func TryFolder(folder string) error {
	return Make(First, 0, func(process string) error {
		ns, err := os.Open(process + "/ns/user")
		if err != nil {
			return err
		}
		defer ns.Close()
		tree, err := unix.OpenTree(unix.AT_FDCWD, folder, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("open %s to mount it: %w", folder, err)
		}
		defer unix.Close(tree)
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
		if err != nil {
			return maru.Errorf(maru.Unsupported, "the file system of %s, or the kernel, can't show files with other owners: %w", folder, err)
		}
		return nil
	})
}
