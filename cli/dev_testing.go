package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// devTestEnd is how long tests that are out of date have to end.
const devTestEnd = 2 * time.Second

// devTests runs the tests of services, for each the newest only.
type devTests struct {
	view *devView

	mu      sync.Mutex
	running map[string]*devTestRun // by service
}

type devTestRun struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// testCommand gives the command that runs the tests of what is in a folder, by the convention of its
// language, or none: there are no tests that are known.
func testCommand(folder string) []string {
	has := func(names ...string) bool {
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
				return true
			}
		}
		return false
	}
	switch {
	case has("go.mod", "go.work"):
		return []string{"go", "test", "./..."}
	case has("Cargo.toml"):
		return []string{"cargo", "test"}
	case hasScript(filepath.Join(folder, "package.json"), "test"):
		return []string{"npm", "test", "--silent"}
	case has("pytest.ini", "pyproject.toml", "tox.ini", "setup.py"):
		return []string{"python3", "-m", "pytest", "-q"}
	}
	return nil
}

func hasScript(file, name string) bool {
	data, err := os.ReadFile(file)
	var manifest struct {
		Scripts map[string]string `json:"scripts"`
	}
	return err == nil && json.Unmarshal(data, &manifest) == nil && manifest.Scripts[name] != ""
}

// run begins the tests of a service that is built, instead of those that are still running.
func (t *devTests) run(ctx context.Context, service string, build *maru.Build) {
	if build == nil || !filepath.IsAbs(build.Context) {
		return
	}
	folder := build.Context
	if build.Go != nil {
		if module := filepath.Join(folder, filepath.FromSlash(build.Go.Package)); isModule(module) {
			folder = module
		}
	}
	command := testCommand(folder)
	if command == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	next := &devTestRun{cancel, make(chan struct{})}
	t.mu.Lock()
	before := t.running[service]
	if t.running == nil {
		t.running = map[string]*devTestRun{}
	}
	t.running[service] = next
	t.mu.Unlock()
	if before != nil {
		before.cancel()
	}
	go func() {
		defer close(next.done)
		defer cancel()
		if before != nil {
			<-before.done
		}
		t.test(ctx, service, folder, command)
	}()
}

func isModule(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

func (t *devTests) test(ctx context.Context, service, folder string, command []string) {
	if ctx.Err() != nil {
		return
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.WaitDelay = folder, devTestEnd
	cmd.Cancel = func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			return cmd.Process.Kill() // there is no such signal on Windows
		}
		return nil
	}
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		lines := bufio.NewReader(reader)
		for {
			line, err := lines.ReadString('\n')
			if line != "" && ctx.Err() == nil {
				t.view.line(service, "test", line)
			}
			if err != nil {
				return
			}
		}
	}()
	err := cmd.Run()
	_ = writer.Close()
	<-shown
	took := time.Since(began).Seconds()
	switch {
	case ctx.Err() != nil: // there is something newer to test
	case errors.Is(err, exec.ErrNotFound):
		t.view.failIn(service, maru.WithHint(maru.Errorf(maru.NotFound, "the tests need the program %s", command[0]), "install it, or leave --test out"))
	case err != nil:
		t.view.failIn(service, maru.Errorf(maru.Conflict, "%s failed after %.1fs: %w", strings.Join(command, " "), took, err))
	default:
		t.view.say(service, "%s passed after %.1fs", strings.Join(command, " "), took)
	}
}

func (t *devTests) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, run := range t.running {
		run.cancel()
		<-run.done
	}
}
