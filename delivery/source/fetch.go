package source

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/marucloud/maru"
)

// Remote is a repository elsewhere.
type Remote struct {
	URL      string
	User     string
	Password string // or token; "": none
}

// CheckURL tells whether a repository elsewhere may be fetched from the address, as Invalid. Only HTTP is spoken: no
// program is started and no file read for an address.
func CheckURL(address string) error {
	const hint = "write it as https://HOST/PATH, and keep credentials in a secret"
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return maru.WithHint(maru.Errorf(maru.Invalid, "%q is no address", address), hint)
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Opaque != "":
		return maru.WithHint(maru.Errorf(maru.Invalid, "nothing is fetched from %q", address), hint)
	case u.User != nil, u.RawQuery != "", u.Fragment != "", strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return maru.WithHint(maru.Errorf(maru.Invalid, "the address of a repository has nothing but a host and a path"), hint)
	}
	return nil
}

// Refs that clients don't see.
const (
	fetched  = "refs/maru/fetched/"  // the branches elsewhere, as last fetched
	followed = "refs/maru/followed/" // the branches here that come from there: those go when they go there
)

// fetchLimit bounds the time of a fetch.
const fetchLimit = 15 * time.Minute

// Fetch brings the branches of a repository elsewhere that follow wants, and gives the updates that would make the
// branches here what they are there, those that went among them. No branch is moved. Errors: Invalid (the address),
// Denied, NotFound, Exhausted (it is too large, or takes too long), Unavailable.
func (s *Repositories) Fetch(ctx context.Context, id maru.RepositoryID, from Remote, follow func(branch string) bool) ([]maru.RefUpdate, error) {
	if err := CheckURL(from.URL); err != nil {
		return nil, err
	}
	if err := s.Create(ctx, id); err != nil {
		return nil, err
	}
	dir := s.dir(id)
	ctx, cancel := context.WithTimeoutCause(ctx, fetchLimit, maru.Errorf(maru.Exhausted, "the fetch took longer than %s", fetchLimit))
	defer cancel()
	cmd := s.limited(ctx, dir, "fetch", "--quiet", "--prune", "--force", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--end-of-options",
		from.URL, "+"+headRefs+"*:"+fetched+"*")
	cmd.Env = append(cmd.Env, from.environment()...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return nil, fetchError(ctx, err, said.String(), from)
	}
	return s.differences(ctx, dir, follow)
}

// limited is a call of git that can write no file larger than a push may be.
func (s *Repositories) limited(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := s.git(ctx, dir, args...)
	const block = 512 // bytes; the shell's unit
	script := fmt.Sprintf(`ulimit -f %d && exec "$@"`, s.cfg.MaxPush/block)
	limited := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, "git"}, cmd.Args...)...)
	limited.Dir, limited.Env, limited.SysProcAttr = cmd.Dir, cmd.Env, cmd.SysProcAttr
	limited.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	limited.Cancel = func() error { return syscall.Kill(-limited.Process.Pid, syscall.SIGKILL) }
	limited.WaitDelay = time.Second
	return limited
}

// environment confines a fetch to HTTP with the remote's server, and brings the credentials, which no list of
// processes shows.
func (r Remote) environment() []string {
	settings := [][2]string{
		{"protocol.allow", "never"}, {"protocol.https.allow", "always"}, {"protocol.http.allow", "always"},
		{"http.followRedirects", "false"}, {"http.lowSpeedLimit", "1000"}, {"http.lowSpeedTime", "60"},
		{"credential.helper", ""}, {"core.askPass", ""}, {"fetch.unpackLimit", "1"}, {"fetch.fsckObjects", "true"},
	}
	if r.Password != "" {
		user := r.User
		if user == "" {
			user = "maru"
		}
		settings = append(settings, [2]string{"http.extraHeader", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+r.Password))})
	}
	env := []string{"GIT_ALLOW_PROTOCOL=http:https", "GIT_ASKPASS=/bin/false", fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(settings))}
	for i, setting := range settings {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, setting[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, setting[1]))
	}
	return env
}

