package sandbox_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build/budget"
	"github.com/marucloud/maru/delivery/build/buildtest"
	"github.com/marucloud/maru/delivery/build/sandbox"
)

// probe tells what it can do from inside.
const probe = `package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

func status(field string) string {
	data, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "?"
}

func main() {
	if len(os.Args) > 2 {
		fmt.Println("started")
		time.Sleep(time.Hour)
	}
	fmt.Println("user", os.Getuid(), os.Getgid(), "pid", os.Getpid())
	fmt.Println("capabilities", status("CapEff"), status("CapBnd"), "no new privileges", status("NoNewPrivs"), "seccomp", status("Seccomp"))
	links, _ := net.Interfaces()
	fmt.Println("links", len(links))
	write := func(name string) bool { return os.WriteFile(name, nil, 0o600) == nil }
	fmt.Println("writes", write("/x"), write("/ro/x"), write("/rw/x"), write("/proc/sys/kernel/hostname"), write("/proc/sysrq-trigger"))
	_, err := os.Open("/dev/mem")
	fmt.Println("devices", err == nil)
	host, _ := os.Hostname()
	env := os.Environ()
	fmt.Println("host", host, "environment", env)
	fmt.Fprintln(os.Stderr, "errors too")
	os.Exit(3)
}
`

func TestSandbox(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	dir := t.TempDir()
	root, rw := filepath.Join(dir, "root"), filepath.Join(dir, "rw")
	for _, d := range []string{"proc", "dev", "ro", "rw"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(rw, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(rw, 0o777); err != nil {
		t.Fatal(err)
	}
	buildtest.Program(t, filepath.Join(root, "probe"), probe)
	cgroup := "/" + strings.ToLower("mt"+filepath.Base(filepath.Dir(dir))[:3]+filepath.Base(dir)) + "/builder"
	t.Cleanup(func() {
		if left, _ := filepath.Glob("/sys/fs/cgroup/*" + cgroup + "/*/"); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
		if err := budget.Remove(cgroup); err != nil {
			t.Error(err)
		}
	})
	state := filepath.Join(dir, "state")
	r := sandbox.New(buildtest.Runc(t), state, cgroup)
	var out, errors bytes.Buffer
	cmd := sandbox.Command{
		Root: root, Args: []string{"/probe"}, Env: []string{"A=1", "HOME=/rw"}, Dir: "/", User: 65532, Stdout: &out, Stderr: &errors,
		Mounts: []sandbox.Mount{{Source: t.TempDir(), Target: "/ro", ReadOnly: true}, {Source: rw, Target: "/rw"}},
	}
	code, err := r.Run(t.Context(), cmd)
	want := "user 65532 65532 pid 1\n" +
		"capabilities 0000000000000000 0000000000000000 no new privileges 1 seccomp 2\n" +
		"links 1\nwrites false false true false false\ndevices false\nhost build environment [A=1 HOME=/rw]\n"
	if err != nil || code != 3 || out.String() != want || errors.String() != "errors too\n" {
		t.Errorf("exit code %d, %v:\n%s%s", code, err, out.String(), errors.String())
	}

	cmd.Args = []string{"/none"}
	if _, err := r.Run(t.Context(), cmd); err == nil || !strings.Contains(err.Error(), "/none") {
		t.Errorf("a program that is not there: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cmd.Args = []string{"/probe", "for", "long"}
	cmd.Stdout = writer(func(p []byte) (int, error) { cancel(); return len(p), nil })
	start := time.Now()
	if _, err := r.Run(ctx, cmd); maru.KindOf(err) != maru.Interrupted || time.Since(start) > 20*time.Second {
		t.Errorf("interrupted: %v after %v", err, time.Since(start))
	}
	cancel()
	for _, dir := range []string{state, filepath.Join(state, "runc")} {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 1 || len(left) == 1 && left[0].Name() != "runc" {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	if _, err := sandbox.New("/none/runc", state, cgroup).Run(t.Context(), cmd); maru.KindOf(err) != maru.Unavailable {
		t.Errorf("without runc: %v", err)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
