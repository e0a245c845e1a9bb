package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// checkout puts the source tree into the workspace.
func (s *stepRun) checkout(ctx context.Context, with map[string]string) error {
	github := s.job.github
	sha, ref := text(github.Get("sha")), text(github.Get("ref"))
	if r := with["repository"]; r != "" && !strings.EqualFold(r, text(github.Get("repository"))) {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "only this repository is at hand, and not %s", r), "take what other repositories give as packages")
	}
	if r := with["ref"]; r != "" && !slices.Contains([]string{sha, ref, text(github.Get("ref_name")), text(github.Get("head_ref"))}, r) {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "only the run's own commit is at hand, and not %s", r), "leave ref out, and start a run for the other branch")
	}
	dir := with["path"]
	if dir != "" && !filepathLocal(path.Clean(dir)) {
		return maru.Errorf(maru.Invalid, "the path %q leads out of the workspace", dir)
	}
	err := piped(func(w io.Writer) error { return s.job.task.Source.Archive(ctx, w) },
		func(r io.Reader) error { return machine.CopyIn(ctx, s.job.c, s.job.folder(dir), r) })
	if err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	s.outputs.Set("ref", ref)
	s.outputs.Set("commit", sha)
	return nil
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// upload keeps files as an artifact of the run.
func (s *stepRun) upload(ctx context.Context, with map[string]string) error {
	if s.job.Artifacts == nil {
		return maru.Errorf(maru.Unsupported, "artifacts are not kept here")
	}
	name := with["name"]
	if err := checkArtifact(name); err != nil {
		return err
	}
	root, names, err := s.job.gather(ctx, with["path"], with["include-hidden-files"] == "true")
	if err != nil {
		return err
	}
	if len(names) == 0 {
		nothing := "there are no files for the artifact " + name + " at " + strings.Join(nonEmpty(with["path"]), ", ")
		switch with["if-no-files-found"] {
		case "error":
			return maru.Errorf(maru.NotFound, "%s", nothing)
		case "ignore":
		default:
			s.job.annotate(maru.RunEvent{Step: s.number, Level: "warning", Text: nothing})
		}
		return nil
	}
	var size int64
	var digest string
	err = piped(func(w io.Writer) error { return machine.CopyOut(ctx, s.job.c, root, names, w) }, func(r io.Reader) (err error) {
		size, digest, err = s.job.Artifacts.Put(ctx, s.job.task.Run, name, with["overwrite"] == "true", r)
		return err
	})
	if err != nil {
		return fmt.Errorf("artifact %s: %w", name, err)
	}
	s.outputs.Set("artifact-id", name)
	s.outputs.Set("artifact-digest", digest)
	s.job.emit(maru.RunEvent{Kind: maru.RunArtifact, Step: s.number, Name: name, Bytes: size})
	s.say(fmt.Sprintf("%d files, %d bytes, sha256:%s", len(names), size, digest))
	return nil
}

func checkArtifact(name string) error {
	if name == "" || len(name) > 200 || name == "." || name == ".." || strings.ContainsAny(name, "\":<>|*?\r\n\\/") {
		return maru.Errorf(maru.Invalid, "%q is no name for an artifact: it has 1 to 200 characters, and none of \" : < > | * ? \\ /", name)
	}
	return nil
}

// gather finds the files that the paths mean, below the folder that they have in common.
func (j *job) gather(ctx context.Context, paths string, hidden bool) (root string, names []string, err error) {
	places := j.places(paths)
	var found []string // absolute
	for _, p := range places {
		if p.negated {
			continue
		}
		base := p.base
		if p.pattern != "." && !strings.ContainsAny(p.pattern, "*?[{") {
			base = path.Join(p.base, p.pattern) // a file or a folder
			below, err := machine.List(ctx, j.c, base)
			if err != nil { // a file
				found = append(found, base)
				root = common(root, path.Dir(base))
				continue
			}
			for _, name := range below {
				found = append(found, path.Join(base, name))
			}
			if below != nil {
				root = common(root, base)
			}
			continue
		}
		below, err := machine.List(ctx, j.c, base)
		if err != nil {
			return "", nil, err
		}
		for _, name := range matching(below, []string{p.pattern}, true) {
			found = append(found, path.Join(base, name))
		}
		root = common(root, base)
	}
	for _, p := range places {
		if p.negated {
			found = slices.DeleteFunc(found, func(name string) bool {
				return matchesPath(path.Join(p.base, p.pattern), name, true)
			})
		}
	}
	slices.Sort(found)
	for _, name := range slices.Compact(found) {
		relative := strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
		if hidden || !strings.Contains("/"+relative, "/.") {
			names = append(names, relative)
		}
	}
	return root, names, nil
}

// common gives the folder that two have in common; "" stands for any.
func common(a, b string) string {
	if a == "" {
		return b
	}
	for a != b {
		if len(a) > len(b) {
			a = path.Dir(a)
		} else {
			b = path.Dir(b)
		}
	}
	return a
}

// download gets artifacts of the run.
func (s *stepRun) download(ctx context.Context, with map[string]string) error {
	if s.job.Artifacts == nil {
		return maru.Errorf(maru.Unsupported, "artifacts are not kept here")
	}
	dir := s.job.folder(with["path"])
	if rest, ok := strings.CutPrefix(with["path"], "~"); ok {
		dir = path.Join(s.job.c.Paths().Home, rest)
	}
	names := []string{with["name"]}
	all := with["name"] == ""
	if all {
		var err error
		if names, err = s.job.Artifacts.List(ctx, s.job.task.Run); err != nil {
			return err
		}
		if pattern := with["pattern"]; pattern != "" {
			names = slices.DeleteFunc(names, func(name string) bool {
				ok, err := doublestar.Match(pattern, name)
				return err != nil || !ok
			})
		}
	}
	for _, name := range names {
		to := dir
		if all && with["merge-multiple"] != "true" {
			to = path.Join(dir, name)
		}
		if err := s.fetch(ctx, name, to); err != nil {
			return fmt.Errorf("artifact %s: %w", name, err)
		}
		s.say("artifact " + name + " is in " + to)
	}
	s.outputs.Set("download-path", dir)
	return nil
}

func (s *stepRun) fetch(ctx context.Context, name, dir string) error {
	archive, err := s.job.Artifacts.Get(ctx, s.job.task.Run, name)
	if err != nil {
		return err
	}
	err = machine.CopyIn(ctx, s.job.c, dir, archive)
	return errors.Join(err, archive.Close())
}
