// Package machinetest is the suite that every implementation of [machine.Machine] passes.
package machinetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// Fixture is a machine to test.
type Fixture struct {
	Machine machine.Machine
	Image   string // one with sh, tar, find and sleep
	Missing string // one that is not there
	Service string // the image of a service that accepts TCP connections on Port and answers "hello"
	Port    uint16
	Ask     string // a command of Image that prints what the address in $1 and the port in $2 answer
	Names   bool   // services are reached by their names, and not on localhost only
}

// Run tests a machine. Each test gets one from the factory.
func Run(t *testing.T, factory func(t *testing.T) Fixture) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Fixture)
	}{
		{"Exec", testExec}, {"Environment", testEnvironment}, {"Copy", testCopy}, {"Kill", testKill}, {"KillStarved", testKillStarved}, {"Signals", testSignals},
		{"Fresh", testFresh}, {"MissingImage", testMissing}, {"MissingProgram", testMissingProgram}, {"Services", testServices}, {"Beside", testBeside},
		{"ServiceThatEnds", testServiceEnds}, {"Remove", testRemove},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, factory(t)) })
	}
}

func start(t *testing.T, f Fixture, spec machine.Spec) machine.Container {
	t.Helper()
	if spec.ID == "" {
		spec.ID = "job-1"
	}
	if spec.Image.Reference == "" {
		spec.Image.Reference = f.Image
	}
	c, err := f.Machine.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func sh(t *testing.T, c machine.Container, script string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	code, err := c.Exec(t.Context(), maru.ExecCommand{Args: append([]string{"sh", "-c", script, "sh"}, args...)}, nil, &out, &out)
	if err != nil || code != 0 {
		t.Fatalf("%s: exit code %d, %v: %s", script, code, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

func testExec(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{})
	var stdout, stderr bytes.Buffer
	code, err := c.Exec(t.Context(), maru.ExecCommand{Args: []string{"sh", "-c", "cat; echo err >&2; exit 3"}}, strings.NewReader("in"), &stdout, &stderr)
	if err != nil || code != 3 || stdout.String() != "in" || stderr.String() != "err\n" {
		t.Errorf("%d %v %q %q", code, err, stdout.String(), stderr.String())
	}
	if got := sh(t, c, "pwd"); got != c.Paths().Workspace {
		t.Errorf("it begins in %s", got)
	}
}

func testEnvironment(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{Env: map[string]string{"A": "job", "B": "job"}})
	var out bytes.Buffer
	_, err := c.Exec(t.Context(), maru.ExecCommand{Args: []string{"sh", "-c", `echo "$A $B"; pwd; [ -n "$PATH" ] && [ -w "$HOME" ]`}, Env: map[string]string{"B": "step"}, Dir: c.Paths().Temp}, nil, &out, &out)
	if err != nil || out.String() != "job step\n"+c.Paths().Temp+"\n" {
		t.Errorf("%v %q", err, out.String())
	}
}

func testCopy(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{})
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	content := strings.Repeat("x", 300_000)
	for name, text := range map[string]string{"one": "1", "deep/er/two": content, "with space": ""} {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, text)
	}
	_ = w.Close()
	dir := c.Paths().Workspace + "/in"
	if err := machine.CopyIn(t.Context(), c, dir, &archive); err != nil {
		t.Fatal(err)
	}
	names, err := machine.List(t.Context(), c, dir)
	slices.Sort(names)
	if err != nil || strings.Join(names, ",") != "deep/er/two,one,with space" {
		t.Errorf("%v %q", err, names)
	}
	var out bytes.Buffer
	if err := machine.CopyOut(t.Context(), c, dir, []string{"deep", "with space"}, &out); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			got[h.Name] = h.Size
		}
	}
	if len(got) != 2 || got["deep/er/two"] != int64(len(content)) {
		t.Errorf("%v", got)
	}
	if err := machine.CopyOut(t.Context(), c, dir, []string{"none"}, io.Discard); err == nil {
		t.Error("a file that is not there is copied")
	}
	if names, err := machine.List(t.Context(), c, dir+"/none"); err != nil || names != nil {
		t.Errorf("%v %v", names, err)
	}
}

