package runner

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// fileCommands are the files that a step writes commands to.
var fileCommands = []struct {
	name, variable string
	take           func(s *stepRun, text string) error
}{
	{"output", "GITHUB_OUTPUT", func(s *stepRun, text string) error {
		return takePairs(text, func(k, v string) error { s.outputs.Set(k, v); return nil })
	}},
	{"env", "GITHUB_ENV", (*stepRun).takeEnv},
	{"path", "GITHUB_PATH", func(s *stepRun, text string) error {
		for line := range strings.Lines(text) {
			if dir := strings.TrimRight(line, "\r\n"); dir != "" {
				s.job.path = append([]string{dir}, s.job.path...)
			}
		}
		return nil
	}},
	{"state", "GITHUB_STATE", func(s *stepRun, text string) error {
		return takePairs(text, func(k, v string) error { s.state.set(k, v); return nil })
	}},
	{"summary", "GITHUB_STEP_SUMMARY", (*stepRun).takeSummary},
	{"images", "MARU_IMAGES", (*stepRun).takeImages},
}

func takePairs(text string, take func(key, value string) error) error {
	pairs, err := parsePairs(text)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if err := take(p[0], p[1]); err != nil {
			return err
		}
	}
	return nil
}

func (s *stepRun) takeEnv(text string) error {
	return takePairs(text, func(k, v string) error {
		if reserved(k) || strings.EqualFold(k, "NODE_OPTIONS") {
			return maru.WithHint(maru.Errorf(maru.Denied, "the variable %s can't be set for the steps to come", k), "use another name, or the step's env")
		}
		s.job.env.set(k, v)
		return nil
	})
}

// reserved tells whether a variable is what Maru says of the job.
func reserved(name string) bool {
	return strings.HasPrefix(name, "GITHUB_") || strings.HasPrefix(name, "RUNNER_")
}

// maxSummary is how large a step's summary may be, in bytes.
const maxSummary = 1 << 20

func (s *stepRun) takeSummary(text string) error {
	if text == "" {
		return nil
	}
	if len(text) > maxSummary {
		s.job.annotate(maru.RunEvent{Step: s.number, Level: "warning", Text: "the summary is left out: it has more than 1 MiB"})
		return nil
	}
	s.job.emit(maru.RunEvent{Kind: maru.RunSummary, Step: s.number, Text: s.job.masks.Replace(strings.ToValidUTF8(text, "\uFFFD"))})
	return nil
}

// takeImages takes lines of SERVICE=NAME@sha256:…: images that the app is to run in the place of building them.
func (s *stepRun) takeImages(text string) error {
	for _, line := range nonEmpty(text) {
		service, image, _ := strings.Cut(line, "=")
		if err := maru.CheckName("service", service); err != nil {
			return maru.WithHint(maru.Errorf(maru.Invalid, "%q is not SERVICE=IMAGE: %w", line, err), "write such as web=registry.example.com/shop/web@sha256:…")
		}
		named, err := reference.ParseNormalizedNamed(image)
		if err != nil {
			return maru.Errorf(maru.Invalid, "the image of %s: %q: %w", service, image, err)
		}
		if _, ok := named.(reference.Digested); !ok {
			return maru.WithHint(maru.Errorf(maru.Invalid, "the image of %s is %s, which has no digest", service, image),
				"hand it over as NAME@sha256:…, which is what was tested; a tag may be another image by then")
		}
		if before, ok := s.job.images[service]; ok && before != named.String() {
			return maru.Errorf(maru.Invalid, "the image of %s is %s already, and not %s", service, before, named)
		}
		if s.job.images == nil {
			s.job.images = map[string]string{}
		}
		s.job.images[service] = named.String()
		s.say("the image of " + service + " is handed over: " + named.String())
	}
	return nil
}

