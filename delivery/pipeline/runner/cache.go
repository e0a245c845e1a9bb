package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// maxKey is how long a cache's key may be. It is GitHub's limit.
const maxKey = 512

// cache restores, and keeps at the end of the job what was not there.
func (s *stepRun) cache(ctx context.Context, with map[string]string) error {
	matched, err := s.restore(ctx, with)
	if err != nil {
		return err
	}
	hit := strings.EqualFold(matched, with["key"])
	s.outputs.Set("cache-hit", map[bool]string{true: "true", false: map[bool]string{true: "", false: "false"}[matched == ""]}[hit])
	if hit || with["lookup-only"] == "true" {
		return nil
	}
	when, err := expr.ParseCondition(map[bool]string{true: "always()", false: "success()"}[with["save-always"] == "true"])
	if err != nil {
		return err
	}
	s.job.posts = append(s.job.posts, post{name: "Post " + s.def.Uses, step: s.def, in: s.frame, when: when, do: func(ctx context.Context, after *stepRun) error {
		return after.cacheSave(ctx, with)
	}})
	return nil
}

func (s *stepRun) cacheRestore(ctx context.Context, with map[string]string) error {
	matched, err := s.restore(ctx, with)
	if err != nil {
		return err
	}
	s.outputs.Set("cache-primary-key", with["key"])
	s.outputs.Set("cache-matched-key", matched)
	s.outputs.Set("cache-hit", fmt.Sprint(strings.EqualFold(matched, with["key"])))
	return nil
}

// restore gives the key of what it put back, "" for nothing.
func (s *stepRun) restore(ctx context.Context, with map[string]string) (string, error) {
	key := with["key"]
	if key == "" || len(key) > maxKey || strings.Contains(key, ",") {
		return "", maru.Errorf(maru.Invalid, "%q is no key: it has 1 to %d characters, and no comma", shorten(key, 60), maxKey)
	}
	missed := func() (string, error) {
		if with["fail-on-cache-miss"] == "true" {
			return "", maru.Errorf(maru.NotFound, "nothing is kept under the key %s", key)
		}
		s.say("nothing is kept under the key " + key)
		return "", nil
	}
	if s.job.Cache == nil {
		return missed()
	}
	matched, archive, err := s.job.Cache.Restore(ctx, s.job.task.CacheScopes, key, nonEmpty(with["restore-keys"]), cacheVersion(with["path"]))
	if maru.KindOf(err) == maru.NotFound {
		return missed()
	} else if err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	if with["lookup-only"] != "true" {
		err = machine.CopyIn(ctx, s.job.c, "/", archive)
	}
	if err := errors.Join(err, archive.Close()); err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	s.say("restored from the key " + matched)
	return matched, nil
}

// cacheVersion tells caches of different paths apart.
func cacheVersion(paths string) string {
	sum := sha256.Sum256([]byte(strings.Join(nonEmpty(paths), "\n")))
	return hex.EncodeToString(sum[:16])
}

// cacheSave keeps what is at the paths. That it can't is no reason for the job to fail.
func (s *stepRun) cacheSave(ctx context.Context, with map[string]string) error {
	if s.job.Cache == nil || s.job.task.CacheScope == "" {
		s.say("nothing is kept of this run")
		return nil
	}
	names, err := s.job.present(ctx, with["path"])
	if err != nil {
		return err
	}
	if len(names) == 0 {
		s.job.annotate(maru.RunEvent{Step: s.number, Level: "warning", Text: "there is nothing to keep at " + strings.Join(nonEmpty(with["path"]), ", ")})
		return nil
	}
	err = piped(func(w io.Writer) error { return machine.CopyOut(ctx, s.job.c, "/", names, w) },
		func(r io.Reader) error {
			return s.job.Cache.Save(ctx, s.job.task.CacheScope, with["key"], cacheVersion(with["path"]), r)
		})
	switch maru.KindOf(err) {
	case "":
		s.say("kept under the key " + with["key"])
	case maru.Exists:
		s.say("the key " + with["key"] + " is kept already")
	default:
		s.job.annotate(maru.RunEvent{Step: s.number, Level: "warning", Text: "the cache is not kept: " + err.Error()})
	}
	return nil
}

// present gives those of the paths that are there, relative to the root folder.
func (j *job) present(ctx context.Context, paths string) ([]string, error) {
	var names []string
	for _, p := range j.places(paths) {
		switch {
		case p.negated:
			return nil, maru.WithHint(maru.Errorf(maru.Unsupported, "the paths of a cache can't leave anything out"), "name what is to be kept alone")
		case strings.ContainsAny(p.pattern, "*?[{"):
			below, err := machine.List(ctx, j.c, p.base)
			if err != nil {
				return nil, err
			}
			for _, name := range matching(below, []string{p.pattern}, true) {
				names = append(names, path.Join(p.base, name))
			}
		default:
			names = append(names, path.Join(p.base, p.pattern))
		}
	}
	var out strings.Builder
	args := append([]string{"sh", "-c", `for p; do [ -e "$p" ] && echo "$p"; done; :`, "sh"}, names...)
	if _, err := j.c.Exec(ctx, maru.ExecCommand{Args: args, Dir: "/"}, nil, &out, io.Discard); err != nil {
		return nil, err
	}
	names = names[:0]
	for _, line := range nonEmpty(out.String()) {
		names = append(names, strings.TrimPrefix(line, "/"))
	}
	return names, nil
}
