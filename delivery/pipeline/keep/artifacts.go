package keep

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Artifacts keep the artifacts of runs below Dir. Its methods are safe for concurrent use.
type Artifacts struct {
	Dir      string
	MaxEntry int64 // bytes on disk; 0: 2 GiB
	MaxSize  int64 // of the files; 0: 8 GiB
	MaxFiles int   // 0: 200,000
}

func (a *Artifacts) base(run, name string) string {
	return filepath.Join(a.Dir, hash(run), hash(strings.ToLower(name)))
}

// Put implements the runner's artifacts. Only regular files are kept, with their names and modes.
func (a *Artifacts) Put(_ context.Context, run, name string, overwrite bool, archive io.Reader) (int64, string, error) {
	base := a.base(run, name)
	if _, err := os.Stat(base + recordExt); err == nil && !overwrite {
		return 0, "", maru.WithHint(maru.Errorf(maru.Exists, "the run has an artifact of this name"), "give each its own name, such as one with the values of the matrix, or write overwrite: true")
	}
	// The content is counted and summed up as it is written, the record after it.
	sum := sha256.New()
	size := int64(0)
	_, err := write(base, record{Name: name, Created: time.Now().UTC()}, cmp.Or(a.MaxEntry, 2<<30), func(w io.Writer) (err error) {
		size, err = regularFiles(io.MultiWriter(w, sum), archive, cmp.Or(a.MaxSize, 8<<30), cmp.Or(a.MaxFiles, 200_000))
		return err
	})
	return size, hex.EncodeToString(sum.Sum(nil)), err
}

// regularFiles copies the regular files of a tar stream, and gives their size.
func regularFiles(w io.Writer, archive io.Reader, maxSize int64, maxFiles int) (size int64, err error) {
	in, out := tar.NewReader(archive), tar.NewWriter(w)
	for files := 0; ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return size, out.Close()
		} else if err != nil {
			return size, err
		}
		name := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
			continue
		}
		files++
		size += h.Size
		if files > maxFiles || size > maxSize {
			return size, maru.Errorf(maru.Exhausted, "an artifact has at most %d files of %d MiB together", maxFiles, maxSize>>20)
		}
		if err := out.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644 | h.Mode&0o111, Size: h.Size}); err != nil {
			return size, err
		}
		if _, err := io.Copy(out, in); err != nil {
			return size, err
		}
	}
}

// Get implements the runner's artifacts.
func (a *Artifacts) Get(_ context.Context, run, name string) (io.ReadCloser, error) {
	content, err := open(a.base(run, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, maru.WithHint(maru.Errorf(maru.NotFound, "the run has no artifact %s", name), "see that the job which makes it is among those that this one needs")
	}
	return content, err
}

// List implements the runner's artifacts.
func (a *Artifacts) List(_ context.Context, run string) ([]string, error) {
	all, err := records(filepath.Join(a.Dir, hash(run)))
	var names []string
	for _, rec := range all {
		names = append(names, rec.Name)
	}
	slices.Sort(names)
	return names, err
}

// Sweep removes artifacts of runs that have had none put for longer than the age.
func (a *Artifacts) Sweep(age time.Duration) {
	runs, _ := os.ReadDir(a.Dir) // without it there are none
	for _, run := range runs {
		info, err := run.Info()
		if err == nil && time.Since(info.ModTime()) > age {
			_ = os.RemoveAll(filepath.Join(a.Dir, run.Name()))
		}
	}
}

// Remove removes all artifacts of a run.
func (a *Artifacts) Remove(run string) error { return os.RemoveAll(filepath.Join(a.Dir, hash(run))) }
