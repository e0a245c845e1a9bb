// Package secrets seals small values, so that they can be kept where others might read them.
//
// An installation has an identity, which is an age key in a file that only its owner can read, and a
// ring of data keys, which is an age file for that identity. Values are sealed by the ring's newest
// key with XChaCha20-Poly1305, which takes microseconds where age would take a hundred of them, and
// bound to the name of what they belong to: moved elsewhere they do not open.
//
// Both files can be read with the age program alone: age -d -i identity.txt keys.age
package secrets

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"filippo.io/age"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
	"github.com/marucloud/maru/internal/crash"
)

// The files of a box in its folder.
const (
	identityFile = "identity.txt"
	ringFile     = "keys.age"
)

// Box seals and opens values. Its methods are safe for concurrent use.
type Box struct {
	folder string

	ring atomic.Pointer[ring]

	mu       sync.Mutex // held while files change
	identity *age.X25519Identity
}

// OpenBox opens the box in the folder, and makes it on first use. One process at a time may have a box
// open. It is Denied when others can read the identity, and NotFound when the keys are there and
// the identity is not.
func OpenBox(folder string) (*Box, error) {
	if err := atomicfile.MkdirAll(folder, 0o700); err != nil {
		return nil, maru.Errorf(maru.Internal, "open secrets: %w", err)
	}
	if err := atomicfile.Clean(folder); err != nil {
		return nil, maru.Errorf(maru.Internal, "open secrets: %w", err)
	}
	identities, err := readIdentities(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return initialize(folder)
	}
	if err != nil {
		return nil, err
	}
	r, identity, err := readRing(folder, identities)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh(folder, identities[len(identities)-1])
	}
	if err != nil {
		return nil, err
	}
	b := &Box{folder: folder, identity: identity}
	b.ring.Store(r)
	if len(identities) > 1 { // killed within RotateIdentity: what was not needed to open the ring goes
		if err := writeIdentities(folder, identity); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// initialize makes the identity, unless there are keys that no other one would open.
func initialize(folder string) (*Box, error) {
	if _, err := os.Stat(filepath.Join(folder, ringFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil, maru.WithHint(maru.Errorf(maru.NotFound, "open secrets: %s has no %s", folder, identityFile),
			"the secrets can't be read without it: put it back from a backup")
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "make identity: %w", err)
	}
	if err := writeIdentities(folder, identity); err != nil {
		return nil, err
	}
	crash.Point("secrets.initialize.after")
	return fresh(folder, identity)
}

func fresh(folder string, identity *age.X25519Identity) (*Box, error) {
	r := newRing(nil)
	if err := writeRing(folder, r, identity); err != nil {
		return nil, err
	}
	b := &Box{folder: folder, identity: identity}
	b.ring.Store(r)
	return b, nil
}

// Recipient is the public part of the identity, for age.
func (b *Box) Recipient() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.identity.Recipient().String()
}

// Seal encrypts the value. Only Open with the same name gives it back. The name is that of the
// object that the value belongs to, and is not kept in the sealed value.
func (b *Box) Seal(value []byte, name string) []byte {
	return b.ring.Load().seal(value, name)
}

// Open decrypts what Seal gave. A value that was changed, belongs to another name, or was sealed by a
// key that is gone, is Invalid.
func (b *Box) Open(sealed []byte, name string) ([]byte, error) {
	return b.ring.Load().open(sealed, name)
}

// Stale tells whether the value was sealed by another key than Seal uses now.
func (b *Box) Stale(sealed []byte) bool {
	id, _, ok := parse(sealed)
	return !ok || id != b.ring.Load().current().id
}

// Rotate makes a new key for what is sealed from now on. Older values open until Retire.
func (b *Box) Rotate() error {
	return b.change(func(r *ring) *ring { return newRing(r.keys) })
}

// Retire forgets all keys but the newest. Values that are stale do not open any more.
func (b *Box) Retire() error {
	return b.change(func(r *ring) *ring { return &ring{keys: r.keys[len(r.keys)-1:]} })
}

func (b *Box) change(next func(*ring) *ring) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := next(b.ring.Load())
	if err := writeRing(b.folder, r, b.identity); err != nil {
		return err
	}
	b.ring.Store(r)
	return nil
}

// RotateIdentity replaces the identity. Sealed values stay as they are; earlier copies of the ring
// still open with the earlier identity, so Rotate, seal again and Retire if that one got known.
func (b *Box) RotateIdentity() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, err := age.GenerateX25519Identity()
	if err != nil {
		return maru.Errorf(maru.Internal, "make identity: %w", err)
	}
	// At each step the identities in the file open the ring as it is then.
	if err := writeIdentities(b.folder, b.identity, next); err != nil {
		return err
	}
	crash.Point("secrets.rotate.identities")
	if err := writeRing(b.folder, b.ring.Load(), next); err != nil {
		return err
	}
	b.identity = next
	crash.Point("secrets.rotate.ring")
	return writeIdentities(b.folder, next)
}
