package runner

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/machine"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// maxWorkspace bounds what an action that is an image gives back, in bytes.
const maxWorkspace = 8 << 30

// hubWorkspace is where images of actions expect the workspace; there is a link.
const hubWorkspace = "/github/workspace"

// image runs an action that is an image, and leaves its end for that of the job. GitHub's rules are in
// https://docs.github.com/en/actions/reference/workflows-and-actions/dockerfile-support
func (s *stepRun) image(ctx context.Context, a *workflow.Action, inputs *expr.Object, with variables) error {
	run, err := s.imageRun(a, inputs, with)
	if err != nil {
		return err
	}
	main := a.Main
	if own, ok := with.values["entrypoint"]; ok {
		main = own
	}
	return s.whole(ctx, a, main, run)
}

// imageRun gives what runs the action's image by one of its entry points.
func (s *stepRun) imageRun(a *workflow.Action, inputs *expr.Object, with variables) (func(ctx context.Context, s *stepRun, entrypoint string) error, error) {
	expressions := s.expressions()
	expressions.Contexts.Set("inputs", inputs)
	env := inputVariables(inputs)
	var own variables
	if err := own.add(a.Env, expressions); err != nil {
		return nil, err
	}
	for _, name := range own.names {
		env[name] = own.values[name]
	}
	var args []string
	for _, text := range a.Args {
		arg, err := text.Eval(expressions)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	if text, ok := with.values["args"]; ok {
		words, err := workflow.SplitWords(text)
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "args: %w", err)
		}
		args = words
	}
	var image machine.Image
	return func(ctx context.Context, s *stepRun, entrypoint string) error {
		if image.Reference == "" {
			reference, err := s.imageOf(ctx, a)
			if err != nil {
				return err
			}
			image.Reference = reference
		}
		s.addState(env)
		return s.runImage(ctx, image, entrypoint, args, env)
	}, nil
}

// imageOf gives the action's image, which is built if it is a Dockerfile.
func (s *stepRun) imageOf(ctx context.Context, a *workflow.Action) (string, error) {
	if reference, ok := strings.CutPrefix(a.Image, workflow.ImagePrefix); ok {
		return reference, nil
	}
	return s.build(ctx, s.job.folder(a.Folder), BuildRequest{Dockerfile: path.Clean(a.Image)})
}

// build builds an image of a folder of the job's container.
func (s *stepRun) build(ctx context.Context, folder string, req BuildRequest) (reference string, err error) {
	if s.job.Builder == nil {
		return "", maru.WithHint(maru.Errorf(maru.Unsupported, "no images are built here"), "name an image that is in a registry")
	}
	req.Repository = expr.String(s.job.github.Get("repository"))
	err = piped(func(w io.Writer) error { return machine.CopyOut(ctx, s.job.c, folder, []string{"."}, w) }, func(r io.Reader) (err error) {
		reference, err = s.job.Builder.Build(ctx, req, machine.Limited(r, maxWorkspace), s.say)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("build %s: %w", req.Dockerfile, err)
	}
	return reference, nil
}

// runImage runs an image with the workspace as it is, which then is as the image left it.
func (s *stepRun) runImage(ctx context.Context, image machine.Image, entrypoint string, args []string, env map[string]string) (err error) {
	j := s.job
	c, err := j.c.Beside(ctx, image, s.say)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), time.Minute, maru.Errorf(maru.Unavailable, "the machine does not answer"))
		defer cancel()
		err = errors.Join(err, c.Remove(ctx))
	}()
	at := inAction{c, j.c.Paths()}
	if err := at.takeWorkspace(ctx, j.c); err != nil {
		return fmt.Errorf("bring the workspace to the action: %w", err)
	}
	config := c.Config()
	command := config.Entrypoint
	if entrypoint != "" {
		command = []string{entrypoint}
	}
	if len(args) == 0 && entrypoint == "" {
		args = config.Command
	}
	if command = append(command[:len(command):len(command)], args...); len(command) == 0 {
		return maru.WithHint(maru.Errorf(maru.Invalid, "the image %s has neither an entry point nor a command", image.Reference), "give the step an entrypoint in with")
	}
	err = s.execIn(ctx, at, command, j.c.Paths().Workspace, env, map[string]string{"event.json": string(j.task.Event)})
	if back := at.giveWorkspace(ctx, j.c); back != nil && ctx.Err() == nil {
		err = errors.Join(err, fmt.Errorf("take the workspace back from the action: %w", back))
	}
	return err
}

// inAction is the container of an action that is an image. It has the workspace and the folder of temporary files where
// the job has them.
type inAction struct {
	machine.ActionContainer
	paths machine.Paths
}

func (c inAction) run(ctx context.Context, archive io.Reader, cmd maru.ExecCommand, stdout, stderr io.Writer) (int, error) {
	if err := c.copyIn(ctx, archive, c.paths.Temp); err != nil {
		return 0, err
	}
	return c.Exec(ctx, cmd, nil, stdout, stderr)
}

func (c inAction) pack(ctx context.Context, dir string, w io.Writer) error {
	return c.CopyOut(ctx, dir, w)
}

// takeWorkspace brings the job's workspace there.
func (c inAction) takeWorkspace(ctx context.Context, job machine.Container) error {
	link := tar.Header{Typeflag: tar.TypeSymlink, Name: hubWorkspace, Linkname: c.paths.Workspace}
	return piped(func(w io.Writer) error { return machine.CopyOut(ctx, job, c.paths.Workspace, []string{"."}, w) },
		func(r io.Reader) error {
			return c.copyIn(ctx, machine.Limited(r, maxWorkspace), c.paths.Workspace, link)
		})
}

// giveWorkspace has the job's workspace be as it is there. All of it comes before anything of the job's goes.
func (c inAction) giveWorkspace(ctx context.Context, job machine.Container) error {
	coming := path.Join(c.paths.Temp, "workspace")
	err := piped(func(w io.Writer) error { return c.CopyOut(ctx, c.paths.Workspace, w) },
		func(r io.Reader) error { return machine.CopyIn(ctx, job, coming, machine.Limited(r, maxWorkspace)) })
	script := `[ ! -e "$2" ] || find "$2" -delete` // of the programs that each job's image has
	if err == nil {
		script = `cd -- "$1" && find . -depth ! -name . -delete && tar -c -f - -C "$2" . | tar -x -f - && find "$2" -delete`
	}
	return errors.Join(err, machine.Run(ctx, job, script, c.paths.Workspace, coming))
}

// copyIn unpacks a tar stream in a folder, after further entries.
func (c inAction) copyIn(ctx context.Context, archive io.Reader, folder string, before ...tar.Header) error {
	return piped(func(w io.Writer) error { return move(w, archive, folder, before) }, func(r io.Reader) error { return c.CopyIn(ctx, r) })
}

// move writes a tar stream again with its names below a folder, and further entries before. What is no file, folder or
// link is left out.
func move(to io.Writer, archive io.Reader, folder string, before []tar.Header) error {
	in, out := tar.NewReader(archive), tar.NewWriter(to)
	for _, h := range append([]tar.Header{{Typeflag: tar.TypeDir, Name: folder, Mode: 0o777}}, before...) {
		if err := out.WriteHeader(&h); err != nil {
			return err
		}
	}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeDir, tar.TypeSymlink:
		case tar.TypeLink:
			h.Linkname = path.Join(folder, h.Linkname)
		default:
			continue
		}
		h.Name = path.Join(folder, h.Name)
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}
