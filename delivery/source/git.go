package source

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/marucloud/maru"
)

// settings are in force for every call of git, in the place of those of repositories and of the machine.
func (s *Repositories) settings() []string {
	return []string{
		"core.hooksPath=" + s.hooks(),
		"core.fsync=all", // what was acknowledged is on the disk
		"core.symlinks=true",
		"transfer.fsckObjects=true",
		"receive.maxInputSize=" + strconv.FormatInt(s.cfg.MaxPush, 10),
		"receive.unpackLimit=1", // a pack is synced at once, and its objects would be one by one
		"receive.autogc=false",
		"receive.advertisePushOptions=true",
		"receive.denyDeleteCurrent=refuse",
		"uploadpack.allowFilter=true",
		"transfer.hideRefs=refs/maru",
		"gc.autoDetach=false",
		"pack.threads=1",
		"pack.windowMemory=64m",
		"safe.directory=*",
	}
}

// git makes a call of git in the repository. It ends with this process.
func (s *Repositories) git(ctx context.Context, dir string, args ...string) *exec.Cmd {
	var all []string
	for _, setting := range s.settings() {
		all = append(all, "-c", setting)
	}
	cmd := exec.CommandContext(ctx, "git", append(all, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "HOME=/nonexistent", "GIT_DIR=" + dir,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_NO_REPLACE_OBJECTS=1",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output runs git and gives what it wrote.
func (s *Repositories) output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := s.git(ctx, dir, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", gitError(args[0], err, errs.String())
	}
	return out.String(), nil
}

// gitError says what a call of git did not do.
func gitError(what string, err error, said string) error {
	if errors.Is(err, exec.ErrNotFound) {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "the git program is not on the server"), "install it there, such as by apt install git")
	}
	if said = strings.TrimSpace(said); said != "" {
		return maru.Errorf(maru.Internal, "git %s: %w: %s", what, err, said)
	}
	return maru.Errorf(maru.Internal, "git %s: %w", what, err)
}

// hooks is the folder of the only hooks that are run.
func (s *Repositories) hooks() string { return filepath.Join(s.cfg.Folder, "hooks") }

// Environment variables by which preReceive is told what holds for a push.
const (
	refusedVariable   = "MARU_REFUSED"   // why nothing is taken; empty: see protected
	protectedVariable = "MARU_PROTECTED" // refs that may only be moved forward, with spaces between
	unwantedVariable  = "MARU_UNWANTED"  // lines of: ref, object name, why
)

// mostUnwanted is how many of them a push is held against, the newest: an environment variable has its limits.
const mostUnwanted = 100

func unwantedLines(all []Unwanted) string {
	var lines []string
	for _, u := range all[max(0, len(all)-mostUnwanted):] {
		lines = append(lines, u.Ref+" "+u.Name+" "+strings.Join(strings.Fields(printable(u.Why)), " "))
	}
	return strings.Join(lines, "\n")
}

// preReceive decides about a push whose objects are there, but not yet part of the repository.
const preReceive = `#!/bin/sh
# Written by Maru at each start.
if [ -n "$MARU_REFUSED" ]; then
	printf '%s\n' "$MARU_REFUSED" >&2
	exit 1
fi
status=0
while read -r old new ref; do
	case $new in *[!0]*)
		tree=$(git rev-parse --verify --quiet "$new^{tree}")
		why=$(printf '%s\n' "$MARU_UNWANTED" | while read -r name object text; do
			[ "$name" = "$ref" ] || continue
			if [ "$object" = "$tree" ] || [ "$object" = "$new" ]; then
				printf '%s\n' "$text"
				break
			fi
		done)
		if [ -n "$why" ]; then
			printf '%s\n' "$why" >&2
			status=1
			continue
		fi
		;;
	esac
	case " $MARU_PROTECTED " in
	*" $ref "*) ;;
	*) continue ;;
	esac
	case $old in *[!0]*) ;; *) continue ;; esac
	case $new in
	*[!0]*)
		git merge-base --is-ancestor "$old" "$new" && continue
		echo "$ref is protected: it can only be moved forward. Merge what is there and push again." >&2
		;;
	*) echo "$ref is protected: it can't be deleted." >&2 ;;
	esac
	status=1
done
exit $status
`
