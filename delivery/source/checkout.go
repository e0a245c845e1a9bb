package source

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// Checkout is a folder with the files of a commit, as git checkout lays them out.
type Checkout struct {
	Dir  string
	base string
	// Notes say in words what of the commit is not there: submodules are empty folders, and files that Git LFS
	// keeps are the pointers to them.
	Notes []string
}

// Close removes the folder.
func (c Checkout) Close() error { return os.RemoveAll(c.base) }

// Checkout lays out a commit's files in a folder of their own, which has the app's name. Symbolic links are
// made as they are, and may lead out of it: whoever reads files has to mind that. NotFound: the repository
// does not have the commit.
func (s *Repositories) Checkout(ctx context.Context, id maru.RepositoryID, commit string) (_ Checkout, err error) {
	dir, err := s.find(id)
	if err != nil {
		return Checkout{}, err
	}
	if !isObjectName(commit) {
		return Checkout{}, maru.Errorf(maru.Invalid, "%q is no commit", commit)
	}
	c := Checkout{base: filepath.Join(s.checkouts(), rand.Text())}
	c.Dir = filepath.Join(c.base, id.App)
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return Checkout{}, fmt.Errorf("check out %s: %w", id, err)
	}
	index := "GIT_INDEX_FILE=" + filepath.Join(c.base, "index")
	for _, args := range [][]string{{"read-tree", commit + "^{commit}"}, {"checkout-index", "--all", "--force"}} {
		cmd := s.git(ctx, dir, args...)
		cmd.Dir = c.Dir
		cmd.Env = append(cmd.Env, index, "GIT_WORK_TREE="+c.Dir)
		out, err := cmd.CombinedOutput()
		if err == nil {
			continue
		}
		if _, gone := s.output(ctx, dir, "cat-file", "-e", commit+"^{commit}"); gone != nil && ctx.Err() == nil {
			return Checkout{}, maru.WithHint(maru.Errorf(maru.NotFound, "the repository %s has no commit %.12s any more", id, commit), "push it again")
		}
		return Checkout{}, gitError(args[0], err, string(out))
	}
	c.Notes, err = s.notes(ctx, dir, commit)
	return c, err
}

// notes tells what of a commit is not laid out.
func (s *Repositories) notes(ctx context.Context, dir, commit string) ([]string, error) {
	out, err := s.output(ctx, dir, "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return nil, err
	}
	var submodules, attributes []string
	for entry := range strings.SplitSeq(out, "\x00") {
		about, path, _ := strings.Cut(entry, "\t")
		switch {
		case strings.HasPrefix(about, "160000 "):
			submodules = append(submodules, path)
		case filepath.Base(path) == ".gitattributes":
			attributes = append(attributes, path)
		}
	}
	var notes []string
	for _, path := range submodules {
		notes = append(notes, fmt.Sprintf("the submodule %s is not fetched: its folder is empty. Put its files into the repository, or build from its address", path))
	}
	for _, path := range attributes {
		text, err := s.output(ctx, dir, "cat-file", "blob", commit+":"+path)
		if err == nil && slices.Contains(strings.Fields(text), "filter=lfs") {
			notes = append(notes, fmt.Sprintf("files that %s gives to Git LFS are not fetched: their pointers are in their place", path))
		}
	}
	return notes, nil
}

// Subject gives the first line of a commit's message; "" when there is no such commit.
func (s *Repositories) Subject(ctx context.Context, id maru.RepositoryID, commit string) string {
	dir, err := s.find(id)
	if err != nil || !isObjectName(commit) {
		return ""
	}
	out, err := s.output(ctx, dir, "show", "--no-patch", "--format=%s", "--encoding=UTF-8", commit)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimSpace(out), "\uFFFD")
}
