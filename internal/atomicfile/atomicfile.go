// Package atomicfile writes files that are, after a crash at any instant, either as before or whole,
// and that are on the disk when the call returns.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/crash"
)

// suffix marks the files that a crash can leave behind. See Clean.
const suffix = ".maru-tmp"

// Write replaces or makes the file with exactly this mode, whatever the umask. Readers see the old
// content or the new one. When it returns nil, content and name are on the disk. Several writers of
// one path are fine: the last one wins.
func Write(path string, data []byte, mode fs.FileMode) error {
	return WriteFunc(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFunc is Write for content that is streamed. An error of write leaves the file as it was.
func WriteFunc(path string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	folder, base := filepath.Split(path)
	if folder == "" {
		folder = "."
	}
	name := filepath.Join(folder, "."+base+"."+rand.Text()[:8]+suffix)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm()&0o600|0o200)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(name)
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	crash.Point("atomicfile.rename.before")
	if err := os.Rename(name, path); err != nil {
		return err
	}
	crash.Point("atomicfile.rename.after")
	return SyncDir(folder)
}

// Read gives the file's content. The error of a missing file is of kind NotFound and matches
// fs.ErrNotExist.
func Read(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, maru.Errorf(maru.NotFound, "read: %w", err)
	}
	return data, err
}

// Remove deletes the file durably. A missing one is no error.
func Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	crash.Point("atomicfile.remove.after")
	return SyncDir(filepath.Dir(path))
}

// MkdirAll makes the folder and its parents with exactly this mode where they are missing, durably.
func MkdirAll(path string, mode fs.FileMode) error {
	path = filepath.Clean(path)
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("make folder %s: it is a file", path)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MkdirAll(parent, mode); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return SyncDir(parent)
}

// Clean removes what writers that were killed left in the folder. Its owner calls it once before it
// writes there; nobody else may write there meanwhile.
func Clean(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") && strings.HasSuffix(entry.Name(), suffix) && entry.Type().IsRegular() {
			failed = append(failed, os.Remove(filepath.Join(folder, entry.Name())))
		}
	}
	return errors.Join(failed...)
}
