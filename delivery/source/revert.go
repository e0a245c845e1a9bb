package source

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Holds tells whether a commit still has all that another one changed, compared with what was before that: each
// file that it changed is as it left it. Contains tells whether the other is one of its ancestors. What the
// repository has no more is not held.
func (s *Repositories) Holds(ctx context.Context, id maru.RepositoryID, commit, before, other string) (holds, contains bool, err error) {
	dir, err := s.find(id)
	if err != nil {
		return false, false, err
	}
	for _, name := range []string{commit, before, other} {
		if !isObjectName(name) || !s.has(ctx, dir, name) {
			return false, false, nil
		}
	}
	changed, err := s.changedPaths(ctx, dir, before, other)
	if err != nil {
		return false, false, err
	}
	since, err := s.changedPaths(ctx, dir, other, commit)
	if err != nil {
		return false, false, err
	}
	holds = len(changed) > 0
	for path := range changed {
		holds = holds && !since[path]
	}
	return holds, s.contains(ctx, dir, commit, other), nil
}

// changedPaths gives the paths that two commits have not in common.
func (s *Repositories) changedPaths(ctx context.Context, dir, a, b string) (map[string]bool, error) {
	out, err := s.output(ctx, dir, "diff-tree", "-r", "-z", "--name-only", "--no-renames", a, b)
	if err != nil {
		return nil, err
	}
	paths := map[string]bool{}
	for path := range strings.SplitSeq(out, "\x00") {
		if path != "" {
			paths[path] = true
		}
	}
	return paths, nil
}

// contains tells whether a commit is another one or has it as an ancestor.
func (s *Repositories) contains(ctx context.Context, dir, commit, other string) bool {
	_, err := s.output(ctx, dir, "merge-base", "--is-ancestor", other, commit)
	return err == nil
}

// Revert is a branch with a commit that takes others back.
type Revert struct {
	Branch  string // below revertPrefix
	Of      string // the newest commit that is taken back: the branch's commit follows it
	To      string // the commit whose files come back
	Message string // of the commit, behind its subject
	At      time.Time
}

// revertPrefix begins the names of branches that Maru makes.
const revertPrefix = "revert/"

// RevertBranch names the branch for taking a commit back.
func RevertBranch(commit string) string { return revertPrefix + commit[:min(len(commit), 12)] }

// reviser is who Maru's own commits are by.
const reviser = "maru@localhost"

// OfferReverts has the repository have these branches, and of those that Maru made no others. What somebody pushed
// to such a branch is left alone, and so is a commit to take back that no other branch has any more.
func (s *Repositories) OfferReverts(ctx context.Context, id maru.RepositoryID, wanted []Revert) error {
	dir, err := s.find(id)
	if err != nil {
		return err
	}
	out, err := s.output(ctx, dir, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2) %(committeremail)", headRefs)
	if err != nil {
		return err
	}
	branches, ours := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		branches[fields[1]] = fields[0]
		ours[fields[1]] = strings.HasPrefix(fields[1], revertPrefix) && len(fields) == 3 && fields[2] == "<"+reviser+">"
	}
	for _, r := range wanted {
		if branches[r.Branch] != "" && !ours[r.Branch] {
			continue
		}
		made, err := s.revert(ctx, id, dir, r, branches, ours)
		if err != nil {
			return err
		}
		if made != "" && made != branches[r.Branch] {
			if err := s.moveRef(ctx, dir, headRefs+r.Branch, made, branches[r.Branch]); err != nil {
				return err
			}
		}
		if made != "" {
			delete(ours, r.Branch)
		}
	}
	for branch, made := range ours {
		if made {
			if err := s.moveRef(ctx, dir, headRefs+branch, "", branches[branch]); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveRef moves a ref from one object to another; "": there is none.
func (s *Repositories) moveRef(ctx context.Context, dir, ref, to, from string) error {
	args := []string{"update-ref", ref, to, from}
	if to == "" {
		args = []string{"update-ref", "-d", ref, from}
	}
	_, err := s.output(ctx, dir, args...)
	return err
}

// revert makes the commit; "": there is nothing that it could be for. The same one is made each time.
func (s *Repositories) revert(ctx context.Context, id maru.RepositoryID, dir string, r Revert, branches map[string]string, ours map[string]bool) (string, error) {
	if !isObjectName(r.Of) || !isObjectName(r.To) || !s.has(ctx, dir, r.Of) || !s.has(ctx, dir, r.To) {
		return "", nil
	}
	reachable := false
	for branch, tip := range branches {
		reachable = reachable || !ours[branch] && s.contains(ctx, dir, tip, r.Of)
	}
	files, err := s.Tree(ctx, id, r.To)
	if err != nil {
		return "", err
	}
	if has, err := s.Tree(ctx, id, r.Of); err != nil || has == files || !reachable {
		return "", err
	}
	cmd := s.git(ctx, dir, "commit-tree", files, "-p", r.Of)
	at := r.At.UTC().Format(time.RFC3339)
	cmd.Env = slices.Concat(cmd.Env, []string{
		"GIT_AUTHOR_NAME=Maru", "GIT_AUTHOR_EMAIL=" + reviser, "GIT_AUTHOR_DATE=" + at,
		"GIT_COMMITTER_NAME=Maru", "GIT_COMMITTER_EMAIL=" + reviser, "GIT_COMMITTER_DATE=" + at,
	})
	var text, made, errs bytes.Buffer
	text.WriteString("Revert \"" + s.Subject(ctx, id, r.Of) + "\"\n\n" + r.Message + "\n")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &text, &made, &errs
	if err := cmd.Run(); err != nil {
		return "", gitError("commit-tree", err, errs.String())
	}
	return strings.TrimSpace(made.String()), nil
}
