// Package machine is where the jobs of a pipeline run: the contract between whoever runs steps and
// whoever has containers.
//
// A container is made for one job, with the services that it asks for beside it, and goes with the job.
// Nothing of one job is left for another. Inside there is a shell (sh), and for copying files tar.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Machine has containers for jobs. Its methods are safe for concurrent use.
type Machine interface {
	// Start makes the container of a job, and its services, and returns when all run and the services
	// are healthy. Errors: Invalid for what can't be made so (no such image, a service that ends or never
	// becomes healthy), Unsupported, Exhausted. What was made is removed when there is an error.
	Start(ctx context.Context, spec Spec) (Container, error)
	// Sweep removes what is left of jobs of a process that died. It is called before any Start.
	Sweep(ctx context.Context) error
}

// Container is a job's container. Its methods are safe for concurrent use.
type Container interface {
	// Paths says where things are inside.
	Paths() Paths
	// Tools says what the image has.
	Tools() Tools
	// Exec runs a command to its end and gives its exit code, as [maru.Execer] does. When ctx ends the
	// command is killed, with all that it started.
	Exec(ctx context.Context, cmd maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error)
	// Beside makes a container of another image for one step, which reaches the same services. Its file system is its
	// own, and it goes with the job at the latest. Errors: as those of Start.
	Beside(ctx context.Context, image Image, progress func(string)) (ActionContainer, error)
	// Remove ends all that runs in it and its services, and removes them. A second time does nothing.
	Remove(ctx context.Context) error
}

// ActionContainer is a container for an action that is an image, which needs no shell for it. Its methods are not
// called at once.
type ActionContainer interface {
	// Config is what the image says of how to run it.
	Config() maru.ImageConfig
	// CopyIn unpacks a tar stream of files, folders and symbolic links, whose names begin at the root.
	CopyIn(ctx context.Context, archive io.Reader) error
	// CopyOut packs a folder into a tar stream, with names relative to it.
	CopyOut(ctx context.Context, dir string, w io.Writer) error
	// Exec runs a command as [Container] does.
	Exec(ctx context.Context, cmd maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error)
	// Remove ends all that runs in it, and removes it.
	Remove(ctx context.Context) error
}

// Paths are folders in a container, absolute. All are there, and can be written to.
type Paths struct {
	Workspace string // empty at first: where the job's files are
	Temp      string // empty at first: for whoever runs the steps
	Home      string
}

// Tools are what an image has for jobs.
type Tools struct {
	Programs map[string]bool // of those that jobs may want: bash, python, python3, node, pwsh, tar, find
	Path     string          // PATH
}

// Look is a script of sh whose output [ParseTools] takes.
const Look = `for p in bash python python3 node pwsh tar find; do command -v "$p" >/dev/null 2>&1 && echo "$p"; done; echo "PATH=$PATH"`

// ParseTools reads what [Look] wrote. It is Invalid when a program is missing without which there is no job.
func ParseTools(out string) (Tools, error) {
	t := Tools{Programs: map[string]bool{}}
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if path, ok := strings.CutPrefix(line, "PATH="); ok {
			t.Path = path
			continue
		}
		t.Programs[line] = true
	}
	if !t.Programs["tar"] || !t.Programs["find"] {
		return t, maru.WithHint(maru.Errorf(maru.Invalid, "the job's image lacks tar or find"), "use one that has both: files come into the job and out of it by them")
	}
	return t, nil
}

// NoShell is the error of an image in which there is no sh.
func NoShell(image string) error {
	return maru.WithHint(maru.Errorf(maru.Invalid, "the image %s has no shell", image), "use one that has sh, tar and find; a service can be without")
}

// Spec says what a job's container is to be.
type Spec struct {
	ID       string // unique among all jobs at work: a name of 1 to 50 of a-z, 0-9 and -
	Image    Image
	Env      map[string]string
	User     string // "": root
	Hostname string
	CPUs     float64 // 0: the machine's default
	Memory   int64   // bytes; 0: the machine's default
	ShmSize  int64   // bytes; 0: 64 MiB
	Tmpfs    []string
	Services []Service
	Progress func(string) // is told, a line each, what takes time; may be nil
}

// Image is an image and who may pull it.
type Image struct {
	Reference          string
	Username, Password string
}

