package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
)

// IgnoreFile names what of a folder is left out.
const IgnoreFile = ".dockerignore"

// ScanOptions say what of a folder is taken. The zero value takes all but what its .dockerignore names.
type ScanOptions struct {
	// Dockerfile is within the folder. One named NAME.dockerignore beside it goes before .dockerignore.
	Dockerfile string
	// Ignore are further patterns, weaker than those of the file.
	Ignore []string
	// Only, unless nil, says which paths are taken. What it refuses is left out, with all that is below,
	// and ignore files don't count.
	Only func(path string) bool
	// CacheDir keeps the digests of files that did not change; "": none.
	CacheDir string
}

// Scan makes the manifest of a folder. Files are read in parallel, and those that did not change since
// the last time not at all. Sockets, devices and pipes are left out, as Docker does.
func Scan(ctx context.Context, dir string, o ScanOptions) (Manifest, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, folderError(dir, err)
	}
	if !info.IsDir() {
		return nil, maru.Errorf(maru.Invalid, "build context %s is not a folder", dir)
	}
	keep, err := NewFilter(dir, o)
	if err != nil {
		return nil, err
	}
	w := &walk{ctx: ctx, dir: dir, keep: keep, only: o.Only, added: map[string]bool{".": true}}
	if err := filepath.WalkDir(dir, w.visit); err != nil {
		return nil, folderError(dir, err)
	}
	cache := openCache(o.CacheDir, dir)
	if err := w.hash(cache); err != nil {
		return nil, folderError(dir, err)
	}
	cache.save()
	slices.SortFunc(w.manifest, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
	return w.manifest, w.manifest.Check()
}

func folderError(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return maru.Errorf(maru.NotFound, "read build context %s: %w", dir, err)
	case errors.Is(err, fs.ErrPermission):
		return maru.WithHint(maru.Errorf(maru.Denied, "read build context %s: %w", dir, err),
			"leave it out with a .dockerignore file, or make it readable")
	case maru.KindOf(err) != maru.Internal:
		return err
	}
	return maru.Errorf(maru.Unavailable, "read build context %s: %w", dir, err)
}

// comparePaths sorts by component, so that a folder's content follows it.
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

type walk struct {
	ctx      context.Context
	dir      string
	keep     *Filter
	only     func(path string) bool
	manifest Manifest
	files    []file
	added    map[string]bool
}

// file is a place in the manifest whose digest is yet to be found.
type file struct {
	index int
	info  fs.FileInfo
}

func (w *walk) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if err := w.ctx.Err(); err != nil {
		return maru.Errorf(maru.Interrupted, "read build context: %w", context.Cause(w.ctx))
	}
	relative, err := filepath.Rel(w.dir, name)
	if err != nil {
		return err
	}
	relative = filepath.ToSlash(relative)
	if relative == "." {
		return nil
	}
	if w.only != nil {
		switch {
		case w.only(relative):
			return w.add(relative, d)
		case d.IsDir():
			return fs.SkipDir
		}
		return nil
	}
	kept, err := w.keep.Keeps(relative)
	if err != nil {
		return err
	}
	if !kept {
		if d.IsDir() && w.keep.Skips(relative) {
			return fs.SkipDir
		}
		return nil
	}
	return w.add(relative, d)
}

// add puts an entry into the manifest, after the folders that it is in, which may be left out themselves.
func (w *walk) add(relative string, d fs.DirEntry) error {
	if w.added[relative] {
		return nil
	}
	if parent := path.Dir(relative); !w.added[parent] {
		info, err := os.Lstat(filepath.Join(w.dir, filepath.FromSlash(parent)))
		if err != nil {
			return err
		}
		if err := w.add(parent, fs.FileInfoToDirEntry(info)); err != nil {
			return err
		}
	}
	info, err := d.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it went away meanwhile
	}
	if err != nil {
		return err
	}
	e := Entry{Path: relative, Mode: permOf(info)}
	switch info.Mode().Type() {
	case 0:
		e.Mode |= TypeFile
		e.Size = info.Size()
		w.files = append(w.files, file{len(w.manifest), info})
	case fs.ModeDir:
		e.Mode |= TypeFolder
	case fs.ModeSymlink:
		target, err := os.Readlink(filepath.Join(w.dir, filepath.FromSlash(relative)))
		if err != nil {
			return err
		}
		e.Mode = TypeLink | 0o777
		e.Target = filepath.ToSlash(target)
	default:
		return nil
	}
	w.added[relative] = true
	w.manifest = append(w.manifest, e)
	return nil
}

