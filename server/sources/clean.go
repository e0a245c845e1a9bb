package sources

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Clean forgets what was not used since MaxAge before now, and the laid out folders that nobody uses.
// While anything is being sent or laid out it does nothing: the next time will do.
func (s *Store) Clean(now time.Time) error {
	if !s.use.TryLock() {
		return nil
	}
	defer s.use.Unlock()
	return errors.Join(s.cleanTrees(), s.cleanBlobs(now.Add(-s.cfg.MaxAge)))
}

func (s *Store) cleanTrees() error {
	s.mu.Lock()
	var unused []string
	for id, t := range s.trees {
		if t.users == 0 {
			unused = append(unused, t.name)
			delete(s.trees, id)
		}
	}
	s.mu.Unlock()
	var failed error
	for _, name := range unused {
		failed = errors.Join(failed, s.root.RemoveAll(name))
	}
	return failed
}

// cleanBlobs removes manifests from before the time, and the content that no other names.
func (s *Store) cleanBlobs(before time.Time) error {
	entries, err := fs.ReadDir(s.root.FS(), manifests)
	if err != nil {
		return fmt.Errorf("list manifests: %w", err)
	}
	used := map[string]bool{}
	for _, e := range entries {
		name := path.Join(manifests, e.Name())
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("look at manifest: %w", err)
		}
		if info.ModTime().Before(before) {
			if err := s.root.Remove(name); err != nil {
				return fmt.Errorf("forget manifest: %w", err)
			}
			continue
		}
		m, err := s.Manifest("sha256:" + e.Name())
		if err != nil {
			return errors.Join(err, s.root.Remove(name))
		}
		for _, entry := range m {
			if entry.IsFile() {
				used[entry.Digest.String()] = true
			}
		}
	}
	return fs.WalkDir(s.root.FS(), blobs, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		digest, _, _ := strings.Cut(d.Name(), ".")
		if used[digest] {
			return nil
		}
		return s.root.Remove(name)
	})
}
