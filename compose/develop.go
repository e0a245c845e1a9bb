package compose

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/patternmatcher"

	"github.com/marucloud/maru"
)

// WatchAction is what happens when files of a [WatchRule] change.
type WatchAction string

// The actions of Compose.
const (
	Rebuild     WatchAction = "rebuild"
	Sync        WatchAction = "sync"
	Restart     WatchAction = "restart"
	SyncRestart WatchAction = "sync+restart"
	SyncExec    WatchAction = "sync+exec"
)

// Syncs tells whether the files are written into instances.
func (a WatchAction) Syncs() bool { return strings.HasPrefix(string(a), "sync") }

// Restarts tells whether the instances' process is started again.
func (a WatchAction) Restarts() bool { return a == Restart || a == SyncRestart }

// WatchRule says what is done when files change while one works on a service.
type WatchRule struct {
	Path        string // file or folder, absolute
	Action      WatchAction
	Target      string            // in the instance, absolute; of actions that sync
	Ignore      []string          // patterns of .dockerignore, relative to Path
	Include     []string          // likewise; empty: everything
	InitialSync bool              // all of Path is written into each new instance
	Exec        *maru.ExecCommand // of SyncExec
}

// develop reads the rules of develop.watch. One that can't be followed is warned of and left out: a deploy
// does without it, and may be made where what it watches is not.
func (s *service) develop() {
	if s.in.Develop == nil {
		return
	}
	for i, t := range s.in.Develop.Watch {
		if rule, ok := s.watchRule(t, "develop", "watch", fmt.Sprint(i)); ok {
			s.l.watch[s.name] = append(s.l.watch[s.name], rule)
		}
	}
}

func (s *service) watchRule(t types.Trigger, at ...string) (WatchRule, bool) {
	under := func(key string) []string { return append(at[:len(at):len(at)], key) }
	r := WatchRule{Path: absolute(s.l.project, t.Path), Action: WatchAction(t.Action), Ignore: t.Ignore, Include: t.Include, InitialSync: t.InitialSync}
	ok := true
	fail := func(key, message, hint string) {
		ok = false
		s.warn(message+", so that maru dev does without this rule.", hint, under(key)...)
	}
	if !isDir(r.Path) && !isFile(r.Path) {
		fail("path", fmt.Sprintf("there is no file or folder %s to watch", s.l.shown(r.Path)), "check the path: it is relative to the compose file's folder")
	}
	for _, key := range []string{"ignore", "include"} {
		if _, err := patternmatcher.New(map[string][]string{"ignore": t.Ignore, "include": t.Include}[key]); err != nil {
			fail(key, fmt.Sprintf("a pattern can't be read: %v", err), "patterns are those of .dockerignore")
		}
	}
	if r.Action == Rebuild && s.in.Build == nil {
		fail("action", "the service is not built", "write build: FOLDER, or use restart or sync")
	}
	if r.Action.Syncs() {
		switch {
		case t.Target == "":
			fail("action", "what is synced needs a place in the instance", "write target: /FOLDER")
		case !path.IsAbs(t.Target):
			fail("target", fmt.Sprintf("the target %q is not an absolute path", t.Target), "write /"+t.Target)
		}
		r.Target = path.Clean(t.Target)
		if isFile(r.Path) && strings.HasSuffix(t.Target, "/") {
			r.Target = path.Join(t.Target, filepath.Base(r.Path))
		}
	}
	if r.Action == SyncExec {
		if len(t.Exec.Command) == 0 {
			fail("action", "sync+exec has nothing to run", "write exec: {command: …}")
		}
		r.Exec = &maru.ExecCommand{Args: t.Exec.Command, User: t.Exec.User, Dir: t.Exec.WorkingDir, Env: map[string]string{}}
		for name, value := range t.Exec.Environment {
			if value != nil {
				r.Exec.Env[name] = *value
			}
		}
	}
	if r.Action.Syncs() || r.Action.Restarts() {
		if s.in.Pid == "host" {
			fail("action", "an instance with the host's processes can't be synced to or restarted in place", "use rebuild, or leave pid: host out")
		}
	}
	return r, ok
}