// Service is a container beside the job, which reaches it under Name.
type Service struct {
	Name       string
	Image      Image
	Env        map[string]string
	User       string
	Entrypoint []string // nil: the image's
	CPUs       float64
	Memory     int64
	ShmSize    int64
	Tmpfs      []string
	Ports      []Port
	Health     *Health // nil: it is healthy when its ports accept, or when it runs
}

// Port is a port of a service. The job reaches it under the service's name, and as Host on its own
// localhost.
type Port struct {
	Container uint16
	Host      uint16
}

// Health asks a service whether it is ready.
type Health struct {
	Command     string        // for sh -c, in the service
	Interval    time.Duration // 0: 1 s
	Timeout     time.Duration // 0: 30 s
	StartPeriod time.Duration // failures don't count until then
	Retries     int           // failures in a row until it is given up; 0: 30
}

// Say tells the progress.
func (s Spec) Say(format string, args ...any) {
	if s.Progress != nil {
		s.Progress(fmt.Sprintf(format, args...))
	}
}

// CopyIn unpacks a tar stream in a folder of the container, which is made if it is not there.
func CopyIn(ctx context.Context, c Container, dir string, archive io.Reader) error {
	return run(ctx, c, `mkdir -p -- "$1" && exec tar -x -f - -C "$1"`, []string{dir}, archive, io.Discard)
}

// CopyInExec unpacks a tar stream as [CopyIn] does and runs a command without input, all in one process. An exit
// code may be that of the unpacking, which then tells why on stderr.
func CopyInExec(ctx context.Context, c Container, dir string, archive io.Reader, cmd maru.ExecCommand, stdout, stderr io.Writer) (int, error) {
	script := `mkdir -p -- "$1" && tar -x -f - -C "$1" || exit; shift; exec "$@" < /dev/null`
	cmd.Args = append([]string{"sh", "-c", script, "sh", dir}, cmd.Args...)
	return c.Exec(ctx, cmd, archive, stdout, stderr)
}

// CopyOut packs files and folders of a folder of the container into a tar stream, with names relative
// to it. Links are packed as links.
func CopyOut(ctx context.Context, c Container, dir string, names []string, w io.Writer) error {
	list := strings.Join(names, "\n") + "\n"
	if len(list) < 64<<10 {
		return run(ctx, c, `cd -- "$1" && shift && exec tar -c -f - -- "$@"`, append([]string{dir}, names...), nil, w)
	}
	// There may be more than a command line takes. Not each small tar can read them from a pipe.
	return run(ctx, c, `cd -- "$1" && exec tar -c -f - -T -`, []string{dir}, strings.NewReader(list), w)
}

// List gives the files below a folder of the container, relative to it, in no order. A folder that
// is not there has none.
func List(ctx context.Context, c Container, dir string) ([]string, error) {
	var out strings.Builder
	err := run(ctx, c, `[ -e "$1" ] || exit 0; cd -- "$1" && exec find . ! -type d`, []string{dir}, nil, &out)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(out.String()) {
		if name := strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "./"); name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// Run runs a script of sh with arguments and without input; it is Invalid when that does not exit with 0.
func Run(ctx context.Context, c Container, script string, args ...string) error {
	return run(ctx, c, script, args, nil, io.Discard)
}

func run(ctx context.Context, c Container, script string, args []string, stdin io.Reader, stdout io.Writer) error {
	var complaint strings.Builder
	cmd := maru.ExecCommand{Args: append([]string{"sh", "-c", script, "sh"}, args...), Dir: "/"}
	code, err := c.Exec(ctx, cmd, stdin, stdout, bounded{&complaint})
	switch {
	case err != nil:
		return err
	case code == 127:
		return maru.WithHint(maru.Errorf(maru.Invalid, "the job's image lacks a program: %s", strings.TrimSpace(complaint.String())),
			"use an image that has sh, tar and find")
	case code != 0:
		return maru.Errorf(maru.Invalid, "exit code %d: %s", code, strings.TrimSpace(complaint.String()))
	}
	return nil
}

// bounded takes what fits.
type bounded struct{ *strings.Builder }

func (b bounded) Write(p []byte) (int, error) {
	if b.Len() < 4<<10 {
		b.Builder.Write(p)
	}
	return len(p), nil
}

// ErrTooLarge is the error of a stream that exceeds its bound.
var ErrTooLarge = errors.New("it is larger than allowed")

// Limited gives a reader that fails with ErrTooLarge past n bytes.
func Limited(r io.Reader, n int64) io.Reader { return &limited{r, n} }

type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
