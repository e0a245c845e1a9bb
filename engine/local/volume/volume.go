// Package volume keeps the volumes of one machine: folders that outlive instances. Every step is safe
// to be killed in: a volume is there with its first content, or not at all.
package volume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	continuity "github.com/containerd/continuity/fs"
	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
	"github.com/marucloud/maru/internal/crash"
)

// Names below a store's root and below a volume.
const (
	namedFolder     = "named"
	anonymousFolder = "anonymous"
	trashFolder     = "trash"
	dataFolder      = "data"
	fillFolder      = "fill" // what is still to be moved into the data folder
	sharedApp       = "-"    // stands for the empty app of a volume that an environment shares; no app is named so
	temporary       = ".tmp"
)

// Store is the volumes below one folder. Methods are safe for concurrent use.
type Store struct {
	root string

	mu    sync.Mutex
	locks map[string]*sync.Mutex // by volume's folder
}

// Image lends a file system tree to a function, for as long as that runs.
type Image func(ctx context.Context, use func(root string) error) error

// New makes a store. It touches nothing.
func New(root string) *Store { return &Store{root: root, locks: make(map[string]*sync.Mutex)} }

// Open makes the store's folders and removes what a crash left half made. Its owner calls it once,
// before anything else.
func (s *Store) Open() error {
	for _, name := range []string{namedFolder, anonymousFolder, trashFolder} {
		if err := atomicfile.MkdirAll(filepath.Join(s.root, name), 0o700); err != nil {
			return fmt.Errorf("open volumes: %w", err)
		}
	}
	var half []string
	for _, pattern := range []string{
		filepath.Join(namedFolder, "*", "*", "*", "*", dataFolder+temporary+"*"),
		filepath.Join(anonymousFolder, "*", "*", dataFolder+temporary+"*"),
		filepath.Join(trashFolder, "*"),
	} {
		found, err := filepath.Glob(filepath.Join(s.root, pattern))
		if err != nil {
			return fmt.Errorf("open volumes: %w", err)
		}
		half = append(half, found...)
	}
	var failed []error
	for _, folder := range half {
		failed = append(failed, os.RemoveAll(folder))
	}
	return errors.Join(failed...)
}

func (s *Store) folder(id maru.VolumeID) string {
	app := id.App
	if app == "" {
		app = sharedApp
	}
	return filepath.Join(s.root, namedFolder, id.Project, id.Environment, app, id.Volume)
}

func (s *Store) anonymous(instance, target string) string {
	name := strings.ReplaceAll(strings.ReplaceAll(strings.Trim(target, "/"), "%", "%25"), "/", "%2F")
	return filepath.Join(s.root, anonymousFolder, instance, name)
}

// Ensure gives the folder with the volume's content. A volume that is not there, or is empty, becomes
// a copy of what the image has at target, with owners, modes and extended attributes. A nil image
// copies nothing.
func (s *Store) Ensure(ctx context.Context, id maru.VolumeID, image Image, target string) (string, error) {
	path, err := s.ensure(ctx, s.folder(id), image, target)
	if err != nil {
		return "", fmt.Errorf("volume %s: %w", id, err)
	}
	return path, nil
}

// EnsureAnonymous is Ensure for a volume of one instance that nobody named.
func (s *Store) EnsureAnonymous(ctx context.Context, instance string, image Image, target string) (string, error) {
	path, err := s.ensure(ctx, s.anonymous(instance, target), image, target)
	if err != nil {
		return "", fmt.Errorf("volume at %s: %w", target, err)
	}
	return path, nil
}

func (s *Store) ensure(ctx context.Context, folder string, image Image, target string) (string, error) {
	defer s.lock(folder)()
	data := filepath.Join(folder, dataFolder)
	if err := finishFill(folder); err != nil {
		return "", err
	}
	missing, empty, err := look(data)
	if err != nil || !empty || !missing && image == nil {
		return data, err
	}
	if err := atomicfile.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	half := data + temporary + rand.Text()[:8]
	if err := os.Mkdir(half, 0o755); err != nil {
		return "", err
	}
	if image != nil {
		err = image(ctx, func(root string) error { return copyFrom(root, target, half) })
	}
	if err == nil {
		err = s.take(folder, half, missing)
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(half))
	}
	return data, nil
}

// take makes a folder's content that of the volume. One that is there already may be in use: it stays,
// and gets what is in the other.
func (s *Store) take(folder, half string, missing bool) error {
	data := filepath.Join(folder, dataFolder)
	if missing {
		return publish(half, data)
	}
	if _, empty, err := look(half); err != nil || empty {
		return errors.Join(err, os.RemoveAll(half))
	}
	if err := publish(half, filepath.Join(folder, fillFolder)); err != nil {
		return err
	}
	return finishFill(folder)
}

// finishFill moves what is in the fill folder into the volume, also when an earlier try was cut off.
func finishFill(folder string) error {
	fill, data := filepath.Join(folder, fillFolder), filepath.Join(folder, dataFolder)
	entries, err := os.ReadDir(fill)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		crash.Point("volume.fill.before")
		if err := os.Rename(filepath.Join(fill, entry.Name()), filepath.Join(data, entry.Name())); err != nil {
			return err
		}
	}
	var stat unix.Stat_t
	if err := unix.Stat(fill, &stat); err != nil {
		return err
	}
	if err := errors.Join(os.Chown(data, int(stat.Uid), int(stat.Gid)), unix.Chmod(data, stat.Mode&0o7777), os.Remove(fill)); err != nil {
		return err
	}
	crash.Point("volume.fill.after")
	return atomicfile.SyncTree(data)
}

