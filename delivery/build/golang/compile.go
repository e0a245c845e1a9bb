package golang

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/sandbox"
)

// builderUser owns the caches and runs the Go command, in containers only.
const builderUser = 65532

// compilation is one build's use of the Go command.
type compilation struct {
	b      *Builder
	src    source
	goroot string
	work   string // scratch folder of this build
	folder string // source as the container sees it: src.folder, or a readable copy
}

func (c *compilation) prepare() error {
	for _, dir := range []string{"tmp", "out"} {
		path := filepath.Join(c.work, dir)
		if err := os.Mkdir(path, 0o755); err != nil {
			return fmt.Errorf("make scratch folder: %w", err)
		}
		if err := os.Chown(path, builderUser, builderUser); err != nil {
			return fmt.Errorf("make scratch folder: %w", err)
		}
	}
	c.folder = c.src.folder
	if readable, err := anybodyReads(c.folder); err != nil || readable {
		return changed(err)
	}
	c.folder = filepath.Join(c.work, "src")
	return copyReadable(c.src.folder, c.folder)
}

// run runs the Go command in a container, network "" being none.
func (c *compilation) run(ctx context.Context, step *step, network string, env []string, args ...string) error {
	out := &lines{emit: step.log}
	code, err := c.b.sandbox.Run(ctx, sandbox.Command{
		Root:    c.b.path("root"),
		Args:    append([]string{"/usr/local/go/bin/go"}, args...),
		Env:     append(append([]string{}, baseEnv...), env...),
		Dir:     path.Join("/src", c.src.dir),
		User:    builderUser,
		Network: network,
		Mounts: []sandbox.Mount{
			{Source: c.goroot, Target: "/usr/local/go", ReadOnly: true},
			{Source: c.folder, Target: "/src", ReadOnly: true},
			{Source: c.b.path("cache"), Target: "/cache"},
			{Source: c.b.path("modules"), Target: "/modules"},
			{Source: filepath.Join(c.work, "tmp"), Target: "/tmp"},
			{Source: filepath.Join(c.work, "out"), Target: "/out"},
		},
		Stdout: out,
		Stderr: out,
	})
	out.flush()
	if err != nil {
		return err
	}
	if code != 0 {
		return c.failure(step.name, code, out.last)
	}
	return nil
}

// baseEnv leaves nothing to files or to the source: no other toolchain, no C compiler, no version
// control.
var baseEnv = []string{
	"PATH=/usr/local/go/bin", "HOME=/tmp", "TMPDIR=/tmp", "GOPATH=/tmp/go", "GOCACHE=/cache", "GOMODCACHE=/modules",
	"GOENV=off", "GOTOOLCHAIN=local", "GOTELEMETRY=off", "GOFLAGS=-modcacherw", "GOVCS=*:off", "CGO_ENABLED=0", "GO111MODULE=on",
}

// download fetches the modules that the source names.
func (c *compilation) download(ctx context.Context, step *step) error {
	server, err := serveModules(c.b.fetch, c.b.log)
	if err != nil {
		return err
	}
	defer server.close()
	env := []string{"GOPROXY=" + server.url, "GONOPROXY=none"}
	for _, name := range []string{"GOSUMDB", "GONOSUMDB", "GOINSECURE"} {
		if value := c.b.getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	if private := c.b.getenv("GOPRIVATE"); private != "" && c.b.getenv("GONOSUMDB") == "" {
		env = append(env, "GONOSUMDB="+private)
	}
	return c.run(ctx, step, server.path(), env, "mod", "download")
}

// compile makes the program, without any network.
func (c *compilation) compile(ctx context.Context, step *step) (string, error) {
	err := c.run(ctx, step, "", []string{"GOPROXY=off"}, "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid=", "-o", "/out/app", c.src.arg)
	if err != nil {
		return "", err
	}
	program := filepath.Join(c.work, "out", "app")
	head := make([]byte, 4)
	file, err := os.Open(program)
	if err == nil {
		_, err = file.Read(head)
		file.Close()
	}
	if err != nil || !bytes.Equal(head, []byte("\x7fELF")) {
		return "", maru.WithHint(maru.Errorf(maru.Invalid, "%s is not a program: its package is not main", c.src.pkg),
			"say which folder holds the program: x-maru: {go: {package: ./cmd/NAME}}")
	}
	return program, nil
}

// compilerLine is how the Go command tells a place in the source.
var compilerLine = regexp.MustCompile(`^(?:vet: )?(?:\./)?([^\s:]+\.go):(\d+):(?:\d+:)? (.*)$`)

func (c *compilation) failure(step string, code int, output []string) error {
	e := &build.StepError{Step: step, ExitCode: code, Output: output, Reason: fmt.Sprintf("exit code %d", code)}
	for _, line := range output {
		m := compilerLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		e.File = path.Join(c.src.dir, m[1])
		e.Line, _ = strconv.Atoi(m[2])
		e.Reason = m[3]
		e.Source = sourceLine(filepath.Join(c.src.folder, filepath.FromSlash(e.File)), c.src.folder, e.Line)
		break
	}
	err := e.Err()
	all := strings.Join(output, "\n")
	switch {
	case strings.Contains(all, "signal: killed"):
		return maru.WithHint(err, "the compiler was killed, most likely for want of memory: raise the builder's memory budget")
	case strings.Contains(all, "missing go.sum entry"), strings.Contains(all, "updating go.sum"), strings.Contains(all, "updating go.mod"), strings.Contains(all, "updates to go.mod needed"):
		return maru.WithHint(err, "run `go mod tidy` and commit go.mod and go.sum")
	case strings.Contains(all, "requires cgo"), strings.Contains(all, "build constraints exclude all Go files"):
		return maru.WithHint(err, "Go programs are built without cgo; give this one a Dockerfile")
	case code == 137:
		return maru.WithHint(err, "it was killed, most likely for want of memory: raise the builder's memory budget")
	}
	return err
}

func sourceLine(file, folder string, line int) []string {
	rel, err := filepath.Rel(folder, file)
	if err != nil {
		return nil
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil
	}
	defer root.Close()
	data, err := root.ReadFile(rel)
	if err != nil {
		return nil
	}
	all := strings.Split(string(data), "\n")
	if line < 1 || line > len(all) {
		return nil
	}
	return []string{strings.TrimRight(all[line-1], "\r")}
}

// copyReadable copies a source that not everybody may read, so that the builder's user may.
func copyReadable(from, to string) error {
	err := os.CopyFS(to, withoutGit{os.DirFS(from)})
	if err == nil {
		err = filepath.WalkDir(to, makeReadable)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("copy build context: %w", err)
	}
	return err
}
