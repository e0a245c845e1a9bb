package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
	"github.com/marucloud/maru/engine/remote"
)

// runEngine is the engine process: what maru runtime is.
func runEngine() int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var cfg local.Config
	if err := json.Unmarshal([]byte(os.Getenv(engineVariable)), &cfg); err != nil {
		log.Error("read configuration", "error", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	e, err := local.New(cfg, log)
	if err != nil {
		log.Error("make engine", "error", err)
		return 1
	}
	socket := cfg.Layout.RuntimeSocket()
	if err := errors.Join(os.MkdirAll(cfg.Layout.Run, 0o755), os.RemoveAll(socket)); err != nil {
		log.Error("prepare socket", "error", err)
		return 1
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Error("listen", "error", err)
		return 1
	}
	server := http.Server{Handler: remote.Handler(remote.ServiceOf(e), log), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	err = e.Run(ctx)
	_ = server.Close()
	if err != nil {
		log.Error("run engine", "error", err)
		return 1
	}
	return 0
}

// process is an engine in a process of its own, which can be killed.
type process struct {
	*remote.Client
	t   testing.TB
	cfg local.Config
	cmd *exec.Cmd
	end chan struct{}
}

// startProcess runs an engine in a process of its own until the test ends. Environment is added.
func startProcess(t testing.TB, cfg local.Config, environment ...string) *process {
	t.Helper()
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Client: remote.Dial(cfg.Layout.RuntimeSocket()), t: t, cfg: cfg, end: make(chan struct{})}
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Env = append(append(os.Environ(), engineVariable+"="+string(encoded)), environment...)
	output := &lockedWriter{w: testWriter{t}}
	p.cmd.Stderr = output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.end)
	}()
	t.Cleanup(func() {
		p.kill()
		output.close()
	})
	return p
}

// kill ends the process as the kernel does when memory is short.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.end

}

// wait returns when the engine answers.
func (p *process) wait() *process {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		_, err := p.Usage(ctx)
		if err == nil {
			return p
		}
		if maru.KindOf(err) != maru.Unavailable {
			p.t.Fatalf("engine: %v", err)
		}
		select {
		case <-again.C:
		case <-p.end:
			p.t.Fatalf("the engine ended: %v", p.cmd.ProcessState)
		}
	}
}

// lockedWriter drops what comes after the test's end.
type lockedWriter struct {
	mu     sync.Mutex
	w      testWriter
	closed bool
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(p), nil
	}
	return l.w.Write(p)
}

func (l *lockedWriter) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}
