//go:build vm

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Emulation without KVM is some ten times slower than the machine, and what else runs there comes on top.
const (
	bootTimeout   = 10 * time.Minute
	scriptTimeout = 15 * time.Minute
	pause         = 3 * time.Second // between tries, which take from what is waited for
)

// machine is a virtual machine with a disk that outlives its power.
type machine struct {
	folder, base, payload string
	began                 time.Time
	disk                  *disk
	random                *rand.Rand // what a power cut loses
	qemu                  *exec.Cmd
	ended                 chan struct{} // closed when QEMU is gone
	served                chan error    // how serving it the disk ended
	port                  net.Conn
	boots                 chan string

	mu      sync.Mutex
	next    int
	pending map[int]chan answer
}

type request struct {
	ID     int    `json:"id"`
	Script string `json:"script"`
}

type answer struct {
	ID     int    `json:"id"`
	Code   int    `json:"code"`
	Output string `json:"output"`
	Boot   string `json:"boot"`
}

// newMachine makes a machine of the base image; base has the kernel too. It has no power yet.
func newMachine(t *testing.T, base, payload string, random *rand.Rand) *machine {
	t.Helper()
	m := &machine{folder: t.TempDir(), base: base, payload: payload, began: time.Now(), random: random,
		disk: newDisk(t, filepath.Join(base, "disk.img"))}
	t.Cleanup(func() {
		if err := m.end(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			console, _ := os.ReadFile(m.path("console.log"))
			t.Logf("end of the console:\n%s", console[max(0, len(console)-8000):])
		}
	})
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.folder, name) }

// step says what comes now.
func (m *machine) step(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("%5.0fs  %s", time.Since(m.began).Seconds(), fmt.Sprintf(format, args...))
}

// on gives the machine power and returns when its agent answers.
func (m *machine) on(t *testing.T) {
	t.Helper()
	m.power(t)
	m.booted(t)
}

// power gives the machine power.
func (m *machine) power(t *testing.T) {
	t.Helper()
	console, err := os.OpenFile(m.path("console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	socket := m.path("agent.sock")
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", m.path("disk.sock"))
	if err != nil {
		t.Fatal(err)
	}
	m.qemu = exec.Command("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072",
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
		"-kernel", filepath.Join(m.base, "vmlinuz"), "-initrd", filepath.Join(m.base, "initrd.img"),
		"-append", "root=/dev/vda rw console=ttyS0 panic=1 systemd.show_status=0",
		"-drive", "file=nbd+unix:///?socket="+m.path("disk.sock")+",format=raw,if=virtio,cache=writeback",
		"-drive", "file="+m.payload+",format=raw,if=virtio,readonly=on",
		"-nic", "user,model=virtio-net-pci,restrict=on",
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,path="+socket+",server=on,wait=on", "-device", "virtserialport,chardev=agent,name=maru")
	m.qemu.Stdout, m.qemu.Stderr = console, console
	// It ends with this process, however that ends.
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.qemu.Start(); err != nil {
		t.Fatalf("start QEMU: %v", err)
	}
	m.attach(listener)
	ended, qemu := make(chan struct{}), m.qemu
	m.ended = ended
	go func() { _ = qemu.Wait(); _ = listener.Close(); close(ended) }()
	m.connect(t, socket)
}

// attach serves the disk to the QEMU that comes by the listener.
func (m *machine) attach(listener net.Listener) {
	served := make(chan error, 1)
	m.served = served
	go func() {
		conn, err := listener.Accept()
		_ = listener.Close()
		if err == nil {
			err = m.disk.serve(conn)
		}
		served <- err
	}()
}

func (m *machine) connect(t *testing.T, socket string) {
	t.Helper()
	wait(t, time.Minute, "QEMU's socket", func() error {
		conn, err := net.Dial("unix", socket)
		m.port = conn
		return err
	})
	m.mu.Lock()
	m.pending = map[int]chan answer{}
	m.mu.Unlock()
	m.boots = make(chan string, 10)
	go m.listen(m.port, m.boots)
}

// listen gives answers to those who wait for them, until the power goes.
func (m *machine) listen(port net.Conn, boots chan<- string) {
	answers := json.NewDecoder(port)
	for {
		var a answer
		if err := answers.Decode(&a); err != nil {
			return
		}
		if a.Boot != "" {
			boots <- a.Boot
			continue
		}
		m.mu.Lock()
		if waiting := m.pending[a.ID]; waiting != nil {
			waiting <- a
			delete(m.pending, a.ID)
		}
		m.mu.Unlock()
	}
}

// booted waits until the agent says that it is there.
func (m *machine) booted(t *testing.T) {
	t.Helper()
	select {
	case <-m.boots:
	case <-m.ended:
		t.Fatal("QEMU ended")
	case <-time.After(bootTimeout):
		t.Fatalf("the machine did not boot in %s", bootTimeout)
	}
}

// try runs a script and gives its exit code and what it wrote.
func (m *machine) try(t *testing.T, script string) (int, string) {
	t.Helper()
	select {
	case a := <-m.send(t, script):
		return a.Code, a.Output
	case <-m.ended:
		t.Fatalf("QEMU ended during: %s", script)
	case <-time.After(scriptTimeout):
		t.Fatalf("no end in %s: %s", scriptTimeout, script)
	}
	return 0, ""
}

// send begins a script.
func (m *machine) send(t *testing.T, script string) <-chan answer {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	reply := make(chan answer, 1)
	m.pending[m.next] = reply
	if err := json.NewEncoder(m.port).Encode(request{m.next, script}); err != nil {
		t.Fatalf("send a script: %v", err)
	}
	return reply
}

// run runs a script that must not fail and gives what it wrote.
func (m *machine) run(t *testing.T, script string) string {
	t.Helper()
	code, output := m.try(t, "set -e\n"+script)
	if code != 0 {
		t.Fatalf("exit code %d of: %s\n%s", code, script, output)
	}
	return strings.TrimSpace(output)
}

// reboot restarts the system in good order.
func (m *machine) reboot(t *testing.T) {
	t.Helper()
	m.send(t, "systemctl reboot")
	m.booted(t)
}

// cut takes the power away: what is in memory is lost, and a half of what the disk was not told to flush.
func (m *machine) cut(t *testing.T) {
	t.Helper()
	failed := m.end()
	lost, of, err := m.disk.cut(m.random)
	if err := errors.Join(failed, err); err != nil {
		t.Fatal(err)
	}
	m.step(t, "the power is gone, and with it %d of the %d blocks in the disk's cache", lost, of)
}

// end ends QEMU. The error is what serving it the disk ended with.
func (m *machine) end() error {
	if m.qemu == nil {
		return nil
	}
	_ = m.qemu.Process.Kill()
	<-m.ended
	m.qemu = nil
	if m.port != nil {
		_ = m.port.Close()
	}
	if err := <-m.served; err != nil {
		return fmt.Errorf("serve the disk: %w", err)
	}
	return nil
}

// eventually runs a script until it succeeds.
func (m *machine) eventually(t *testing.T, what, script string) {
	t.Helper()
	wait(t, scriptTimeout, what, func() error {
		code, output := m.try(t, "set -e\n"+script)
		if code != 0 {
			return fmt.Errorf("exit code %d: %s", code, output)
		}
		return nil
	})
}

func wait(t *testing.T, limit time.Duration, what string, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("not in "+limit.String()))
	defer cancel()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			t.Fatalf("%s: %v: %v", what, context.Cause(ctx), err)
		}
	}
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}
