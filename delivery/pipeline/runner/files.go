package runner

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// maxHashed bounds what hashFiles reads, in bytes.
const maxHashed = 1 << 30

// hashFiles gives the SHA-256 of the files' SHA-256 one after the other, "" when there are none.
func (j *job) hashFiles(patterns []string) (string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var lines []string
	for _, p := range patterns {
		lines = append(lines, nonEmpty(p)...)
	}
	workspace := j.c.Paths().Workspace
	for i, p := range lines {
		negated := strings.HasPrefix(p, "!")
		p = path.Clean(strings.TrimPrefix(strings.TrimPrefix(p, "!"), workspace+"/"))
		if !filepathLocal(p) {
			return "", maru.Errorf(maru.Invalid, "the pattern %q leads out of the workspace", p)
		}
		lines[i] = map[bool]string{true: "!", false: ""}[negated] + p
	}
	names, err := machine.List(ctx, j.c, workspace)
	if err != nil {
		return "", err
	}
	names = matching(names, lines, false)
	if len(names) == 0 {
		return "", nil
	}
	sums := map[string][]byte{}
	err = j.eachFile(ctx, workspace, names, maxHashed, func(h *tar.Header, r io.Reader) error {
		sum := sha256.New()
		_, err := io.Copy(sum, r)
		sums[h.Name] = sum.Sum(nil)
		return err
	})
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	total := sha256.New()
	for _, name := range names {
		total.Write(sums[name])
	}
	return hex.EncodeToString(total.Sum(nil)), nil
}

func filepathLocal(p string) bool {
	return p != ".." && !strings.HasPrefix(p, "../") && !strings.HasPrefix(p, "/")
}

// nonEmpty are the lines of a text that say something; # begins a comment.
func nonEmpty(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

// matching gives the names that the last pattern to speak of them takes in; ! takes out. With below,
// a pattern for a folder is for all that is in it.
func matching(names, patterns []string, below bool) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		in := false
		for _, p := range patterns {
			positive := strings.TrimPrefix(p, "!")
			if matchesPath(positive, name, below) {
				in = positive == p
			}
		}
		return !in
	})
}

func matchesPath(pattern, name string, below bool) bool {
	for {
		if ok, err := doublestar.Match(pattern, name); err == nil && ok {
			return true
		}
		if name = path.Dir(name); !below || name == "." || name == "/" {
			return below && pattern == "."
		}
	}
}

// place is where a line of `path` leads: a folder that has no pattern in it, and a pattern below.
type place struct {
	base, pattern string // the base is absolute
	negated       bool
}

// places reads a list of paths: relative to the workspace, absolute, or with ~ for the home folder.
func (j *job) places(text string) []place {
	var all []place
	for _, line := range nonEmpty(text) {
		p := place{negated: strings.HasPrefix(line, "!")}
		line = strings.TrimSpace(strings.TrimPrefix(line, "!"))
		if rest, ok := strings.CutPrefix(line, "~"); ok && (rest == "" || rest[0] == '/') {
			line = j.c.Paths().Home + rest
		}
		line = j.folder(line)
		base, pattern := doublestar.SplitPattern(line)
		p.base, p.pattern = path.Clean(base), pattern
		all = append(all, p)
	}
	return all
}
