package local

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
	"github.com/marucloud/maru/internal/crash"
	"github.com/marucloud/maru/internal/layout"
)

// wantedVersion is that of the form of a wanted workload's file.
const wantedVersion = 1

// wantedWorkload is a workload as it is kept.
type wantedWorkload struct {
	Version  int           `json:"version"`
	Workload maru.Workload `json:"workload"` // on disk without the data of secrets
	Removed  bool          `json:"removed,omitempty"`

	missing bool // the data of its secrets was lost with a reboot, until it is applied again
}

// wantedStore keeps the wanted workloads on disk and the data of their secrets in memory, where they
// survive the process and not the machine.
type wantedStore struct {
	folder  string
	secrets string
}

func newWantedStore(l layout.Layout) *wantedStore {
	return &wantedStore{folder: filepath.Join(l.RuntimeData(), "workloads"), secrets: secretsFolder(l)}
}

func secretsFolder(l layout.Layout) string { return filepath.Join(l.Run, "secrets") }

// open makes the folders, that of the secrets on a file system without a disk.
func (s *wantedStore) open() error {
	if err := atomicfile.MkdirAll(s.folder, 0o700); err != nil {
		return err
	}
	if err := atomicfile.Clean(s.folder); err != nil {
		return err
	}
	if err := os.MkdirAll(s.secrets, 0o700); err != nil {
		return err
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(s.secrets, &stat); err != nil {
		return err
	}
	if stat.Type == unix.TMPFS_MAGIC || stat.Type == unix.RAMFS_MAGIC {
		return nil
	}
	if err := unix.Mount("tmpfs", s.secrets, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=64m"); err != nil {
		return fmt.Errorf("mount a file system in memory for secrets: %w", err)
	}
	return nil
}

// key names a workload's files. IDs can be longer than file names.
func key(id maru.WorkloadID) string {
	sum := sha256.Sum256([]byte(id.String()))
	return hex.EncodeToString(sum[:16])
}

func (s *wantedStore) file(id maru.WorkloadID) string {
	return filepath.Join(s.folder, key(id)+".json")
}

func (s *wantedStore) secretFolder(id maru.WorkloadID) string {
	return filepath.Join(s.secrets, key(id))
}

// save keeps the workload durably.
func (s *wantedStore) save(w wantedWorkload) error {
	if !w.missing {
		if err := s.saveSecrets(w.Workload); err != nil {
			return fmt.Errorf("keep secrets of %s: %w", w.Workload.ID, err)
		}
	}
	w.Version = wantedVersion
	w.Workload = withoutSecrets(w.Workload)
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	crash.Point("engine.workload.save.before")
	if err := atomicfile.Write(s.file(w.Workload.ID), data, 0o600); err != nil {
		return fmt.Errorf("keep workload %s: %w", w.Workload.ID, err)
	}
	crash.Point("engine.workload.save.after")
	return nil
}

// saveSecrets keeps each secret whole or not at all: one that was cut short would be taken for another.
func (s *wantedStore) saveSecrets(w maru.Workload) error {
	folder := s.secretFolder(w.ID)
	for i, f := range w.Files {
		if !f.Secret {
			continue
		}
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		path := filepath.Join(folder, strconv.Itoa(i))
		if kept, err := os.ReadFile(path); err == nil && bytes.Equal(kept, f.Data) {
			continue // instances may have it mounted
		}
		if err := atomicfile.Write(path, f.Data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// forget removes all that is kept of the workload.
func (s *wantedStore) forget(id maru.WorkloadID) error {
	crash.Point("engine.workload.forget.before")
	err := errors.Join(os.RemoveAll(s.secretFolder(id)), atomicfile.Remove(s.file(id)))
	crash.Point("engine.workload.forget.after")
	return err
}

// load gives what is kept. A file that can't be read is an error: what is wanted must not be guessed.
func (s *wantedStore) load() ([]wantedWorkload, error) {
	files, err := filepath.Glob(filepath.Join(s.folder, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []wantedWorkload
	secrets := make(map[string]bool)
	for _, file := range files {
		w, err := s.read(file)
		if err != nil {
			return nil, fmt.Errorf("load workload from %s: %w", file, err)
		}
		secrets[key(w.Workload.ID)] = true
		all = append(all, w)
	}
	return all, s.sweepSecrets(secrets)
}

func (s *wantedStore) read(file string) (wantedWorkload, error) {
	data, err := atomicfile.Read(file)
	if err != nil {
		return wantedWorkload{}, err
	}
	var w wantedWorkload
	if err := json.Unmarshal(data, &w); err != nil {
		return w, err
	}
	if w.Version > wantedVersion {
		return w, maru.WithHint(maru.Errorf(maru.Unsupported, "it was written by a newer version of Maru"), "install that version or a newer one")
	}
	for i, f := range w.Workload.Files {
		if !f.Secret {
			continue
		}
		secret, err := os.ReadFile(filepath.Join(s.secretFolder(w.Workload.ID), strconv.Itoa(i)))
		if errors.Is(err, fs.ErrNotExist) {
			w.missing = true
			continue
		}
		if err != nil {
			return w, err
		}
		w.Workload.Files[i].Data = secret
	}
	return w, nil
}

// sweepSecrets removes what belongs to no workload. What belongs to an attempt is swept with that.
func (s *wantedStore) sweepSecrets(keep map[string]bool) error {
	entries, err := os.ReadDir(s.secrets)
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		if !keep[entry.Name()] && entry.Name() != "instances" {
			failed = append(failed, os.RemoveAll(filepath.Join(s.secrets, entry.Name())))
		}
	}
	return errors.Join(failed...)
}

func withoutSecrets(w maru.Workload) maru.Workload {
	w.Files = slices.Clone(w.Files)
	for i := range w.Files {
		if w.Files[i].Secret {
			w.Files[i].Data = nil
		}
	}
	return w
}

// sameWorkload tells whether two workloads differ in nothing but their replicas.
func sameWorkload(a, b maru.Workload) bool {
	a.Replicas, b.Replicas = 0, 0
	return bytes.Equal(maru.Raw(a), maru.Raw(b))
}
