package golang

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// withoutGit is a source folder without its history, and without what can't be copied.
type withoutGit struct{ fs.FS }

// ReadDir leaves out what no build reads.
func (w withoutGit) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(w.FS, name)
	kept := all[:0]
	for _, e := range all {
		if e.Name() != ".git" && (e.IsDir() || e.Type().IsRegular() || e.Type() == fs.ModeSymlink) {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// ReadLink lets os.CopyFS keep symbolic links.
func (w withoutGit) ReadLink(name string) (string, error) { return fs.ReadLink(w.FS, name) }

// Lstat lets os.CopyFS keep symbolic links.
func (w withoutGit) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(w.FS, name) }

// anybodyReads tells whether the builder's user, who owns nothing of it, may read a source.
func anybodyReads(folder string) (bool, error) {
	readable := true
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		wanted := map[fs.FileMode]fs.FileMode{fs.ModeDir: 0o005, 0: 0o004}[info.Mode().Type()]
		if info.Mode()&wanted != wanted {
			readable = false
			return fs.SkipAll
		}
		return nil
	})
	return readable, err
}

func makeReadable(path string, d fs.DirEntry, err error) error {
	switch {
	case err != nil:
		return err
	case d.IsDir():
		return os.Chmod(path, 0o755)
	case d.Type().IsRegular():
		return os.Chmod(path, 0o644)
	}
	return nil
}

// keptLines is how much of its output a failed step shows.
const keptLines = 20

// maxLine bounds a line; a longer one is cut in pieces.
const maxLine = 16 << 10

// lines cuts output into lines, gives each on, and keeps the last ones.
type lines struct {
	emit    func(line string)
	last    []string
	partial []byte
}

// Write takes a piece of output.
func (l *lines) Write(p []byte) (int, error) {
	l.partial = append(l.partial, p...)
	for {
		i := bytes.IndexByte(l.partial, '\n')
		switch {
		case i >= 0 && i <= maxLine:
			l.line(string(l.partial[:i]))
			l.partial = l.partial[i+1:]
		case len(l.partial) > maxLine:
			l.line(string(l.partial[:maxLine]))
			l.partial = l.partial[maxLine:]
		default:
			return len(p), nil
		}
	}
}

func (l *lines) flush() {
	if len(l.partial) > 0 {
		l.line(string(l.partial))
		l.partial = nil
	}
}

func (l *lines) line(s string) {
	s = strings.TrimRight(s, "\r")
	l.emit(s)
	l.last = append(l.last, s)
	if len(l.last) > keptLines {
		l.last = l.last[1:]
	}
}
