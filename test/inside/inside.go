// Package inside runs the tests of a package inside network, mount and process namespaces of their own, so that
// they touch nothing of the machine's, and everything that they start ends with them.
package inside

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/engine/local/cgroup"
)

// variable has the name of this run, inside.
const variable = "MARU_TEST_INSIDE"

// Run runs the tests inside and gives the exit code. The name, which begins with the prefix, is for the cgroups,
// interfaces and folders (/tmp/NAME-…) of this run: what is left of them is removed.
func Run(m *testing.M, prefix string, name *string) int {
	if *name = os.Getenv(variable); *name != "" {
		if err := enter(); err != nil {
			fmt.Fprintln(os.Stderr, "enter namespaces:", err)
			return 1
		}
		return m.Run()
	}
	*name = prefix + fmt.Sprint(os.Getpid()%100000)
	if os.Getuid() != 0 {
		fmt.Println("these tests run containers, which needs root")
		return 1
	}
	inside := exec.Command("/proc/self/exe", os.Args[1:]...)
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	inside.Env = append(os.Environ(), variable+"="+*name)
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := inside.Run()
	cleanUp(*name)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(loopback)
}

// cleanUp removes the cgroups and folders of all engines of this run, which are all dead by now.
func cleanUp(run string) {
	groups, err := cgroup.Open()
	if err != nil {
		return
	}
	for _, name := range groups.Children("/") {
		if strings.HasPrefix(name, run) {
			if err := groups.Remove("/" + name); err != nil {
				fmt.Fprintln(os.Stderr, "clean up:", err)
			}
		}
	}
	folders, _ := filepath.Glob("/tmp/" + run + "-*")
	for _, folder := range folders {
		_ = os.RemoveAll(folder)
	}
}
