// Package userns makes user namespaces: each lets the processes in it be users 0 to 65535 among
// themselves, which outside are users that nobody else is.
package userns

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Size is how many users a namespace has: 0 to Size-1 inside.
const Size = 1 << 16

// First is the first range for instances. They are above what distributions, directory services and other
// container engines give out.
const First = Range(1 << 31)

// Range is the users outside, named by the first. The zero Range is that of no namespace: users are
// the same inside and outside.
type Range uint32

// ID gives who a user or group of the inside is outside.
func (r Range) ID(inside int) int { return int(r) + inside }

// Mappings give the range as the OCI has it; nil for the zero Range.
func (r Range) Mappings() []specs.LinuxIDMapping {
	if r == 0 {
		return nil
	}
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(r), Size: Size}}
}

// Make makes a user namespace and one of each other kind in flags (CLONE_NEWNET and the like), which
// it owns. They are at ns/user, ns/net and so on below the folder that use is given. Those that use
// did not keep, by opening or mounting them, are gone when Make returns.
func Make(r Range, flags uintptr, use func(folder string) error) error {
	made := make(chan error, 1)
	go func() {
		// The thread is the tracer of the process below, and may not end before that has.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		made <- makeTraced(r, flags, use)
	}()
	return <-made
}

// makeTraced has a process enter the namespaces that never runs: it stops, traced, as soon as it is
// this program.
func makeTraced(r Range, flags uintptr, use func(folder string) error) error {
	mappings := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(r), Size: Size}}
	p, err := os.StartProcess("/proc/self/exe", []string{"userns"}, &os.ProcAttr{
		Env: []string{},
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | flags, UidMappings: mappings, GidMappings: mappings,
			GidMappingsEnableSetgroups: true, Ptrace: true, Pdeathsig: syscall.SIGKILL,
		},
	})
	if err != nil {
		return fmt.Errorf("new user namespace: %w", err)
	}
	defer func() {
		_ = p.Kill() // it can't have ended by itself
		_, _ = p.Wait()
	}()
	return use(fmt.Sprintf("/proc/%d", p.Pid))
}
