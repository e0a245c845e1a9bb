package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/buildtest"
	"github.com/marucloud/maru/delivery/build/worker"
)

// builderMark makes the test program a builder: its value is the configuration, and file 3 the socket.
const builderMark = "MARU_TEST_BUILDER"

func TestMain(m *testing.M) {
	if config := os.Getenv(builderMark); config != "" {
		if err := runBuilder(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runBuilder(config string) error {
	var cfg worker.Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		return err
	}
	cfg.Getenv = buildtest.Getenv
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := worker.Confine(cfg, log); err != nil {
		return err
	}
	w, err := worker.New(cfg, log)
	if err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return err
	}
	return w.Run(context.Background(), l)
}

// process is a builder as a process, on a socket that outlives it.
type process struct {
	*exec.Cmd
	output *bytes.Buffer
}

func startBuilder(t *testing.T, cfg worker.Config, socket *os.File) *process {
	t.Helper()
	config, err := json.Marshal(struct {
		worker.Config
		Getenv *int `json:",omitempty"` // in place of the function, which no process can be given
	}{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(os.Args[0]), output: &bytes.Buffer{}}
	p.Env = append(os.Environ(), builderMark+"="+string(config))
	p.ExtraFiles = []*os.File{socket}
	p.Stdout, p.Stderr = p.output, p.output
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
		if t.Failed() {
			t.Logf("builder: %s", p.output)
		}
	})
	return p
}

// TestProcess starts builders as the supervisor does, lets them end, and kills them.
func TestProcess(t *testing.T) {
	if !buildtest.Alone(t) {
		return
	}
	l, _ := buildtest.Containerd(t)
	t.Cleanup(func() {
		if err := worker.Clean(l); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob("/sys/fs/cgroup/*" + worker.Cgroup(l)); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	})
	cfg := worker.Config{Layout: l, Runc: buildtest.Runc(t), Idle: time.Second}
	cfg.Budget.Memory, cfg.Budget.PIDs, cfg.Budget.CPUs = 512<<20, 1000, 1.5
	listener, err := net.Listen("unix", l.BuilderSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	dir := t.TempDir()
	buildtest.Program(t, filepath.Join(dir, "probe"), probe)
	write(t, dir, map[string]string{"Dockerfile": "FROM scratch\nCOPY probe /probe\n" + shell + "RUN say started\n",
		"Long": "FROM scratch\nCOPY probe /probe\n" + shell + "RUN say started sleep 1h\n"})
	client := build.Dial(l.BuilderSocket())
	req := build.Request{Name: "app", Build: maru.Build{Context: dir}}

	first := startBuilder(t, cfg, socket)
	if _, err := client.Build(t.Context(), req, nil); err != nil {
		t.Fatal(err)
	}
	checkConfined(t, first.Process.Pid, worker.Cgroup(l))
	if err := first.Wait(); err != nil {
		t.Errorf("an idle builder ended with %v", err)
	}

	// The next call waits in the socket until there is a builder again. This one is killed.
	cfg.Idle = -1
	started := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		long := req
		long.Build.Dockerfile = "Long"
		_, err := client.Build(t.Context(), long, func(e build.Event) {
			if e.Log == "started" {
				close(started)
			}
		})
		failed <- err
	}()
	second := startBuilder(t, cfg, socket)
	<-started
	if err := second.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = second.Wait()
	if err := <-failed; maru.KindOf(err) != maru.Unavailable {
		t.Errorf("a killed builder's build: %v", err)
	}
	third := startBuilder(t, cfg, socket)
	req.Build.NoCache = true
	if _, err := client.Build(t.Context(), req, nil); err != nil {
		t.Fatal(err)
	}
	leftOver(t, l, "process")
	checkNoSteps(t, l.Name)
	if err := third.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = third.Wait()
}

// checkConfined tells whether a process is under the budget.
func checkConfined(t *testing.T, pid int, cgroup string) {
	t.Helper()
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(groups), cgroup+"/process") {
		t.Errorf("the builder is in %s", groups)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, rest, _ := strings.Cut(string(stat), ") "); strings.Fields(rest)[16] != "10" {
		t.Errorf("the builder's niceness is %s", strings.Fields(rest)[16])
	}
	for file, want := range map[string]string{
		"memory/memory.limit_in_bytes": "536870912", "memory/memory.max": "536870912", "pids/pids.max": "1000", "/pids.max": "1000",
		"cpu/cpu.cfs_quota_us": "150000", "/cpu.max": "150000 100000", "cpu/cpu.shares": "102", "/cpu.weight": "10",
	} {
		controller, name, _ := strings.Cut(file, "/")
		data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, cgroup, name))
		if err == nil && strings.TrimSpace(string(data)) != want {
			t.Errorf("%s is %s, not %s", file, data, want)
		}
	}
}

func checkNoSteps(t *testing.T, name string) {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "_"+name) {
			t.Errorf("left over: link %s", l.Name)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if data, err := os.ReadFile(p); err == nil && bytes.Contains(data, []byte("sleep 1h")) && bytes.Contains(data, []byte("/probe")) {
			t.Errorf("left over: %s: %q", p, data)
		}
	}
}
