package secrets

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/marucloud/maru"
)

// A sealed value is: version, key id, nonce, ciphertext with tag. The additional data is the part
// before the nonce, then the name.
const (
	version    = 1
	prefixSize = 1 + 4
	nonceSize  = chacha20poly1305.NonceSizeX
	overhead   = prefixSize + nonceSize + chacha20poly1305.Overhead
)

type dataKey struct {
	id   uint32
	key  []byte
	aead cipher.AEAD
}

// ring holds the data keys, the newest last. It is immutable.
type ring struct{ keys []dataKey }

// newRing makes a key behind the others.
func newRing(others []dataKey) *ring {
	secret := make([]byte, chacha20poly1305.KeySize+4)
	for {
		_, _ = rand.Read(secret) // never fails
		id := binary.BigEndian.Uint32(secret)
		if slices.ContainsFunc(others, func(k dataKey) bool { return k.id == id }) {
			continue
		}
		key, err := newKey(id, secret[4:])
		if err != nil {
			panic("secrets: " + err.Error()) // the key has the right size
		}
		return &ring{keys: append(slices.Clone(others), key)}
	}
}

func newKey(id uint32, key []byte) (dataKey, error) {
	aead, err := chacha20poly1305.NewX(key)
	return dataKey{id: id, key: key, aead: aead}, err
}

func (r *ring) current() dataKey { return r.keys[len(r.keys)-1] }

// with gives a ring that has the other's keys too, before its own.
func (r *ring) with(other *ring) (*ring, error) {
	var more []dataKey
	for _, k := range other.keys {
		i := slices.IndexFunc(r.keys, func(own dataKey) bool { return own.id == k.id })
		if i < 0 {
			more = append(more, k)
		} else if !bytes.Equal(r.keys[i].key, k.key) {
			return nil, maru.Errorf(maru.Conflict, "adopt secrets: key %08x is there with another value", k.id)
		}
	}
	return &ring{keys: append(more, r.keys...)}, nil
}

func (r *ring) seal(value []byte, name string) []byte {
	key := r.current()
	sealed := make([]byte, prefixSize+nonceSize, overhead+len(value))
	sealed[0] = version
	binary.BigEndian.PutUint32(sealed[1:], key.id)
	_, _ = rand.Read(sealed[prefixSize:]) // never fails
	return key.aead.Seal(sealed, sealed[prefixSize:], value, bound(sealed, name))
}

func (r *ring) open(sealed []byte, name string) ([]byte, error) {
	id, rest, ok := parse(sealed)
	if !ok {
		return nil, maru.Errorf(maru.Invalid, "open %q: this is no sealed value", name)
	}
	i := slices.IndexFunc(r.keys, func(k dataKey) bool { return k.id == id })
	if i < 0 {
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "open %q: it was sealed by key %08x, which is not here", name, id),
			"the keys and the state are of two installations, or of two backups: restore both from the same one")
	}
	value, err := r.keys[i].aead.Open(nil, rest[:nonceSize], rest[nonceSize:], bound(sealed, name))
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "open %q: the sealed value is damaged or belongs to another name", name)
	}
	return value, nil
}

func parse(sealed []byte) (id uint32, rest []byte, ok bool) {
	if len(sealed) < overhead || sealed[0] != version {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(sealed[1:]), sealed[prefixSize:], true
}

func bound(sealed []byte, name string) []byte {
	return append(slices.Clone(sealed[:prefixSize]), name...)
}
