package sockets

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain also plays the service whose processes succeed each other.
func TestMain(m *testing.M) {
	if os.Getenv("STORE_TEST") == "" {
		os.Exit(m.Run())
	}
	if err := serveUntilTerminated(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveUntilTerminated answers every request with its number and what was kept, starts a successor on SIGHUP, and ends on
// SIGTERM when nothing is in flight.
func serveUntilTerminated() error {
	parent, err := FromParent()
	if err != nil {
		return err
	}
	store, err := NewStore(parent)
	if err != nil {
		return err
	}
	listener, err := parent.Listener("http")
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	if err := store.Ready("test"); err != nil {
		return err
	}
	accepting, open, served := NewStopListener(listener), sync.WaitGroup{}, make(chan error, 1)
	server := &http.Server{ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Done()
		}
	}, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		kept, err := store.Kept("note")
		if err != nil || kept == nil {
			fmt.Fprint(w, os.Getpid(), " nothing ", err)
			return
		}
		defer kept.Close()
		note, err := io.ReadAll(io.NewSectionReader(kept, 0, 100))
		fmt.Fprint(w, os.Getpid(), " ", string(note), err)
	})}
	go func() { served <- server.Serve(accepting) }()
	for s := range signals {
		if s == syscall.SIGTERM {
			break
		}
		if err := store.StartSuccessor(); err != nil {
			return err
		}
	}
	if err := accepting.Stop(); err != nil {
		return err
	}
	<-served
	open.Wait()
	return server.Close()
}

// manager plays systemd: it keeps what is stored and knows the main process.
type manager struct {
	path string
	conn *net.UnixConn

	mu     sync.Mutex
	stored map[string]*os.File
	mains  chan int
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify"), stored: map[string]*os.File{}, mains: make(chan int, 100)}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m.conn = conn
	done := make(chan struct{})
	go func() { defer close(done); m.run() }()
	t.Cleanup(func() { conn.Close(); <-done })
	return m
}

func (m *manager) run() {
	data, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	for {
		n, nc, _, _, err := m.conn.ReadMsgUnix(data, control)
		if err != nil {
			return
		}
		message := map[string]string{}
		for line := range strings.SplitSeq(string(data[:n]), "\n") {
			key, value, _ := strings.Cut(line, "=")
			message[key] = value
		}
		m.take(message, received(control[:nc]))
	}
}

func (m *manager) take(message map[string]string, file *os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case message["BARRIER"] == "1":
		file.Close()
	case message["FDSTORE"] == "1":
		m.stored[message["FDNAME"]] = file
	case message["FDSTOREREMOVE"] == "1":
		m.stored[message["FDNAME"]].Close()
		delete(m.stored, message["FDNAME"])
	case message["READY"] == "1" && VersionOf(message["STATUS"]) == "test":
		pid, _ := strconv.Atoi(message["MAINPID"])
		m.mains <- pid
	}
}

func received(control []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fds[0]), "received")
}

func (m *manager) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.stored))
}

func TestStoreKeepsAndReleases(t *testing.T) {
	m := newManager(t)
	store, err := NewStore(Parent{Files: map[string]*os.File{}, notify: m.path})
	if err != nil {
		t.Fatal(err)
	}
	first, err := store.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	again, err := store.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := addressOf(t, first), addressOf(t, again); a != b {
		t.Errorf("a socket was opened twice: %s and %s", a, b)
	}
	for _, text := range []string{"one", "two"} {
		if err := store.Keep("a:note", memory(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := barrier(m.path); err != nil {
		t.Fatal(err)
	}
	if got, want := m.names(), []string{"held/tcp/127.0.0.1%3A0", "kept/a%3Anote"}; !slices.Equal(got, want) {
		t.Errorf("stored are %q, want %q", got, want)
	}

	// The next process gets what is stored, beside the sockets of units.
	m.mu.Lock()
	next := Parent{Files: map[string]*os.File{}, notify: m.path}
	for name, file := range m.stored {
		if next.Files[name], err = Duplicate(file, name); err != nil {
			t.Error(err)
		}
	}
	m.mu.Unlock()
	if store, err = NewStore(next); err != nil {
		t.Fatal(err)
	}
	if len(next.Files) != 0 {
		t.Errorf("stored files are left among the sockets: %v", next.Files)
	}
	kept, err := store.Kept("a:note")
	if err != nil || kept == nil {
		t.Fatalf("kept file: %v, %v", kept, err)
	}
	if text, err := io.ReadAll(io.NewSectionReader(kept, 0, 100)); err != nil || string(text) != "two" {
		t.Errorf("kept is %q, %v, want the file that was kept last", text, err)
	}
	if err := store.Release("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := store.Release("udp", "127.0.0.1:9"); err != nil {
		t.Errorf("release what is not there: %v", err)
	}
	if none, err := store.Kept("other"); none != nil || err != nil {
		t.Errorf("what was not kept: %v, %v", none, err)
	}
	if err := barrier(m.path); err != nil {
		t.Fatal(err)
	}
}

// TestSuccession reloads a service many times under load: no request is lost, and each successor is
// the main process before its predecessor ends.
func TestSuccession(t *testing.T) {
	m := newManager(t)
	socket, err := Open(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + addressOf(t, socket)
	subreaper(t)
	process, err := os.StartProcess("/proc/self/exe", []string{os.Args[0]}, &os.ProcAttr{
		Env:   append(os.Environ(), append(Environment([]string{"http", "kept/note"}), "NOTIFY_SOCKET="+m.path, "STORE_TEST=1")...),
		Files: []*os.File{nil, os.Stdout, os.Stderr, socket, memory(t, "kept")},
	})
	if err != nil {
		t.Fatal(err)
	}
	socket.Close()
	current := process.Pid
	t.Cleanup(func() {
		syscall.Kill(current, syscall.SIGTERM)
		_, _ = unix.Wait4(current, nil, 0, nil)
	})
	if pid := <-m.mains; pid != 0 {
		t.Fatalf("the first process names %d as the main one", pid)
	}
	stop, asking := make(chan struct{}), sync.WaitGroup{}
	for range 4 {
		asking.Go(func() { ask(t, url, stop) })
	}
	for range 5 {
		if err := syscall.Kill(current, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		successor := <-m.mains
		if _, err := unix.Wait4(current, nil, 0, nil); err != nil {
			t.Errorf("wait for the predecessor: %v", err)
		}
		current = successor
	}
	close(stop)
	asking.Wait()
}

// ask asks until it is stopped; each answer must come and hold what was kept.
func ask(t *testing.T, url string, stop <-chan struct{}) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		select {
		case <-stop:
			return
		default:
		}
		response, err := client.Get(url)
		if err != nil {
			t.Errorf("a request was lost: %v", err)
			return
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || !strings.HasSuffix(string(body), " kept<nil>") {
			t.Errorf("answer %q, %v", body, err)
			return
		}
	}
}

// subreaper lets the test, in place of systemd, see how the processes end that its children leave.
func subreaper(t *testing.T) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}

func addressOf(t *testing.T, file *os.File) string {
	t.Helper()
	listener, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func memory(t *testing.T, text string) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { file.Close() })
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return file
}
