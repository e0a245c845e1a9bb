package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/compose"
)

// devHelper is the program in the instances that takes files, and starts the instance's command again.
// It is process 1 of those with init: true.
const devHelper = "/dev/init"

// whiteout begins the name of what stands for a deletion, as in the layers of OCI images.
const whiteout = ".wh."

// remember keeps what instances that come later are to have too: their image may be older.
func (d *dev) remember(r *devRule, paths []string) {
	if !r.Action.Syncs() {
		return
	}
	if d.changed[r] == nil {
		d.changed[r] = map[string]bool{}
	}
	for _, p := range paths {
		d.changed[r][p] = true
	}
}

// instances gives those of a service that run.
func (d *dev) instances(service string) []*maruv1.Instance {
	var running []*maruv1.Instance
	for _, s := range d.status.GetServices() {
		if s.Name != service {
			continue
		}
		for _, i := range s.Instances {
			if i.Phase == string(maru.PhaseRunning) && !strings.Contains(i.Workload, ".") {
				running = append(running, i)
			}
		}
	}
	return running
}

// catchUp brings instances that are new, or have a new container, to what was saved since the beginning.
func (d *dev) catchUp(ctx context.Context) {
	seen := map[string]bool{}
	for _, s := range d.status.GetServices() {
		for _, i := range d.instances(s.Name) {
			id := i.Id + "#" + maru.Itoa(int(i.Attempt))
			seen[id] = true
			if !d.seen[id] {
				d.bring(ctx, s.Name, i)
			}
		}
	}
	d.seen = seen
}

func (d *dev) bring(ctx context.Context, service string, i *maruv1.Instance) {
	for _, r := range d.rules {
		if r.service != service || !r.Action.Syncs() {
			continue
		}
		var paths []string
		for p := range d.changed[r] {
			paths = append(paths, p)
		}
		slices.Sort(paths)
		if r.InitialSync {
			paths = append(paths, r.Path)
		}
		if len(paths) > 0 {
			d.apply(ctx, r, paths, []*maruv1.Instance{i})
		}
	}
}

// apply does what a rule says of changed paths in instances, beside the loop and one after the other for
// each service. What is written is what the paths hold by then.
func (d *dev) apply(ctx context.Context, r *devRule, paths []string, instances []*maruv1.Instance) {
	if len(instances) == 0 {
		return
	}
	busy := d.busy[r.service]
	if busy == nil {
		busy = &sync.Mutex{}
		d.busy[r.service] = busy
	}
	d.jobs.Go(func() error {
		busy.Lock()
		defer busy.Unlock()
		for _, i := range instances {
			if err := d.applyTo(ctx, r, paths, i.Id); err != nil && ctx.Err() == nil {
				d.view.failIn(r.service, err)
				return nil
			}
		}
		d.view.applied(r, len(instances))
		return nil
	})
}

func (d *dev) applyTo(ctx context.Context, r *devRule, paths []string, instance string) error {
	if r.Action.Syncs() {
		if err := d.send(ctx, r, paths, instance); err != nil {
			return err
		}
	}
	if r.Action.Restarts() {
		return d.exec(ctx, r.service, instance, "start the command again", &maruv1.ExecStart{Args: []string{devHelper, "--restart"}}, nil)
	}
	if r.Action == compose.SyncExec {
		start := &maruv1.ExecStart{Args: r.Exec.Args, Env: r.Exec.Env, User: r.Exec.User, Dir: r.Exec.Dir}
		return d.exec(ctx, r.service, instance, "run "+strings.Join(r.Exec.Args, " "), start, nil)
	}
	return nil
}

// send writes the paths into an instance.
func (d *dev) send(ctx context.Context, r *devRule, paths []string, instance string) error {
	reader, writer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := packChanges(writer, r, paths)
		packed <- err
		_ = writer.CloseWithError(err)
	}()
	err := d.exec(ctx, r.service, instance, "write to "+r.Target, &maruv1.ExecStart{Args: []string{devHelper, "--sync"}}, reader)
	_ = reader.Close() // a helper that failed reads no more
	if unread := <-packed; unread != nil && !errors.Is(unread, io.ErrClosedPipe) {
		return unread
	}
	if err != nil && maru.HintOf(err) == "" {
		err = maru.WithHint(err, "the instance's user has to be able to write there: COPY --chown=USER in the Dockerfile, or user: in the compose file")
	}
	return err
}

// exec runs a command in an instance. What it prints is shown if it fails, or is the user's own.
func (d *dev) exec(ctx context.Context, service, instance, what string, start *maruv1.ExecStart, stdin io.Reader) error {
	start.Scope, start.Service, start.Instance = d.scope, service, instance
	var output bytes.Buffer
	streams := client.ExecStreams{Stdin: stdin, Stdout: &output, Stderr: &output}
	code, err := d.RunExec(ctx, start, streams)
	said := strings.TrimSpace(output.String())
	switch {
	case err != nil:
		return maru.WithHint(maru.Errorf(maru.KindOf(err), "%s in %s: %w", what, instance, err), maru.HintOf(err))
	case code != 0:
		return maru.Errorf(maru.Conflict, "%s in %s: exit code %d: %s", what, instance, code, said)
	case said != "":
		for line := range strings.SplitSeq(said, "\n") {
			d.view.line(service, "exec", line)
		}
	}
	return nil
}

// packChanges writes what the paths hold now as a tar stream: the content of folders, and whiteouts of
// what is not there any more.
func packChanges(out io.Writer, r *devRule, paths []string) error {
	archive := tar.NewWriter(out)
	for _, changed := range paths {
		if _, err := os.Lstat(changed); errors.Is(err, fs.ErrNotExist) {
			folder, name := path.Split(r.target(changed))
			if err := archive.WriteHeader(&tar.Header{Name: folder + whiteout + name, Typeflag: tar.TypeReg}); err != nil {
				return err
			}
			continue
		}
		err := filepath.WalkDir(changed, func(name string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // its end is a change of its own
			}
			if err != nil {
				return maru.Errorf(maru.Unavailable, "read what changed: %w", err)
			}
			if entry.IsDir() {
				if name != changed && r.skips(name) {
					return fs.SkipDir
				}
				return nil
			}
			if !r.matches(name) {
				return nil
			}
			return packFile(archive, name, r.target(name))
		})
		if err != nil {
			return err
		}
	}
	return archive.Close()
}

func packFile(archive *tar.Writer, name, target string) error {
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return maru.Errorf(maru.Unavailable, "read what changed: %w", err)
	}
	header := &tar.Header{Name: target, Mode: int64(info.Mode().Perm())}
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		header.Typeflag = tar.TypeSymlink
		if header.Linkname, err = os.Readlink(name); err != nil {
			return maru.Errorf(maru.Unavailable, "read what changed: %w", err)
		}
		return archive.WriteHeader(header)
	case 0:
		// Read whole: a file that is being written may have another size by the time it is sent.
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return maru.Errorf(maru.Unavailable, "read what changed: %w", err)
		}
		header.Typeflag, header.Size = tar.TypeReg, int64(len(data))
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err = archive.Write(data)
		return err
	}
	return nil // sockets, pipes and devices are nothing to sync
}