// permOf gives the permission bits of Unix. Windows has none: there everything can be run, as Docker
// does it.
func permOf(info fs.FileInfo) uint32 {
	if runtime.GOOS == "windows" {
		return 0o755
	}
	perm := uint32(info.Mode().Perm())
	for bit, mode := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if info.Mode()&bit != 0 {
			perm |= mode
		}
	}
	return perm
}

// hash finds the digests of all files, several at once.
func (w *walk) hash(cache *cache) error {
	group, ctx := errgroup.WithContext(w.ctx)
	group.SetLimit(max(4, runtime.GOMAXPROCS(0)))
	for _, f := range w.files {
		e := &w.manifest[f.index]
		if digest, ok := cache.get(e.Path, f.info); ok {
			e.Digest = digest
			continue
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			before := time.Now()
			digest, size, err := hashFile(filepath.Join(w.dir, filepath.FromSlash(e.Path)))
			if err != nil {
				return err
			}
			e.Digest, e.Size = digest, size
			if size == f.info.Size() {
				cache.put(e.Path, f.info, digest, before)
			}
			return nil
		})
	}
	return group.Wait()
}

func hashFile(name string) (Digest, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return Digest{}, 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return Digest{}, 0, fmt.Errorf("read %s: %w", name, err)
	}
	return Digest(h.Sum(nil)), n, nil
}

// Filter tells what of a folder is taken.
type Filter struct {
	matcher *patternmatcher.PatternMatcher
	always  map[string]bool // the files that say how to build
}

// NewFilter reads what of a folder is left out.
func NewFilter(dir string, o ScanOptions) (*Filter, error) {
	f := &Filter{always: map[string]bool{}}
	if o.Dockerfile != "" {
		f.always[path.Clean(filepath.ToSlash(o.Dockerfile))] = true
	}
	patterns := o.Ignore
	names := []string{IgnoreFile}
	if o.Dockerfile != "" {
		names = []string{o.Dockerfile + IgnoreFile, IgnoreFile}
	}
	for _, name := range names {
		data, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, folderError(dir, err)
		}
		more, err := ignorefile.ReadAll(data)
		_ = data.Close()
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "read %s: %w", filepath.Join(dir, name), err)
		}
		f.always[path.Clean(filepath.ToSlash(name))] = true
		patterns = append(slices.Clone(patterns), more...)
		break
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "the .dockerignore file of %s: %w", dir, err)
	}
	f.matcher = matcher
	return f, nil
}

// Keeps tells whether a path within the folder, with forward slashes, is taken.
func (f *Filter) Keeps(relative string) (bool, error) {
	if f.always[relative] {
		return true, nil
	}
	ignored, err := f.matcher.MatchesOrParentMatches(relative)
	if err != nil {
		return false, maru.Errorf(maru.Invalid, "match %s: %w", relative, err)
	}
	return !ignored, nil
}

// Skips tells whether nothing below an ignored folder can be taken.
func (f *Filter) Skips(folder string) bool {
	for name := range f.always {
		if strings.HasPrefix(name, folder+"/") {
			return false
		}
	}
	if !f.matcher.Exclusions() {
		return true
	}
	for _, p := range f.matcher.Patterns() {
		if !p.Exclusion() {
			continue
		}
		pattern := filepath.ToSlash(p.String())
		if strings.ContainsAny(pattern, "*?[") || strings.HasPrefix(pattern+"/", folder+"/") || strings.HasPrefix(folder+"/", pattern+"/") {
			return false
		}
	}
	return true
}
