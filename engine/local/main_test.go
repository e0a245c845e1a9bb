package local_test

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

// Environment of the test binary when it runs again inside its own namespaces, or as an engine.
const (
	insideVariable = "MARU_TEST_INSIDE"
	engineVariable = "MARU_TEST_ENGINE"
)

// testName names the cgroups and interfaces of this run.
var testName = "t" + fmt.Sprint(os.Getpid()%100000)

// TestMain runs the tests inside network, mount and process namespaces of their own, so that they
// touch nothing of the machine's, and everything that they start ends with them.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(engineVariable) != "":
		os.Exit(runEngine())
	case os.Getenv(insideVariable) != "":
		if err := enter(); err != nil {
			fmt.Fprintln(os.Stderr, "enter namespaces:", err)
			os.Exit(1)
		}
		testName = os.Getenv(insideVariable)
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Println("these tests run containers, which needs root")
		os.Exit(1)
	}
	inside := exec.Command("/proc/self/exe", os.Args[1:]...)
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	inside.Env = append(os.Environ(), insideVariable+"="+testName)
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := inside.Run()
	cleanUp()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
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
func cleanUp() {
	groups, err := cgroup.Open()
	if err != nil {
		return
	}
	for _, name := range groups.Children("/") {
		if strings.HasPrefix(name, testName) {
			if err := groups.Remove("/" + name); err != nil {
				fmt.Fprintln(os.Stderr, "clean up:", err)
			}
		}
	}
	folders, _ := filepath.Glob("/tmp/" + testName + "-*")
	for _, folder := range folders {
		_ = os.RemoveAll(folder)
	}
}
