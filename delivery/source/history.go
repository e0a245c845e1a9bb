package source

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// comparing bounds how long git may look for changes that two histories share.
const comparing = 30 * time.Second

// Brings gives the changes that a commit has and the one before has not, newest first, no more than most; more is
// how many older ones there are. Merges are left out, and so is what before has in another commit that changes
// the same, as after a rebase. Without a commit before, or when the repository has it no more, it is the commit alone.
func (s *Repositories) Brings(ctx context.Context, id maru.RepositoryID, before, commit string, most int) (commits []maru.Commit, more int, err error) {
	dir, err := s.find(id)
	if err != nil {
		return nil, 0, err
	}
	if !isObjectName(commit) {
		return nil, 0, maru.Errorf(maru.Invalid, "%q is no commit", commit)
	}
	which := []string{"--no-walk", commit}
	if isObjectName(before) && s.has(ctx, dir, before) {
		which = []string{"--no-merges", "--cherry-pick", "--right-only", before + "..." + commit}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, comparing, maru.Errorf(maru.Exhausted, "comparing %.12s with %.12s took too long", commit, before))
	defer cancel()
	out, err := s.output(ctx, dir, append([]string{"log", "-z", "--format=%H%x1f%at%x1f%B", "--encoding=UTF-8"}, which...)...)
	if err != nil {
		return nil, 0, err
	}
	for entry := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		c, ok := decodeCommit(entry)
		switch {
		case !ok:
		case len(commits) < most:
			commits = append(commits, c)
		default:
			more++
		}
	}
	return commits, more, nil
}

// has tells whether the repository has a commit.
func (s *Repositories) has(ctx context.Context, dir, commit string) bool {
	_, err := s.output(ctx, dir, "cat-file", "-e", commit+"^{commit}")
	return err == nil
}

// reverted is what git revert writes.
var reverted = regexp.MustCompile(`(?m)^This reverts commit ([0-9a-f]{40}|[0-9a-f]{64})\b`)

// decodeCommit reads an entry of git log: name, seconds since 1970, message.
func decodeCommit(entry string) (maru.Commit, bool) {
	name, rest, _ := strings.Cut(entry, "\x1f")
	at, message, ok := strings.Cut(rest, "\x1f")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || !isObjectName(name) {
		return maru.Commit{}, false
	}
	c := maru.Commit{ID: name, Time: time.Unix(seconds, 0).UTC()}
	if year := c.Time.Year(); year < 1970 || year > 9999 {
		return maru.Commit{}, false // no JSON can tell it
	}
	for _, found := range reverted.FindAllStringSubmatch(message, -1) {
		c.Reverts = append(c.Reverts, found[1])
	}
	return c, true
}

// Tree gives the object name of a commit's files; NotFound.
func (s *Repositories) Tree(ctx context.Context, id maru.RepositoryID, commit string) (string, error) {
	dir, err := s.find(id)
	if err != nil {
		return "", err
	}
	if !isObjectName(commit) || !s.has(ctx, dir, commit) {
		return "", maru.Errorf(maru.NotFound, "the repository %s has no commit %.12s", id, commit)
	}
	out, err := s.output(ctx, dir, "rev-parse", "--verify", commit+"^{tree}")
	return strings.TrimSpace(out), err
}
