// Package watch tells of changes of files below folders, in groups: an editor that saves by renaming, a
// formatter after it and a branch that is checked out are one change each.
package watch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/marucloud/maru"
)

// Quiet is how long nothing may change for a group of changes to be complete, and Longest how long one
// may become before it is told all the same.
const (
	Quiet   = 50 * time.Millisecond
	Longest = time.Second
)

// Root is a file or folder to watch.
type Root struct {
	Path string // absolute
	// Skip tells whether nothing below a folder is of interest. Nil: everything is.
	Skip func(folder string) bool
}

// Watcher watches roots.
type Watcher struct {
	notify *fsnotify.Watcher
	roots  []Root
}

// New begins to watch: what changes from now on is told by Run. Close it. Errors: Exhausted, when the
// system watches no more, with what to do.
func New(roots []Root) (*Watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, limit(err, "")
	}
	w := &Watcher{notify, roots}
	for _, r := range roots {
		if err := w.addRoot(r); err != nil {
			_ = notify.Close() // the error before tells more
			return nil, err
		}
	}
	return w, nil
}

// Close ends watching, and Run.
func (w *Watcher) Close() error { return w.notify.Close() }

// addRoot watches the folder that a file is in, for an editor that replaces the file makes another of it.
func (w *Watcher) addRoot(r Root) error {
	info, err := os.Stat(r.Path)
	if err != nil {
		return maru.Errorf(maru.NotFound, "watch %s: %w", r.Path, err)
	}
	if !info.IsDir() {
		return w.add(filepath.Dir(r.Path))
	}
	return w.addTree(r.Path, func(string) {})
}

// addTree watches a folder with those below it that some root wants, and tells of all files in them.
func (w *Watcher) addTree(folder string, found func(string)) error {
	return filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
			return nil // it went away meanwhile, or is nobody's to read: neither is of interest
		case err != nil:
			return maru.Errorf(maru.Unavailable, "watch %s: %w", name, err)
		case !d.IsDir():
			found(name)
			return nil
		case !w.wanted(name):
			return fs.SkipDir
		}
		return w.add(name)
	})
}

func (w *Watcher) wanted(folder string) bool {
	return slices.ContainsFunc(w.roots, func(r Root) bool {
		return folder == r.Path || strings.HasPrefix(folder, strings.TrimSuffix(r.Path, "/")+string(filepath.Separator)) && (r.Skip == nil || !r.Skip(folder))
	})
}

func (w *Watcher) add(folder string) error {
	err := w.notify.Add(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return limit(err, folder)
}

// limit explains the limits of inotify.
func limit(err error, folder string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return maru.WithHint(maru.Errorf(maru.Exhausted, "no more folders can be watched: %s is over the limit of fs.inotify.max_user_watches", folder),
			"leave out with .dockerignore or ignore what need not be watched, or raise it: sudo sysctl fs.inotify.max_user_watches=524288")
	case errors.Is(err, syscall.EMFILE):
		return maru.WithHint(maru.Errorf(maru.Exhausted, "no more files can be opened or watched: %w", err),
			"end other programs that watch files, or raise the limits: sudo sysctl fs.inotify.max_user_instances=1024; ulimit -n")
	}
	return maru.Errorf(maru.Unavailable, "watch %s: %w", folder, err)
}

// Run tells of changes until ctx ends or the watcher is closed: each group's paths, sorted, once. A path
// that is a folder stands for all that is in it. Changed is called from one goroutine.
func (w *Watcher) Run(ctx context.Context, changed func(paths []string)) error {
	group := map[string]bool{}
	var quiet, longest <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, more := <-w.notify.Events:
			if !more {
				return nil
			}
			if err := w.take(event, group); err != nil {
				return err
			}
		case err, more := <-w.notify.Errors:
			if !more {
				return nil
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return maru.Errorf(maru.Unavailable, "watch files: %w", err)
			}
			for _, r := range w.roots { // so much changed that it is not known what
				group[r.Path] = true
			}
		case <-quiet:
			w.tell(&group, &quiet, &longest, changed)
			continue
		case <-longest:
			w.tell(&group, &quiet, &longest, changed)
			continue
		}
		if len(group) > 0 {
			quiet = time.After(Quiet)
			if longest == nil {
				longest = time.After(Longest)
			}
		}
	}
}

func (w *Watcher) tell(group *map[string]bool, quiet, longest *<-chan time.Time, changed func([]string)) {
	paths := make([]string, 0, len(*group))
	for p := range *group {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	*group, *quiet, *longest = map[string]bool{}, nil, nil
	changed(paths)
}

func (w *Watcher) take(event fsnotify.Event, group map[string]bool) error {
	if event.Name == "" {
		return nil
	}
	if event.Has(fsnotify.Create) {
		if info, err := os.Lstat(event.Name); err == nil && info.IsDir() {
			if !w.wanted(event.Name) {
				return nil
			}
			// What is in a new folder may have come before it was watched.
			return w.addTree(event.Name, func(name string) { group[name] = true })
		}
	}
	group[event.Name] = true
	return nil
}
