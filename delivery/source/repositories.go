package source

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

// Repositories keeps bare repositories below a folder that belongs to it alone: PROJECT/APP.git each. It is
// safe for concurrent use, by one process.
type Repositories struct {
	cfg Config
	log *slog.Logger
}

// suffix ends a repository's folder, and may end its name in an address.
const suffix = ".git"

// headRefs begins the refs of branches.
const headRefs = "refs/heads/"

// Open makes the folder ready: what a process that was killed left half done is taken away.
func Open(cfg Config, log *slog.Logger) (*Repositories, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Repositories{cfg: cfg.withDefaults(), log: log}
	for _, dir := range []string{s.cfg.Folder, s.projects(), s.hooks(), s.incoming(), s.checkouts()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open the Git repositories: %w", err)
		}
	}
	if err := atomicfile.Write(filepath.Join(s.hooks(), "pre-receive"), []byte(preReceive), 0o700); err != nil {
		return nil, fmt.Errorf("open the Git repositories: %w", err)
	}
	for _, dir := range []string{s.incoming(), s.checkouts()} {
		if err := empty(dir); err != nil {
			return nil, fmt.Errorf("open the Git repositories: %w", err)
		}
	}
	for _, id := range s.List() {
		if err := unlock(s.dir(id)); err != nil {
			return nil, fmt.Errorf("open the Git repository %s: %w", id, err)
		}
	}
	return s, nil
}

func (s *Repositories) projects() string  { return filepath.Join(s.cfg.Folder, "repositories") }
func (s *Repositories) incoming() string  { return filepath.Join(s.cfg.Folder, "incoming") }
func (s *Repositories) checkouts() string { return filepath.Join(s.cfg.Folder, "checkouts") }

func (s *Repositories) dir(id maru.RepositoryID) string {
	return filepath.Join(s.projects(), id.Project, id.App+suffix)
}

func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// unlock takes away the locks and the quarantined objects of calls that were killed. No call is under way.
func unlock(repository string) error {
	return filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && filepath.Base(filepath.Dir(path)) == "objects" && quarantine(d.Name()):
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			return fs.SkipDir
		case d.Type().IsRegular() && strings.HasSuffix(d.Name(), ".lock"):
			return os.Remove(path)
		}
		return nil
	})
}

// quarantine tells whether git keeps the objects of a push in a folder of that name until it took them in. Before
// version 2.35 the names have no tmp_objdir.
func quarantine(name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(name, "tmp_objdir-"), "incoming-")
}

// List gives the repositories, sorted.
func (s *Repositories) List() []maru.RepositoryID {
	found, err := filepath.Glob(filepath.Join(s.projects(), "*", "*"+suffix))
	if err != nil {
		return nil
	}
	var all []maru.RepositoryID
	for _, dir := range found {
		id := maru.RepositoryID{Project: filepath.Base(filepath.Dir(dir)), App: strings.TrimSuffix(filepath.Base(dir), suffix)}
		if id.Validate() == nil {
			all = append(all, id)
		}
	}
	slices.SortFunc(all, func(a, b maru.RepositoryID) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// Exists tells whether there is such a repository.
func (s *Repositories) Exists(id maru.RepositoryID) bool {
	info, err := os.Stat(s.dir(id))
	return id.Validate() == nil && err == nil && info.IsDir()
}

// find gives the repository's folder; NotFound.
func (s *Repositories) find(id maru.RepositoryID) (string, error) {
	if !s.Exists(id) {
		return "", maru.WithHint(maru.Errorf(maru.NotFound, "there is no Git repository %s", id), "the first push of somebody who may deploy the app makes it")
	}
	return s.dir(id), nil
}

// Create makes an empty repository, unless there is one.
func (s *Repositories) Create(ctx context.Context, id maru.RepositoryID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	if s.Exists(id) {
		return nil
	}
	return s.make(ctx, id, "main", func(string) error { return nil })
}

// make makes a repository with a default branch and fills it, unless there is one by then.
func (s *Repositories) make(ctx context.Context, id maru.RepositoryID, standard string, fill func(dir string) error) error {
	made := filepath.Join(s.incoming(), rand.Text())
	if err := os.Mkdir(made, 0o700); err != nil {
		return fmt.Errorf("make the Git repository %s: %w", id, err)
	}
	defer os.RemoveAll(made)
	if _, err := s.output(ctx, made, "init", "--quiet", "--bare", "--template=", "--initial-branch="+standard); err != nil {
		return err
	}
	if err := fill(made); err != nil {
		return err
	}
	if err := atomicfile.SyncTree(made); err != nil {
		return fmt.Errorf("make the Git repository %s: %w", id, err)
	}
	if err := atomicfile.MkdirAll(filepath.Dir(s.dir(id)), 0o700); err != nil {
		return fmt.Errorf("make the Git repository %s: %w", id, err)
	}
	if err := os.Rename(made, s.dir(id)); err != nil && !s.Exists(id) {
		return fmt.Errorf("make the Git repository %s: %w", id, err)
	}
	return atomicfile.SyncDir(filepath.Dir(s.dir(id)))
}

// Remove forgets a repository with all that is in it.
func (s *Repositories) Remove(id maru.RepositoryID) error {
	dir, err := s.find(id)
	if err != nil {
		return err
	}
	gone := filepath.Join(s.incoming(), rand.Text())
	if err := os.Rename(dir, gone); err != nil {
		return fmt.Errorf("remove the Git repository %s: %w", id, err)
	}
	return os.RemoveAll(gone)
}

// Branches gives the commit of each branch, and the name of the default one, which may have no commit yet.
func (s *Repositories) Branches(ctx context.Context, id maru.RepositoryID) (branches map[string]string, standard string, err error) {
	dir, err := s.find(id)
	if err != nil {
		return nil, "", err
	}
	out, err := s.output(ctx, dir, "for-each-ref", "--format=%(objectname) %(refname)", headRefs)
	if err != nil {
		return nil, "", err
	}
	branches = map[string]string{}
	for line := range strings.Lines(out) {
		if commit, ref, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			branches[strings.TrimPrefix(ref, headRefs)] = commit
		}
	}
	standard, err = head(dir)
	return branches, standard, err
}

// Default gives the default branch, which need not be there.
func (s *Repositories) Default(id maru.RepositoryID) (string, error) {
	dir, err := s.find(id)
	if err != nil {
		return "", err
	}
	return head(dir)
}

// head gives the branch that HEAD points to.
func head(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "HEAD"))
	if err != nil {
		return "", fmt.Errorf("default branch of %s: %w", dir, err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(text)), "ref: "+headRefs), nil
}

// SetDefault makes a branch the default one.
func (s *Repositories) SetDefault(ctx context.Context, id maru.RepositoryID, branch string) error {
	dir, err := s.find(id)
	if err != nil {
		return err
	}
	if _, err := s.output(ctx, dir, "check-ref-format", headRefs+branch); err != nil {
		return maru.Errorf(maru.Invalid, "%q is no name of a branch", branch)
	}
	_, err = s.output(ctx, dir, "symbolic-ref", "HEAD", headRefs+branch)
	return err
}

// Run collects garbage from time to time until ctx ends.
func (s *Repositories) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.cfg.CollectGap)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, id := range s.List() {
			if _, err := s.output(ctx, s.dir(id), "gc", "--auto", "--quiet"); err != nil && ctx.Err() == nil {
				s.log.Warn("garbage of a Git repository is not collected", "repository", id.String(), "error", err)
			}
		}
	}
}
