//go:build patched

// Command filters compiles the system call filters that instances and build steps have by default, and
// writes them as a Go file for runc: "filters FILE". It is built with the copy of runc that scripts/embed.sh
// changes.
package main

import (
	"bytes"
	"fmt"
	"os"

	profile "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/seccomp/patchbpf"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capabilities are those by which the default filters differ: the ones that instances may have by
// default and that open further system calls.
var capabilities = [][]string{nil, {"CAP_SYS_CHROOT"}}

func main() {
	var out bytes.Buffer
	out.WriteString("//go:build cgo && seccomp\n\npackage seccomp\n\nimport \"golang.org/x/sys/unix\"\n\nvar prepared = map[string]filter{\n")
	for _, given := range capabilities {
		if err := prepare(&out, given); err != nil {
			fmt.Fprintln(os.Stderr, "filters:", err)
			os.Exit(1)
		}
	}
	out.WriteString("}\n")
	if err := os.WriteFile(os.Args[1], out.Bytes(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "filters:", err)
		os.Exit(1)
	}
}

func prepare(out *bytes.Buffer, given []string) error {
	wanted := profile.DefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: given}}})
	config, err := specconv.SetupSeccomp(wanted)
	if err != nil {
		return err
	}
	patchbpf.Install = func(flags uint, filter []unix.SockFilter) (int, error) {
		fmt.Fprintf(out, "\t%q: {flags: %#x, program: []unix.SockFilter{\n", seccomp.Key(config), flags)
		for _, f := range filter {
			fmt.Fprintf(out, "\t\t{Code: %#x, Jt: %d, Jf: %d, K: %#x},\n", f.Code, f.Jt, f.Jf, f.K)
		}
		out.WriteString("\t}},\n")
		return -1, nil
	}
	_, err = seccomp.Compile(config)
	return err
}
