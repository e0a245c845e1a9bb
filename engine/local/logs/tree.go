package logs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/logs/segment"
)

// place is one instance's log.
type place struct {
	workload maru.WorkloadID
	instance string
	dir      string
}

// levels is how deep an instance's folder is: project, environment, app, service, workload, instance.
const levels = 6

// filter is a query made ready.
type filter struct {
	services     []string
	levels       [levels]string // "" matches all
	since, until time.Time
	pattern      *regexp.Regexp
}

func newFilter(q maru.LogQuery) (filter, error) {
	f := filter{
		services: q.Services, since: q.Since, until: q.Until,
		levels: [levels]string{q.Scope.Project, q.Scope.Environment, q.Scope.App, "", q.Release, q.Instance},
	}
	if q.Pattern == "" {
		return f, nil
	}
	var err error
	if f.pattern, err = regexp.Compile(q.Pattern); err != nil {
		return f, maru.WithHint(maru.Errorf(maru.Invalid, "pattern: %w", err), "patterns are regular expressions in RE2 syntax; escape . * + ? ( ) [ ] { } | ^ $ with a backslash")
	}
	return f, nil
}

// admits tells whether the folder's name matches at its level.
func (f *filter) admits(level int, name string) bool {
	switch {
	case level == 3:
		return len(f.services) == 0 || slices.Contains(f.services, name)
	case level == levels-1:
		return strings.HasPrefix(name, f.levels[level])
	}
	return f.levels[level] == "" || f.levels[level] == name
}

// matches tells whether the record is wanted, from a log that is gone on with or not.
func (f *filter) matches(r segment.Record, resumed bool) bool {
	return (resumed || !r.Time.Before(f.since)) && (f.until.IsZero() || !r.Time.After(f.until)) && (f.pattern == nil || f.pattern.Match(r.Line))
}

// walk calls enter for every folder above the instances and found for every instance, of those below
// dir that the filter admits. Dir has the given level; folders that go meanwhile are no error.
func (f *filter) walk(root, dir string, level int, enter func(dir string, level int) error, found func(place) error) error {
	if level == levels {
		return found(placeOf(root, dir))
	}
	if err := enter(dir, level); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !f.admits(level, e.Name()) {
			continue
		}
		if err := f.walk(root, filepath.Join(dir, e.Name()), level+1, enter, found); err != nil {
			return err
		}
	}
	return nil
}

func placeOf(root, dir string) place {
	parts := strings.Split(strings.TrimPrefix(dir, root+"/"), "/")
	scope := maru.Scope{Project: parts[0], Environment: parts[1], App: parts[2]}
	return place{scope.Service(parts[3]).Workload(parts[4]), parts[5], dir}
}
