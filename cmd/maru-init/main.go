// Command maru-init is process 1 of instances that ask for one (compose: init: true). It runs the
// command that follows it, passes signals on to it, reaps orphans, and ends with its exit code. With
// --hold instead of a command it reaps orphans until it gets a signal, while others run commands beside it;
// with --hold FOLDER… FROM=TO… it also makes folders, and leads connections from addresses of the instance's own
// to others.
//
// Run beside process 1 it takes files from standard input with --sync, gives those of a folder on standard output with
// --pack FOLDER, and with --restart has process 1 end its command and start it again in what the instance is by now.
//
// Called by another name it tries, once for all instances, what they need from a user namespace.
package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit codes that shells use too.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

// tryName is what the engine calls the program to have it try namespaces; see engine/local/userns.
const tryName = "maru-try-users"

func main() {
	if os.Args[0] == tryName {
		tryMounts()
		return
	}
	if len(os.Args) < 2 {
		fail(exitNotFound, "maru-init: no command")
	}
	switch os.Args[1] {
	case "--sync":
		if err := receive(os.Stdin); err != nil {
			fail(1, err.Error())
		}
		return
	case "--pack":
		if len(os.Args) != 3 {
			fail(1, "maru-init: --pack FOLDER")
		}
		if err := pack(os.Args[2], os.Stdout); err != nil {
			fail(1, err.Error())
		}
		return
	case "--restart":
		if err := askRestart(); err != nil {
			fail(1, err.Error())
		}
		return
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	if os.Args[1] == "--hold" {
		if err := prepare(os.Args[2:]); err != nil {
			fail(1, "maru-init: "+err.Error())
		}
		hold(signals)
		return
	}
	run(signals)
}

// run runs the command to its end, again after each restart that was asked for.
func run(signals <-chan os.Signal) {
	path, err := exec.LookPath(os.Args[1])
	if err != nil {
		fail(exitCode(err), "maru-init: "+err.Error())
	}
	child, err := start(path)
	if err != nil {
		fail(exitCode(err), "maru-init: "+err.Error())
	}
	var restart restarter
	for {
		select {
		case <-restart.patience():
			_ = syscall.Kill(-child, syscall.SIGKILL)
			continue
		case s := <-signals:
			number, ok := s.(syscall.Signal)
			if !ok {
				continue
			}
			switch number {
			case syscall.SIGCHLD:
				code, ended := reap(child)
				if !ended {
					continue
				}
				if !restart.ended() {
					os.Exit(code)
				}
				if child, err = start(path); err != nil {
					fail(exitCode(err), "maru-init: "+err.Error())
				}
			case restartSignal:
				restart.ask(child)
			case syscall.SIGURG: // the Go runtime sends it to itself
			default:
				if ends(number) {
					restart = restarter{}
				}
				_ = syscall.Kill(child, number)
			}
		}
	}
}

// tryMounts mounts what shows the process's own namespaces. The kernel lets nobody do so who could see
// more by it than the machine, which may be a container itself, shows of its own.
func tryMounts() {
	for _, kind := range []string{"proc", "sysfs"} {
		place := map[string]string{"proc": "/proc", "sysfs": "/sys"}[kind]
		if err := unix.Mount(kind, place, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			fail(1, "mount "+place+": "+err.Error())
		}
	}
}

// prepare makes the folders among what follows --hold, and leads connections as the rest says.
func prepare(args []string) error {
	var pairs []string
	for _, arg := range args {
		if !strings.HasPrefix(arg, "/") {
			pairs = append(pairs, arg)
			continue
		}
		if err := os.MkdirAll(arg, 0o777); err != nil { //nolint:gosec // the container is the job's alone
			return err
		}
	}
	return forward(pairs)
}

// hold reaps orphans until a signal tells it to end.
func hold(signals <-chan os.Signal) {
	for s := range signals {
		switch s {
		case syscall.SIGCHLD:
			reap(-1)
		case syscall.SIGURG, syscall.SIGWINCH, syscall.SIGPIPE:
		default:
			return
		}
	}
}

// start runs the command in a process group of its own, in front of the terminal if there is one, so
// that what is typed there reaches it once.
func start(path string) (int, error) {
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		attr.Sys.Foreground, attr.Sys.Ctty = true, 0
	}
	return syscall.ForkExec(path, os.Args[1:], attr)
}

// reap collects whoever ended, and tells the exit code if it was the child.
func reap(child int) (code int, ended bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return code, ended
		}
		if pid == child {
			ended, code = true, status.ExitStatus()
			if status.Signaled() {
				code = exitSignal + int(status.Signal())
			}
		}
	}
}

func exitCode(err error) int {
	if errors.Is(err, os.ErrPermission) {
		return exitNotExecutable
	}
	return exitNotFound
}

func fail(code int, message string) {
	_, _ = os.Stderr.WriteString(message + "\n")
	os.Exit(code)
}
