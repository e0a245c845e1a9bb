package sources

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/source"
)

// tree is a folder that is laid out, or being so.
type tree struct {
	name  string
	ready chan struct{} // closed when laid out or failed
	err   error
	users int
}

// Checkout lays out the folder of a source, or finds it laid out. Nobody may write to it. It stays at
// least until release is called. NotFound: the source was never offered, or forgotten; Conflict: its
// content is not all there.
func (s *Store) Checkout(ctx context.Context, id string) (dir string, release func(), err error) {
	s.use.RLock()
	s.mu.Lock()
	t, there := s.trees[id]
	if !there {
		t = &tree{name: trees + "/" + rand.Text(), ready: make(chan struct{})}
		s.trees[id] = t
	}
	t.users++
	s.mu.Unlock()
	release = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.users--
	}
	if !there {
		t.err = s.layOut(ctx, id, t.name)
		if t.err != nil {
			s.mu.Lock()
			delete(s.trees, id)
			s.mu.Unlock()
			_ = s.root.RemoveAll(t.name)
		}
		close(t.ready)
	}
	s.use.RUnlock()
	select {
	case <-t.ready:
	case <-ctx.Done():
		release()
		return "", nil, maru.Errorf(maru.Interrupted, "wait for a build context: %w", context.Cause(ctx))
	}
	if t.err != nil {
		release()
		return "", nil, t.err
	}
	return filepath.Join(s.root.Name(), filepath.FromSlash(t.name)), release, nil
}

// Manifest gives the manifest of a source; NotFound.
func (s *Store) Manifest(id string) (source.Manifest, error) {
	if !validID(id) {
		return nil, maru.Errorf(maru.Invalid, "source %q is no digest", id)
	}
	data, err := s.root.ReadFile(manifestName(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, maru.WithHint(maru.Errorf(maru.NotFound, "source %s does not exist", id), "deploy again: the client sends it anew")
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return decode(data)
}

func validID(id string) bool {
	text, ok := strings.CutPrefix(id, "sha256:")
	var d source.Digest
	return ok && d.UnmarshalText([]byte(text)) == nil && strings.ToLower(text) == text
}

func (s *Store) layOut(ctx context.Context, id, name string) error {
	m, err := s.Manifest(id)
	if err != nil {
		return err
	}
	if err := s.root.Mkdir(name, 0o755); err != nil {
		return fmt.Errorf("lay out a build context: %w", err)
	}
	// A folder gets its bits last, when nothing is to be put into it any more.
	for _, e := range m {
		if err := ctx.Err(); err != nil {
			return maru.Errorf(maru.Interrupted, "lay out a build context: %w", context.Cause(ctx))
		}
		if err := s.place(e, path.Join(name, e.Path)); err != nil {
			return fmt.Errorf("lay out %s: %w", e.Path, err)
		}
	}
	for _, e := range m {
		if e.IsFolder() {
			if err := s.root.Chmod(path.Join(name, e.Path), unixMode(e.Perm())); err != nil {
				return fmt.Errorf("lay out %s: %w", e.Path, err)
			}
		}
	}
	return nil
}

func (s *Store) place(e source.Entry, name string) error {
	switch {
	case e.IsFolder():
		return s.root.Mkdir(name, 0o700)
	case e.IsLink():
		return s.root.Symlink(e.Target, name)
	}
	from := blobName(e.Digest)
	if e.Perm() != blobMode {
		from = fmt.Sprintf("%s.%o", from, e.Perm())
	}
	err := s.root.Link(from, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.copyBlob(e, from); err != nil {
		return err
	}
	return s.root.Link(from, name)
}

// copyBlob makes the copy of a content that has other permission bits.
func (s *Store) copyBlob(e source.Entry, to string) error {
	content, err := s.root.Open(blobName(e.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return maru.WithHint(maru.Errorf(maru.Conflict, "its content was not uploaded"), "deploy again: the client sends what is missing")
	}
	if err != nil {
		return err
	}
	defer content.Close()
	f, temporary, err := s.temporary()
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		_ = f.Close()
		_ = s.root.Remove(temporary)
		return err
	}
	return s.settle(f, temporary, e.Digest, e.Perm(), to)
}

func encode(m source.Manifest) []byte { return maru.Raw(m) }

func decode(data []byte) (source.Manifest, error) {
	var m source.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, maru.Errorf(maru.Invalid, "read manifest: %w", err)
	}
	return m, m.Check()
}
