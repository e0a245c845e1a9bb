package supervisor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/sockets"
)

// TestMain also plays the supervised process and a supervisor that can be killed.
func TestMain(m *testing.M) {
	switch os.Getenv("SUPERVISOR_TEST") {
	case "":
		os.Exit(m.Run())
	case "web":
		web()
	case "supervisor":
		os.Unsetenv("SUPERVISOR_TEST")
		s := New(testConfig(os.Args[1], os.Args[2]), slog.New(slog.NewTextHandler(os.Stderr, nil)))
		if err := s.Run(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// web answers every request with its process number until it is asked to end.
func web() {
	parent, err := sockets.FromParent()
	if err != nil {
		panic(err)
	}
	listener, err := parent.Listener("http")
	if err != nil {
		panic(err)
	}
	var open sync.WaitGroup
	server := &http.Server{ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Done()
		}
	}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/exit" {
			code, _ := strconv.Atoi(r.URL.Query().Get("code"))
			os.Exit(code)
		}
		fmt.Fprint(w, os.Getpid())
	})}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := parent.Ready("test"); err != nil {
		panic(err)
	}
	accepting, served := sockets.NewStopListener(listener), make(chan struct{})
	go func() { server.Serve(accepting); close(served) }()
	<-ctx.Done()
	accepting.Stop()
	<-served
	open.Wait() // Shutdown would drop a request that is just being read
	server.Close()
}

func testConfig(run, address string) Config {
	return Config{Run: run, Socket: filepath.Join(run, "supervisor.sock"), Processes: []Spec{
		{Name: "web", Command: []string{"/usr/bin/env", "SUPERVISOR_TEST=web", os.Args[0]}, Overlap: true,
			Sockets: []Socket{{Name: "http", Network: "tcp", Address: address}}},
		{Name: "demand", Command: []string{"/usr/bin/env", "SUPERVISOR_TEST=web", os.Args[0]}, OnDemand: true,
			Sockets: []Socket{{Name: "http", Network: "unix", Address: filepath.Join(run, "demand.sock"), Mode: 0o600}}},
	}}
}

// fixture is a supervisor in this process, its client and the address of its web process.
type fixture struct {
	Client
	address, run string
	done         chan error
}

func freeAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func start(t *testing.T, run, address string) *fixture {
	t.Helper()
	f := &fixture{Client: Client{Socket: filepath.Join(run, "supervisor.sock")}, address: address, run: run, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	s := New(testConfig(run, address), slog.New(slog.NewTextHandler(t.Output(), nil)))
	finished := make(chan struct{})
	go func() { f.done <- s.Run(ctx); close(finished) }()
	t.Cleanup(func() { cancel(); <-finished })
	return f
}

// get asks the web process for its number, as often as it takes to be accepted.
func (f *fixture) get(t *testing.T) int {
	t.Helper()
	return ask(t, "tcp", f.address, "/")
}

func ask(t *testing.T, network, address, path string) int {
	t.Helper()
	var last error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		conn, err := net.Dial(network, address)
		if err != nil {
			last = err
			continue
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			var body []byte
			body, err = io.ReadAll(response.Body)
			response.Body.Close()
			if err == nil {
				conn.Close()
				pid, _ := strconv.Atoi(string(body))
				return pid
			}
		}
		conn.Close()
		if path != "/" {
			return 0
		}
		last = err
	}
	t.Fatalf("no answer: %v", last)
	return 0
}

func TestRestartsWhatEnds(t *testing.T) {
	f := start(t, t.TempDir(), freeAddress(t))
	first := f.get(t)
	all, err := f.Status(t.Context())
	if err != nil || all[0].PID != first || all[0].Version != "test" {
		t.Errorf("the first process is known as %+v, %v", all, err)
	}
	syscall.Kill(first, syscall.SIGKILL)
	if second := f.get(t); second == first {
		t.Fatalf("process %d answers after it was killed", second)
	}
}

