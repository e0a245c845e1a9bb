package sources

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/source"
)

// blobMode is what content is kept with. Files with other permission bits get a copy of their own.
const blobMode = 0o644

// Upload takes content, piece by piece. It is used by one goroutine; Close must be called.
type Upload struct {
	store   *Store
	file    *os.File
	name    string
	digest  source.Digest
	hash    hash.Hash
	written int64
}

// Upload begins to take content.
func (s *Store) Upload() *Upload {
	s.use.RLock()
	return &Upload{store: s}
}

// Next ends the piece before, and begins one that must have the digest.
func (u *Upload) Next(digest source.Digest) error {
	if err := u.finish(); err != nil {
		return err
	}
	f, name, err := u.store.temporary()
	if err != nil {
		return err
	}
	u.file, u.name, u.digest, u.hash, u.written = f, name, digest, sha256.New(), 0
	return nil
}

// Write adds to the piece.
func (u *Upload) Write(data []byte) error {
	if u.file == nil {
		return maru.Errorf(maru.Invalid, "content comes before its digest")
	}
	if u.written += int64(len(data)); u.written > u.store.cfg.MaxBlob {
		return maru.Errorf(maru.Exhausted, "a file is longer than %d bytes", u.store.cfg.MaxBlob)
	}
	u.hash.Write(data)
	if _, err := u.file.Write(data); err != nil {
		return fmt.Errorf("keep content: %w", err)
	}
	return nil
}

// Done ends the last piece.
func (u *Upload) Done() error { return u.finish() }

// Close drops what is incomplete.
func (u *Upload) Close() {
	u.drop()
	if u.store != nil {
		u.store.use.RUnlock()
		u.store = nil
	}
}

func (u *Upload) drop() {
	if u.file != nil {
		_ = u.file.Close()
		_ = u.store.root.Remove(u.name)
		u.file = nil
	}
}

func (u *Upload) finish() error {
	if u.file == nil {
		return nil
	}
	if got := source.Digest(u.hash.Sum(nil)); got != u.digest {
		u.drop()
		return maru.WithHint(maru.Errorf(maru.Conflict, "a file has the digest %s, not %s as it was offered", got, u.digest),
			"it changed while it was sent: try again")
	}
	f := u.file
	u.file = nil
	if err := u.store.settle(f, u.name, u.digest, blobMode, blobName(u.digest)); err != nil {
		_ = u.store.root.Remove(u.name)
		return fmt.Errorf("keep content: %w", err)
	}
	return nil
}

// settle closes a file of content and gives it its bits, times and name.
func (s *Store) settle(f *os.File, temporary string, digest source.Digest, mode uint32, name string) error {
	err := f.Chmod(unixMode(mode))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	stamp := contentTime(digest)
	if err := s.root.Chtimes(temporary, stamp, stamp); err != nil {
		return err
	}
	if err := s.root.Mkdir(path.Dir(name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.root.Rename(temporary, name)
}

// contentTime gives the time to note at content: now, but for a part of a second that follows from the
// content. Builders tell by size and time whether a file changed, and two contents that came within
// one tick of the clock must not look alike.
func contentTime(digest source.Digest) time.Time {
	part := int64(binary.BigEndian.Uint64(digest[:8]) % uint64(time.Second))
	return time.Unix(time.Now().Unix(), part)
}

func (s *Store) temporary() (*os.File, string, error) {
	name := incoming + "/" + rand.Text()
	f, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("keep content: %w", err)
	}
	return f, name, nil
}

// write makes a file below incoming and gives its name.
func (s *Store) write(content func(*os.File) error) (string, error) {
	f, name, err := s.temporary()
	if err != nil {
		return "", err
	}
	err = content(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = s.root.Remove(name)
		return "", err
	}
	return name, nil
}

func unixMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}