// copyFrom copies what a tree has at target, if it is a folder, into the empty folder to.
func copyFrom(root, target, to string) error {
	from, err := securejoin.SecureJoin(root, target)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	return continuity.CopyDir(to, from, continuity.WithXAttrErrorHandler(ignoreUnsupported))
}

// ignoreUnsupported lets attributes go that the volume's file system can't have.
func ignoreUnsupported(_, _, _ string, err error) error {
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// publish gives a finished folder its name, durably. Nothing is there of that name.
func publish(half, data string) error {
	if err := atomicfile.SyncTree(half); err != nil {
		return err
	}
	crash.Point("volume.publish.before")
	if err := os.Rename(half, data); err != nil {
		return err
	}
	crash.Point("volume.publish.after")
	return atomicfile.SyncDir(filepath.Dir(data))
}

// look tells whether the folder is missing, and whether nothing is in it.
func look(folder string) (missing, empty bool, err error) {
	f, err := os.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return true, true, nil
	}
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return false, true, nil
	}
	return false, false, err
}

// Path gives the folder with the volume's content, or NotFound.
func (s *Store) Path(id maru.VolumeID) (string, error) {
	data := filepath.Join(s.folder(id), dataFolder)
	if _, err := os.Stat(data); err != nil {
		return "", notFound(id, err)
	}
	return data, nil
}

func notFound(id maru.VolumeID, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return maru.Errorf(maru.NotFound, "there is no volume %s", id)
	}
	return fmt.Errorf("volume %s: %w", id, err)
}

// List gives the named volumes, sorted, without holders.
func (s *Store) List(ctx context.Context) ([]maru.VolumeStatus, error) {
	found, err := filepath.Glob(filepath.Join(s.root, namedFolder, "*", "*", "*", "*", dataFolder))
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	all := make([]maru.VolumeStatus, 0, len(found))
	for _, data := range found {
		parts := strings.Split(filepath.Dir(data), string(filepath.Separator))
		last := parts[len(parts)-4:]
		status := maru.VolumeStatus{ID: maru.VolumeID{
			Scope: maru.Scope{Project: last[0], Environment: last[1], App: last[2]}, Volume: last[3],
		}}
		if status.ID.App == sharedApp {
			status.ID.App = ""
		}
		status.Created = born(filepath.Dir(data))
		if status.Bytes, err = size(ctx, data); err != nil {
			return nil, fmt.Errorf("volume %s: %w", status.ID, err)
		}
		all = append(all, status)
	}
	return all, nil
}

// size is what the folder takes on the disk. Files that vanish meanwhile don't count.
func size(ctx context.Context, folder string) (int64, error) {
	var total int64
	seen := make(map[uint64]bool)
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return maru.Errorf(maru.Interrupted, "%w", context.Cause(ctx))
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Nlink > 1 && seen[st.Ino] {
			return nil
		}
		seen[st.Ino] = st.Nlink > 1
		total += st.Blocks * 512
		return nil
	})
	return total, err
}

// born is when the folder was made, as far as the file system knows.
func born(folder string) time.Time {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, folder, 0, unix.STATX_BTIME|unix.STATX_MTIME, &stat); err != nil {
		return time.Time{}
	}
	at := stat.Btime
	if stat.Mask&unix.STATX_BTIME == 0 {
		at = stat.Mtime
	}
	return time.Unix(at.Sec, int64(at.Nsec)).UTC()
}

// Remove takes the volume away at once and durably; NotFound. Its content is deleted by the function
// that it gives, or else by the next Open. The caller sees to it that nobody uses the volume.
func (s *Store) Remove(id maru.VolumeID) (deleteContent func() error, err error) {
	if _, err := s.Path(id); err != nil {
		return nil, err
	}
	deleteContent, err = s.discard(s.folder(id))
	if err != nil {
		return nil, fmt.Errorf("remove volume %s: %w", id, err)
	}
	return deleteContent, nil
}

// RemoveAnonymous deletes an instance's anonymous volumes. It is no error if there are none.
func (s *Store) RemoveAnonymous(instance string) error {
	deleteContent, err := s.discard(filepath.Join(s.root, anonymousFolder, instance))
	if err != nil {
		return err
	}
	return deleteContent()
}

// KeepAnonymous deletes the anonymous volumes of all instances but those named.
func (s *Store) KeepAnonymous(instances map[string]bool) error {
	entries, err := os.ReadDir(filepath.Join(s.root, anonymousFolder))
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		if !instances[entry.Name()] {
			failed = append(failed, s.RemoveAnonymous(entry.Name()))
		}
	}
	return errors.Join(failed...)
}

// discard takes a folder away, durably.
func (s *Store) discard(folder string) (deleteContent func() error, err error) {
	defer s.lock(folder)()
	trash := filepath.Join(s.root, trashFolder, rand.Text())
	crash.Point("volume.remove.before")
	err = os.Rename(folder, trash)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	crash.Point("volume.remove.after")
	if err := atomicfile.SyncDir(filepath.Dir(folder)); err != nil {
		return nil, err
	}
	return func() error { return os.RemoveAll(trash) }, nil
}

// lock holds others off the folder until the function that it gives is called.
func (s *Store) lock(folder string) func() {
	s.mu.Lock()
	held := s.locks[folder]
	if held == nil {
		held = new(sync.Mutex)
		s.locks[folder] = held
	}
	s.mu.Unlock()
	held.Lock()
	return held.Unlock
}
