// Package endtoend runs Maru as its users do: the program, real containers, real requests. All of it
// happens in a network and mount namespace that the tests make for themselves.
package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/vishvananda/netlink"
)

const insideVariable = "MARU_END_TO_END"

// TestMain starts the test program again in namespaces of its own.
func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		if err := loopbackUp(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	fetchGo() // inside there is no network
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func loopbackUp() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// machine is an installation of Maru that the tests share.
type machine struct {
	bin, data, run, http string
}

var count atomic.Int32

// start runs a new installation of Maru for the test, and removes it afterwards.
func start(t *testing.T, args ...string) *machine {
	t.Helper()
	bin, err := filepath.Abs("../../bin/maru")
	if err != nil {
		t.Fatal(err)
	}
	n := count.Add(1)
	m := &machine{bin: bin, data: t.TempDir(), run: fmt.Sprintf("/tmp/maru-e2e-%d-%d", os.Getpid(), n), http: fmt.Sprintf("127.0.0.1:%d", 18000+n)}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(m.data, "maru.log"))
			t.Logf("log of the platform:\n%s", log[max(0, len(log)-20000):])
		}
		if out, err := m.platform("shutdown", "--purge").CombinedOutput(); err != nil {
			t.Errorf("shutdown --purge: %v\n%s", err, out)
		}
		os.RemoveAll(m.run)
	})
	if out, err := m.platform("start", append([]string{"--detach"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("start: %v\n%s", err, out)
	}
	return m
}

func (m *machine) platform(command string, args ...string) *exec.Cmd {
	all := append([]string{command, "--name", "e2e", "--data", m.data, "--run", m.run, "--http", m.http,
		"--https", "127.0.0.1:0", "--api", "127.0.0.1:0"}, args...)
	return exec.Command(m.bin, all...)
}

// maru runs a command and gives its standard output; it fails the test when the command fails.
func (m *machine) maru(t *testing.T, args ...string) string {
	t.Helper()
	out, errors, code := m.try(t, args...)
	if code != 0 {
		t.Fatalf("maru %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errors)
	}
	return out
}

// try runs a command and gives what it wrote and its exit code.
func (m *machine) try(t *testing.T, args ...string) (out, complaints string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), m.bin, args...)
	cmd.Env = append(os.Environ(), "MARU_SOCKET="+filepath.Join(m.run, "server.sock"), "NO_COLOR=1")
	cmd.Dir = t.TempDir()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return stdout.String(), stderr.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), 0
}

// deploy writes the compose file and deploys it.
func (m *machine) deploy(t *testing.T, compose string, args ...string) string {
	t.Helper()
	return m.maru(t, append([]string{"deploy", "-f", writeCompose(t, compose)}, args...)...)
}

func writeCompose(t *testing.T, compose string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(path, []byte(compose), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// get asks the gateway and gives status and body.
func (m *machine) get(t *testing.T, host, path string) (int, string) {
	t.Helper()
	return m.do(t, http.MethodGet, host, path)
}

func (m *machine) do(t *testing.T, method, host, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+m.http+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

// who asks the service behind a host who answers.
func (m *machine) who(t *testing.T, host string) map[string]string {
	t.Helper()
	status, body := m.get(t, host, "/")
	var who map[string]string
	if err := json.Unmarshal([]byte(body), &who); status != 200 || err != nil {
		t.Fatalf("%s answers %d: %s", host, status, body)
	}
	return who
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	within(t, time.Minute, what, condition)
}

// within waits until the condition holds, at most that long.
func within(t *testing.T, patience time.Duration, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// loadImage makes an image of the test service and loads it under the reference.
func (m *machine) loadImage(t *testing.T, reference string) {
	t.Helper()
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(path, tag, serviceImage(t)); err != nil {
		t.Fatal(err)
	}
	m.maru(t, "image", "load", path)
}

func serviceImage(t *testing.T) v1.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "service")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, "./service")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test service: %v\n%s", err, out)
	}
	layer, err := tarLayer(program)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Config.Entrypoint = []string{"/service"}
	file.Config.ExposedPorts = map[string]struct{}{"8080/tcp": {}}
	image, err = mutate.ConfigFile(image, file)
	if err != nil {
		t.Fatal(err)
	}
	return image
}