// takeFiles does the commands that the step wrote to files.
func (s *stepRun) takeFiles(ctx context.Context, at site) error {
	files, err := readFiles(ctx, at, path.Join(s.job.c.Paths().Temp, s.files))
	if err != nil {
		return fmt.Errorf("read the step's file commands: %w", err)
	}
	for _, f := range fileCommands {
		if err := f.take(s, files[f.name]); err != nil {
			return fmt.Errorf("%s: %w", f.variable, err)
		}
	}
	return nil
}

// processEnv are the environment variables of a process of the step.
func (s *stepRun) processEnv(own map[string]string) map[string]string {
	j := s.job
	all := map[string]string{"CI": "true"}
	for _, v := range []*variables{&j.env, &s.frame.env, &s.env} {
		for _, name := range v.names {
			if !reserved(name) {
				all[name] = v.values[name]
			}
		}
	}
	github := s.expressions().Contexts.Get("github").(*expr.Object)
	for _, key := range github.Keys() {
		v := github.Get(key)
		switch v.(type) {
		case *expr.Object, *expr.Array:
			continue
		}
		if key != "token" {
			all["GITHUB_"+strings.ToUpper(key)] = expr.String(v)
		}
	}
	all["GITHUB_ACTIONS"] = "true"
	for _, key := range j.runner.Keys() {
		if text := expr.String(j.runner.Get(key)); text != "" {
			all["RUNNER_"+strings.ToUpper(key)] = text
		}
	}
	if len(j.path) > 0 {
		before, ok := all["PATH"]
		if !ok {
			before = j.c.Tools().Path
		}
		all["PATH"] = strings.Join(append(slices.Clone(j.path), before), ":")
	}
	for k, v := range own {
		all[k] = v
	}
	return all
}

// pack makes a tar archive of files, which whoever runs in the container may write to.
func pack(files map[string]string) (io.Reader, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o777, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, text); err != nil {
			return nil, err
		}
	}
	return &archive, w.Close()
}

// readFiles gives the files of a folder of file commands.
func readFiles(ctx context.Context, at site, dir string) (map[string]string, error) {
	files := map[string]string{}
	packed := func(w io.Writer) error { return at.pack(ctx, dir, w) }
	err := eachPacked(packed, int64(len(fileCommands)*(maxFileCommand+4096)), func(h *tar.Header, r io.Reader) error {
		data, err := io.ReadAll(io.LimitReader(r, maxFileCommand+1))
		if err == nil && len(data) > maxFileCommand {
			err = maru.Errorf(maru.Exhausted, "%s has more than %d MiB", h.Name, maxFileCommand>>20)
		}
		files[path.Base(h.Name)] = string(data)
		return err
	})
	return files, err
}

// eachFile gives the regular files among some files of the container, of up to max bytes together.
func (j *job) eachFile(ctx context.Context, dir string, names []string, max int64, take func(*tar.Header, io.Reader) error) error {
	return eachPacked(func(w io.Writer) error { return machine.CopyOut(ctx, j.c, dir, names, w) }, max, take)
}

// eachPacked gives the regular files of a tar stream of up to max bytes.
func eachPacked(pack func(io.Writer) error, max int64, take func(*tar.Header, io.Reader) error) error {
	return piped(pack, func(r io.Reader) error {
		for archive := tar.NewReader(machine.Limited(r, max)); ; {
			h, err := archive.Next()
			if errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if h.Typeflag == tar.TypeReg {
				if err := take(h, archive); err != nil {
					return err
				}
			}
		}
	})
}

// maxPadding is how much may come behind the end of a tar stream, in bytes.
const maxPadding = 1 << 20

// piped has one function read what another writes. The error is the reader's, which knows that of the writer, or else
// the writer's.
func piped(write func(io.Writer) error, read func(io.Reader) error) error {
	reader, writer := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := write(writer)
		_ = writer.CloseWithError(err)
		wrote <- err
	}()
	err := read(reader)
	if err == nil {
		if _, err = io.CopyN(io.Discard, reader, maxPadding); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	_ = reader.CloseWithError(io.ErrClosedPipe)
	if wrong := <-wrote; err == nil && !errors.Is(wrong, io.ErrClosedPipe) {
		err = wrong
	}
	return err
}