func testKill(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{})
	ctx, cancel := context.WithCancelCause(t.Context())
	reader, writer := io.Pipe()
	why := errors.New("enough")
	go func() {
		_, _ = reader.Read(make([]byte, 16))
		cancel(why)
		_, _ = io.Copy(io.Discard, reader)
	}()
	began := time.Now()
	_, err := c.Exec(ctx, maru.ExecCommand{Args: []string{"sh", "-c", "echo begun; sleep 600"}}, nil, writer, io.Discard)
	if !errors.Is(err, why) || time.Since(began) > 30*time.Second {
		t.Errorf("%v", err)
	}
}

// testKillStarved: what keeps multiplying with little processor time is ended soon, with all that it started, and what
// is run next lives.
func testKillStarved(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{CPUs: 0.2})
	for range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		reader, writer := io.Pipe()
		why := errors.New("enough")
		cancelled := make(chan time.Time, 1)
		go func() {
			_, _ = reader.Read(make([]byte, 16))
			cancelled <- time.Now()
			cancel(why)
			_, _ = io.Copy(io.Discard, reader)
		}()
		_, err := c.Exec(ctx, maru.ExecCommand{Args: []string{"sh", "-c", `for i in $(seq 40); do (while :; do :; done) & done; echo begun; wait`}}, nil, writer, io.Discard)
		if took := time.Since(<-cancelled); !errors.Is(err, why) || took > 20*time.Second {
			t.Errorf("%v after %s", err, took)
		}
		if got := sh(t, c, "sleep 0.2; echo lives"); got != "lives" {
			t.Errorf("what is run next: %q", got)
		}
	}
}

func testSignals(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{})
	signals := make(chan string, 1)
	reader, writer := io.Pipe()
	go func() {
		_, _ = reader.Read(make([]byte, 16))
		signals <- "SIGINT"
		_, _ = io.Copy(io.Discard, reader)
	}()
	code, err := c.Exec(t.Context(), maru.ExecCommand{Args: []string{"sh", "-c", "trap 'exit 9' INT; echo begun; while :; do sleep 0.1; done"}, Signals: signals}, nil, writer, io.Discard)
	if err != nil || code != 9 {
		t.Errorf("%d %v", code, err)
	}
}

func testFresh(t *testing.T, f Fixture) {
	one := start(t, f, machine.Spec{ID: "job-1"})
	sh(t, one, `echo x > "$1/file"`, one.Paths().Workspace)
	two := start(t, f, machine.Spec{ID: "job-2"})
	if got := sh(t, two, `ls -A "$1" "$2" | grep -v : | tr -d '\n'`, two.Paths().Workspace, two.Paths().Temp); got != "" {
		t.Errorf("another job's container has %q", got)
	}
}

func testMissing(t *testing.T, f Fixture) {
	if c, err := f.Machine.Start(t.Context(), machine.Spec{ID: "job-1", Image: machine.Image{Reference: f.Missing}}); err == nil {
		_ = c.Remove(context.Background())
		t.Error("a container of an image that is not there")
	}
}

func testMissingProgram(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{})
	if code, err := c.Exec(t.Context(), maru.ExecCommand{Args: []string{"no-such-program"}}, nil, io.Discard, io.Discard); code != 127 || maru.KindOf(err) != maru.Invalid {
		t.Errorf("%d %v", code, err)
	}
}

func service(f Fixture) machine.Service {
	return machine.Service{Name: "greeter", Image: machine.Image{Reference: f.Service}, Ports: []machine.Port{{Container: f.Port, Host: f.Port}}}
}

func testServices(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{Services: []machine.Service{service(f)}})
	port := maru.Itoa(int(f.Port))
	if got := sh(t, c, f.Ask, "localhost", port); got != "hello" {
		t.Errorf("on localhost %q", got)
	}
	if f.Names {
		if got := sh(t, c, f.Ask, "greeter", port); got != "hello" {
			t.Errorf("by name %q", got)
		}
	}
}

func testServiceEnds(t *testing.T, f Fixture) {
	s := service(f)
	s.Image.Reference = f.Missing
	if c, err := f.Machine.Start(t.Context(), machine.Spec{ID: "job-1", Image: machine.Image{Reference: f.Image}, Services: []machine.Service{s}}); err == nil {
		_ = c.Remove(context.Background())
		t.Error("a service of an image that is not there")
	}
}

func testRemove(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{})
	for range 2 {
		if err := c.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Exec(t.Context(), maru.ExecCommand{Args: []string{"true"}}, nil, io.Discard, io.Discard); err == nil {
		t.Error("a command runs in a container that was removed")
	}
	start(t, f, machine.Spec{}) // the ID is free again
	if err := f.Machine.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
}
