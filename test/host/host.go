// Package host gives tests and benchmarks an installation of Maru of their own: the real program,
// in a network and mount namespace, with an image of a service that does as it is told.
package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/marucloud/maru/internal/layout"
)

const insideVariable = "MARU_TEST_INSIDE"

// Enter starts this program again in namespaces of its own and gives its exit code; in there it
// returns inside, and the caller goes on. What has to be done where there is a network comes before.
func Enter(before ...func()) (inside bool, code int) {
	if os.Getenv(insideVariable) != "" {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return false, 1
		}
		return true, 0
	}
	for _, do := range before {
		do()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return false, exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return false, 1
	}
	return false, 0
}

func prepare() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// Machine is an installation of Maru.
type Machine struct {
	Layout  layout.Layout
	Program string
	HTTP    string // address of the gateway
	HTTPS   string // its door with TLS
	API     string
	folder  string // holds compose files; removed with the machine
	made    atomic.Int32
}

var count atomic.Int32

// Root gives the folder of the checkout.
func Root() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		if filepath.Dir(folder) == folder {
			return "", errors.New("no go.mod above the working folder")
		}
		folder = filepath.Dir(folder)
	}
}

// New prepares an installation without starting it.
func New() (*Machine, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	program := os.Getenv("MARU_PROGRAM")
	if program == "" {
		program = filepath.Join(root, "bin", "maru")
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("the program is not built, try make build: %w", err)
	}
	folder, err := os.MkdirTemp("", "maru-machine-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(folder, 0o755); err != nil { // instances with users of their own pass it
		return nil, err
	}
	n := int(count.Add(1))
	return &Machine{
		Program: program, folder: folder,
		Layout: layout.Layout{Name: "t" + strconv.FormatInt(int64(os.Getpid()), 36) + strconv.FormatInt(int64(n%36), 36), Data: filepath.Join(folder, "data"), Run: fmt.Sprintf("/tmp/mm-%d-%d", os.Getpid(), n)},
		HTTP:   fmt.Sprintf("127.0.0.1:%d", 20000+3*n), HTTPS: fmt.Sprintf("127.0.0.1:%d", 20001+3*n), API: fmt.Sprintf("127.0.0.1:%d", 20002+3*n),
	}, nil
}

// Installed gives the installation that systemd runs on this machine.
func Installed() *Machine {
	return &Machine{Program: "/usr/bin/maru", folder: os.TempDir(), Layout: layout.Layout{}.Default()}
}

// Start runs a new installation for the test, and removes it afterwards, with a look for what is left.
// The environment (NAME=VALUE) sets what the flags of "maru start" do.
func Start(t testing.TB, environment ...string) *Machine {
	t.Helper()
	m, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the platform:\n%s", m.Log(20000))
		}
		if err := m.Purge(); err != nil {
			t.Error(err)
		}
	})
	if err := m.Up(environment...); err != nil {
		t.Fatal(err)
	}
	return m
}

// Up starts the platform and returns when its API answers.
func (m *Machine) Up(environment ...string) error {
	return m.platform(environment, "start", "--detach")
}

// Stop ends the platform's processes. Instances run on.
func (m *Machine) Stop() error { return m.platform(nil, "shutdown") }

// Purge stops the platform and fails when something of it is left on the machine.
func (m *Machine) Purge() error {
	failed := []error{m.platform(nil, "shutdown", "--purge")}
	for _, left := range m.Leftovers(context.Background(), nil) {
		failed = append(failed, fmt.Errorf("left after shutdown --purge: %s", left))
	}
	for _, folder := range []string{m.Layout.Data, m.Layout.Run} {
		if _, err := os.Stat(folder); err == nil {
			failed = append(failed, fmt.Errorf("left after shutdown --purge: folder %s", folder))
		}
	}
	failed = append(failed, os.RemoveAll(m.folder), os.RemoveAll(m.Layout.Run))
	return errors.Join(failed...)
}

// Reload replaces one of the platform's processes in good order.
func (m *Machine) Reload(process string) error { return m.platform(nil, "reload", process) }

func (m *Machine) platform(environment []string, command string, args ...string) error {
	cmd := exec.Command(m.Program, append([]string{command, "--name", m.Layout.Name, "--data", m.Layout.Data, "--run", m.Layout.Run,
		"--http", m.HTTP, "--https", m.HTTPS, "--api", m.API}, args...)...)
	cmd.Env = append(os.Environ(), environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("maru %s: %w\n%s", command, err, out)
	}
	return nil
}

// Log gives the last bytes of the platform's log.
func (m *Machine) Log(n int) string {
	data, err := os.ReadFile(filepath.Join(m.Layout.Data, "maru.log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-n):])
}

// Command gives a command of the program that talks to this installation.
func (m *Machine) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, m.Program, args...)
	cmd.Env = append(os.Environ(), "MARU_SOCKET="+m.Layout.ServerSocket(), "NO_COLOR=1")
	cmd.Dir = m.folder
	return cmd
}

// Result is how a command ended.
type Result struct {
	Out, Err string
	Code     int
}

// Run runs a command to its end.
func (m *Machine) Run(ctx context.Context, args ...string) (Result, error) {
	cmd := m.Command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	result := Result{Out: out.String(), Err: errs.String(), Code: cmd.ProcessState.ExitCode()}
	if err != nil {
		err = fmt.Errorf("maru %s: %w\n%s%s", strings.Join(args, " "), err, result.Out, result.Err)
	}
	return result, err
}

// Do runs a command and gives its standard output. It fails the test when the command fails.
func (m *Machine) Do(t testing.TB, args ...string) string {
	t.Helper()
	result, err := m.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return result.Out
}

// Compose writes a compose file and gives its path.
func (m *Machine) Compose(text string) (string, error) {
	folder := filepath.Join(m.folder, fmt.Sprint("compose-", m.made.Add(1)))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(folder, "compose.yaml")
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// Deploy deploys a compose file.
func (m *Machine) Deploy(t testing.TB, compose string) string {
	t.Helper()
	path, err := m.Compose(compose)
	if err != nil {
		t.Fatal(err)
	}
	return m.Do(t, "deploy", "-f", path)
}

// Eventually waits until the condition holds.
func Eventually(t testing.TB, within time.Duration, what string, condition func() bool) {
	t.Helper()
	if !Wait(t.Context(), within, condition) {
		t.Fatalf("%s: not within %s", what, within)
	}
}

// Wait asks every few milliseconds and tells whether the condition came to hold in time.
func Wait(ctx context.Context, within time.Duration, condition func() bool) bool {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errors.New("it took too long"))
	defer cancel()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
