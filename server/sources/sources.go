// Package sources keeps what images are built from. A client offers the manifest of a folder, sends the
// content that is missing, and the folder is laid out when a build asks for it.
//
// Content is kept once per digest and permission bits, and folders are made of hard links to it, so
// that laying out a context costs no copying and builders see by a file's times that it did not change.
package sources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/source"
)

// Config tunes a Store. The zero value of a field is its default.
type Config struct {
	MaxBlob int64         // longest file, bytes; default 8 GiB
	MaxAge  time.Duration // what was not used for so long is forgotten; default 72 h
	Every   time.Duration // how often that is looked for; default 1 h
}

func (c Config) withDefaults() Config {
	if c.MaxBlob <= 0 {
		c.MaxBlob = 8 << 30
	}
	if c.MaxAge <= 0 {
		c.MaxAge = 72 * time.Hour
	}
	if c.Every <= 0 {
		c.Every = time.Hour
	}
	return c
}

// The folders of a store.
const (
	blobs     = "blobs"     // content: xx/DIGEST, and xx/DIGEST.MODE linked from trees
	manifests = "manifests" // ID without its algorithm
	trees     = "trees"     // laid out folders, by a name of their own
	incoming  = "incoming"  // content on its way
	bootFile  = "boot"      // the boot of the machine that the content is from
)

// Store keeps build contexts below a folder that belongs to it alone. It is safe for concurrent use,
// by one process.
type Store struct {
	cfg  Config
	root *os.Root

	mu    sync.Mutex
	trees map[string]*tree // by source ID
	// use is held shared by whoever relies on content, and alone by cleaning.
	use sync.RWMutex
}

// Open makes a store of the folder, which it makes if it is missing. Folders laid out by an earlier
// process are gone, and everything is after a reboot: content is not synced to the disk, since a client
// can send it again, so a power cut may have spoilt it.
func Open(dir string, cfg Config) (*Store, error) {
	dir = filepath.Join(dir, "sources")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open sources: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open sources: %w", err)
	}
	volatile := []string{trees, incoming}
	boot := bootID()
	if last, err := root.ReadFile(bootFile); err != nil || boot == "" || string(last) != boot {
		volatile = append(volatile, blobs, manifests)
	}
	for _, name := range volatile {
		if err := root.RemoveAll(name); err != nil {
			return nil, fmt.Errorf("open sources: %w", err)
		}
	}
	for _, name := range []string{blobs, manifests, trees, incoming} {
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("open sources: %w", err)
		}
	}
	if err := root.WriteFile(bootFile, []byte(boot), 0o600); err != nil {
		return nil, fmt.Errorf("open sources: %w", err)
	}
	return &Store{cfg: cfg.withDefaults(), root: root, trees: map[string]*tree{}}, nil
}

// Offer keeps the manifest and gives its ID, and the digests of the content that is missing.
func (s *Store) Offer(m source.Manifest) (id string, missing []source.Digest, err error) {
	if err := m.Check(); err != nil {
		return "", nil, err
	}
	s.use.RLock()
	defer s.use.RUnlock()
	now := time.Now()
	asked := map[source.Digest]bool{}
	for _, e := range m {
		if !e.IsFile() || asked[e.Digest] {
			continue
		}
		asked[e.Digest] = true
		info, err := s.root.Lstat(blobName(e.Digest))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, e.Digest)
		case err != nil:
			return "", nil, fmt.Errorf("look for content: %w", err)
		case info.Size() != e.Size:
			return "", nil, maru.Errorf(maru.Invalid, "file %q of %d bytes has the digest of one of %d", e.Path, e.Size, info.Size())
		}
	}
	return m.ID(), missing, s.keepManifest(m, now)
}

func (s *Store) keepManifest(m source.Manifest, now time.Time) error {
	name := manifestName(m.ID())
	if err := s.root.Chtimes(name, now, now); err == nil {
		return nil
	}
	temporary, err := s.write(func(f *os.File) error {
		_, err := f.Write(encode(m))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	if err := s.root.Rename(temporary, name); err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	return nil
}

func blobName(d source.Digest) string {
	text := d.String()
	return blobs + "/" + text[:2] + "/" + text
}

func manifestName(id string) string {
	return manifests + "/" + strings.TrimPrefix(id, "sha256:")
}

// Run forgets what was not used for long, until ctx ends. Report gets the errors, which only delay.
func (s *Store) Run(ctx context.Context, report func(error)) error {
	ticker := time.NewTicker(s.cfg.Every)
	defer ticker.Stop()
	for {
		if err := s.Clean(time.Now()); err != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// bootID names this boot of the machine; "" where that is not known.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