// fetchError says why a fetch failed, without the credentials.
func fetchError(ctx context.Context, err error, said string, from Remote) error {
	if cause := context.Cause(ctx); cause != nil {
		return maru.Errorf(maru.KindOf(cause), "fetch from %s: %w", from.URL, cause)
	}
	if from.Password != "" {
		said = strings.ReplaceAll(said, from.Password, "…")
	}
	said = printable(strings.TrimSpace(said))
	switch {
	case strings.Contains(said, "Authentication failed"), strings.Contains(said, "could not read Username"), strings.Contains(said, "error: 403"):
		return maru.WithHint(maru.Errorf(maru.Denied, "%s does not let the server in: %s", from.URL, said), "set a secret with a token that may read it, and follow with --credentials NAME")
	case strings.Contains(said, "not found"), strings.Contains(said, "error: 404"):
		return maru.Errorf(maru.NotFound, "there is no repository at %s: %s", from.URL, said)
	case strings.Contains(said, "File too large"), strings.Contains(said, "signal 25"), strings.Contains(said, "invalid index-pack output"):
		return maru.Errorf(maru.Exhausted, "what the repository at %s sends is larger than a push may be, or ends early", from.URL)
	}
	return maru.Errorf(maru.Unavailable, "fetch from %s: %w: %s", from.URL, err, said)
}

// differences tells how what was fetched differs from the branches.
func (s *Repositories) differences(ctx context.Context, dir string, follow func(branch string) bool) ([]maru.RefUpdate, error) {
	there, err := s.refs(ctx, dir, fetched)
	if err != nil {
		return nil, err
	}
	here, err := s.refs(ctx, dir, headRefs)
	if err != nil {
		return nil, err
	}
	before, err := s.refs(ctx, dir, followed)
	if err != nil {
		return nil, err
	}
	var updates []maru.RefUpdate
	var same strings.Builder
	for _, branch := range sortedKeys(there) {
		switch {
		case !follow(branch):
		case here[branch] != there[branch]:
			updates = append(updates, maru.RefUpdate{Ref: headRefs + branch, Old: here[branch], New: there[branch]})
		case before[branch] == "":
			fmt.Fprintf(&same, "update %s%s %s\n", followed, branch, there[branch])
		}
	}
	for _, branch := range sortedKeys(before) {
		if follow(branch) && there[branch] == "" && here[branch] != "" {
			updates = append(updates, maru.RefUpdate{Ref: headRefs + branch, Old: here[branch]})
		}
	}
	return updates, s.updateRefs(ctx, dir, same.String())
}

// refs gives what the refs are that begin so, by the rest of their names.
func (s *Repositories) refs(ctx context.Context, dir, prefix string) (map[string]string, error) {
	out, err := s.output(ctx, dir, "for-each-ref", "--format=%(objectname) %(refname)", prefix)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for line := range strings.Lines(out) {
		if object, ref, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all[strings.TrimPrefix(ref, prefix)] = object
		}
	}
	return all, nil
}

// Forward tells whether an update loses no commit: it makes a branch, or moves it to a commit that follows.
func (s *Repositories) Forward(ctx context.Context, id maru.RepositoryID, u maru.RefUpdate) (bool, error) {
	if u.Old == "" || u.New == "" {
		return u.Old == "", nil
	}
	dir, err := s.find(id)
	if err != nil {
		return false, err
	}
	err = s.git(ctx, dir, "merge-base", "--is-ancestor", u.Old, u.New).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	if err != nil {
		return false, gitError("merge-base", err, "")
	}
	return true, nil
}

// Move moves branches to where they were fetched from, all or none; Conflict when one is not where its update says.
func (s *Repositories) Move(ctx context.Context, id maru.RepositoryID, updates []maru.RefUpdate) error {
	dir, err := s.find(id)
	if err != nil {
		return err
	}
	const none = "0000000000000000000000000000000000000000"
	var commands strings.Builder
	for _, u := range updates {
		before, branch := u.Old, strings.TrimPrefix(u.Ref, headRefs)
		if before == "" {
			before = none
		}
		if u.New == "" {
			fmt.Fprintf(&commands, "delete %s %s\ndelete %s%s\n", u.Ref, before, followed, branch)
		} else {
			fmt.Fprintf(&commands, "update %s %s %s\nupdate %s%s %s\n", u.Ref, u.New, before, followed, branch, u.New)
		}
	}
	return s.updateRefs(ctx, dir, commands.String())
}

// updateRefs carries out commands of git-update-ref(1), all or none.
func (s *Repositories) updateRefs(ctx context.Context, dir, commands string) error {
	if commands == "" {
		return nil
	}
	cmd := s.git(ctx, dir, "update-ref", "--stdin")
	cmd.Stdin = strings.NewReader("start\n" + commands + "prepare\ncommit\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "but expected") || strings.Contains(string(out), "reference already exists") {
			return maru.Errorf(maru.Conflict, "a branch was moved meanwhile")
		}
		return gitError("update-ref", err, string(out))
	}
	return nil
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
