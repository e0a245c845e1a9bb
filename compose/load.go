package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// load is one run of Load. Faults are collected in it, so that all are told at once.
type load struct {
	o        Options
	dir      string            // absolute
	project  string            // folder of the first file, absolute
	files    []string          // absolute
	env      map[string]string // what variables see
	profiles []string

	contents map[string][]byte     // of files read as text
	extended map[string]*node      // files that services are extended from
	versions map[string][]position // of the top-level key, by file
	nodes    int
	errors   []Issue
	warnings []Issue
	unset    []unsetVariable
	read     map[string]bool
	known    map[string]bool // issues, so that each is told once

	src    *node // all files, merged
	proj   *types.Project
	byName map[string]maruKeys // x-maru of the active services

	app          maru.App
	ci           string
	watch        map[string][]WatchRule
	secrets      map[string][]byte
	buildSecrets map[string]map[string][]byte
	bound        map[string]bool
}

func newLoad(o Options) *load {
	return &load{
		o:            o,
		contents:     map[string][]byte{},
		extended:     map[string]*node{},
		versions:     map[string][]position{},
		read:         map[string]bool{},
		known:        map[string]bool{},
		byName:       map[string]maruKeys{},
		secrets:      map[string][]byte{},
		buildSecrets: map[string]map[string][]byte{},
		bound:        map[string]bool{},
		watch:        map[string][]WatchRule{},
	}
}

// run does the steps in order. It stops where what follows would only repeat the faults before it; what
// Maru does not do is no such fault.
func (l *load) run(ctx context.Context) error {
	for _, step := range []func(context.Context){l.prepare, l.readAll, l.validate, l.bind, l.convert} {
		if err := context.Cause(ctx); err != nil {
			return maru.Errorf(maru.Interrupted, "load compose files: %w", err)
		}
		step(ctx)
		if slices.ContainsFunc(l.errors, func(i Issue) bool { return i.Kind != maru.Unsupported }) {
			return nil
		}
	}
	return nil
}

// failed tells whether an error is known at the path.
func (l *load) failed(path string) bool {
	return slices.ContainsFunc(l.errors, func(i Issue) bool { return i.Path == path })
}

// fail reports an error.
func (l *load) fail(at position, path string, kind maru.Kind, message, hint string) {
	l.report(&l.errors, Issue{Path: path, Kind: kind, Message: message, Hint: hint}, at)
}

// failErr reports an error with the hint it has.
func (l *load) failErr(at position, path string, kind maru.Kind, err error) {
	l.fail(at, path, kind, err.Error(), maru.HintOf(err))
}

// warn reports a warning.
func (l *load) warn(at position, path, message, hint string) {
	l.report(&l.warnings, Issue{Path: path, Message: message, Hint: hint}, at)
}

func (l *load) report(to *[]Issue, i Issue, at position) {
	i.File, i.Line, i.Column = at.file, at.line, at.column
	if i.Key == "" {
		i.Key = keyOfIssue(i.Path)
	}
	if i.Path != "" && !strings.Contains(i.Message, i.Path) {
		i.Message = i.Path + ": " + i.Message
	}
	if id := fmt.Sprint(i.Kind != "", i.String()); !l.known[id] {
		l.known[id] = true
		*to = append(*to, i)
	}
}

// warnUnset warns of variables without a value, once for each name and file. Services that are not
// active are passed over.
func (l *load) warnUnset() {
	told := map[string]bool{}
	for _, u := range l.unset {
		service := l.src.get("services", serviceOf(u.path))
		id := u.at.file + "\x00" + u.name
		if told[id] || strings.HasPrefix(u.path, "services.") && service != nil && !l.active(service) {
			continue
		}
		told[id] = true
		l.warn(u.at, u.path, fmt.Sprintf("the variable %s has no value and becomes empty", u.name),
			fmt.Sprintf("give it one: maru env set %s=VALUE, in .env, or ${%s:-DEFAULT}; a dollar sign itself is $$", u.name, u.name))
	}
}

// unsetVariable is where a variable without a value is used.
type unsetVariable struct {
	at   position
	path string
	name string
}

// place gives where the path is set, or the first file.
func (l *load) place(path ...string) position {
	if at := l.src.place(path...); at != (position{}) {
		return at
	}
	if len(l.files) > 0 {
		return position{file: l.shown(l.files[0])}
	}
	return position{}
}

// shown gives the file's name as people see it.
func (l *load) shown(file string) string {
	if rel, err := filepath.Rel(l.dir, file); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return file
}

const (
	maxComposeFile = 4 << 20
	maxEnvFile     = 1 << 20
	maxContentFile = 1 << 20
)

// readFile reads a regular file, once.
func (l *load) readFile(file string, limit int64) ([]byte, error) {
	if data, ok := l.contents[file]; ok {
		return data, nil
	}
	shown := l.shown(file)
	if err := l.confined(file); err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "there is no file %s", shown), "check the path: it is relative to the compose file's folder")
	case err != nil:
		return nil, maru.Errorf(maru.Invalid, "%s can't be read: %w", shown, unwrapPath(err))
	case info.IsDir():
		return nil, maru.Errorf(maru.Invalid, "%s is a folder, not a file", shown)
	case !info.Mode().IsRegular():
		return nil, maru.Errorf(maru.Invalid, "%s is not a regular file", shown)
	case info.Size() > limit:
		return nil, maru.Errorf(maru.Invalid, "%s has %d bytes; at most %d are read", shown, info.Size(), limit)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "%s can't be read: %w", shown, unwrapPath(err))
	}
	l.contents[file], l.read[file] = data, true
	return data, nil
}

// confined tells whether a path is where files may be, as Invalid if not. What does not exist passes.
func (l *load) confined(path string) error {
	if l.o.Root == "" {
		return nil
	}
	root, err := filepath.EvalSymlinks(l.o.Root)
	if err != nil {
		return maru.Errorf(maru.Invalid, "%s can't be read: %w", l.shown(l.o.Root), unwrapPath(err))
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) && within(l.o.Root, path) {
		return nil
	}
	if err != nil || !within(root, real) {
		return maru.WithHint(maru.Errorf(maru.Invalid, "%s is not in the repository", l.shown(path)),
			"only files of the repository are read here: put it there, or use a value, config or secret that is set on the server")
	}
	return nil
}

// unwrapPath takes the path out of the message of an error about a file, which names it already.
func unwrapPath(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

func isFile(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}

func isDir(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.IsDir()
}

// isRemote tells whether a build context or file is to be fetched, rather than a path.
func isRemote(ref string) bool {
	for _, prefix := range []string{"https://", "http://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(ref, prefix) {
			return true
		}
	}
	return false
}