func TestRestartLosesNoRequest(t *testing.T) {
	f := start(t, t.TempDir(), freeAddress(t))
	before := f.get(t)
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for {
			select {
			case <-stop:
				return
			default:
			}
			response, err := client.Get("http://" + f.address)
			if err != nil {
				failed <- err
				return
			}
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	}()
	for range 5 {
		if err := f.Restart(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if f.get(t) == before {
		t.Fatal("the process was not replaced")
	}
}

func TestStartsOnDemandAndEndsIdle(t *testing.T) {
	f := start(t, t.TempDir(), freeAddress(t))
	socket := filepath.Join(f.run, "demand.sock")
	f.get(t)
	status := func() Process {
		all, err := f.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all[1]
	}
	if p := status(); p.PID != 0 {
		t.Fatalf("runs without demand: %+v", p)
	}
	first := ask(t, "unix", socket, "/")
	ask(t, "unix", socket, "/exit?code=0")
	second := ask(t, "unix", socket, "/")
	if first == second {
		t.Fatal("the same process answers after it ended")
	}
	if p := status(); p.Restarts != 0 {
		t.Fatalf("ending by itself was counted as a fault: %+v", p)
	}
}

func TestHoldsSocketsAndFiles(t *testing.T) {
	f := start(t, t.TempDir(), freeAddress(t))
	f.get(t)
	address := freeAddress(t)
	file, err := f.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	if conn, err := net.Dial("tcp", address); err != nil {
		t.Fatalf("the socket is not held: %v", err)
	} else {
		conn.Close()
	}
	if err := f.Close(t.Context(), "tcp", address); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the socket is held after it was given back")
		}
	}
	_, err = f.Listen(t.Context(), "tcp", f.address+"9")
	if maru.KindOf(err) != maru.Invalid {
		t.Fatalf("a bad address gives %v", err)
	}
	note, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	note.WriteString("kept")
	if err := f.Keep(t.Context(), "note", note); err != nil {
		t.Fatal(err)
	}
	got, err := f.Kept(t.Context(), "note")
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 4)
	if _, err := got.ReadAt(text, 0); err != nil || string(text) != "kept" {
		t.Fatalf("kept file says %q, %v", text, err)
	}
	if _, err := f.Kept(t.Context(), "other"); maru.KindOf(err) != maru.NotFound {
		t.Fatalf("what was not kept gives %v", err)
	}
}

func TestSecondSupervisorIsRefused(t *testing.T) {
	f := start(t, t.TempDir(), freeAddress(t))
	f.get(t)
	err := New(testConfig(f.run, f.address), slog.New(slog.DiscardHandler)).Run(t.Context())
	if maru.KindOf(err) != maru.Conflict {
		t.Fatalf("got %v", err)
	}
}

func TestAdoptsAfterKill(t *testing.T) {
	run, address := t.TempDir(), freeAddress(t)
	first, err := os.StartProcess(os.Args[0], []string{os.Args[0], run, address}, &os.ProcAttr{
		Env: append(os.Environ(), "SUPERVISOR_TEST=supervisor"), Files: []*os.File{nil, os.Stderr, os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
	served := ask(t, "tcp", address, "/")
	first.Kill()
	first.Wait()
	if now := ask(t, "tcp", address, "/"); now != served {
		t.Fatalf("process %d died with its supervisor", served)
	}
	f := start(t, run, address)
	if err := f.waitStatus(t, served); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(served, syscall.SIGKILL)
	if now := f.get(t); now == served {
		t.Fatal("a killed process answers")
	}
	if err := f.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-f.done; err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Fatal("the socket is open after shutdown")
	}
}

// TestStartRightAfterShutdown starts a successor at the moment at which the shutdown has been answered.
func TestStartRightAfterShutdown(t *testing.T) {
	run, address := t.TempDir(), freeAddress(t)
	for range 20 {
		f := start(t, run, address)
		f.get(t)
		if err := f.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := <-f.done; err != nil {
				t.Error(err)
			}
		}()
	}
}

// waitStatus waits until the supervisor answers, and tells whether it has adopted the process.
func (f *fixture) waitStatus(t *testing.T, pid int) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		all, err := f.Status(t.Context())
		if err == nil && all[0].PID != 0 {
			if all[0].PID != pid {
				return fmt.Errorf("process is %d, not %d", all[0].PID, pid)
			}
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no status: %w", err)
		}
	}
}

func TestMarkOf(t *testing.T) {
	for _, c := range []struct {
		environment, name string
		ok                bool
	}{
		{"A=1\x00MARU_PROCESS=web:/run/x\x00B=2", "web", true},
		{"MARU_PROCESS=web:/run/y", "", false},
		{"MARU_PROCESS=web", "", false},
		{"XMARU_PROCESS=web:/run/x", "", false},
	} {
		name, ok := markOf(c.environment, "/run/x")
		if ok != c.ok || ok && name != c.name {
			t.Errorf("markOf(%q) = %q, %v", strings.ReplaceAll(c.environment, "\x00", " "), name, ok)
		}
	}
}

// TestComesBackAtOnce kills a process that does its work five times in a row.
func TestComesBackAtOnce(t *testing.T) {
	f := start(t, t.TempDir(), freeAddress(t))
	for range 5 {
		if err := syscall.Kill(f.get(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	f.get(t)
	all, err := f.Status(t.Context())
	if err != nil || all[0].Restarts != 5 {
		t.Errorf("status says %+v, %v", all, err)
	}
}
