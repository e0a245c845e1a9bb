package gateway

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealer encrypts what clients keep for the gateway, so that they can neither read nor change it.
type sealer struct {
	ring *keyring

	mu     sync.Mutex
	sealed map[string][]cipher.AEAD // by purpose, those of the newest keys first
}

// Seal encrypts data for a purpose, bound to something that Open is told as well. The text is fit for a cookie.
func (s *sealer) Seal(purpose, bound string, data []byte) string {
	aead := s.keys(purpose)[0]
	text := make([]byte, aead.NonceSize(), aead.NonceSize()+len(data)+aead.Overhead())
	_, _ = rand.Read(text) // never fails
	return base64.RawURLEncoding.EncodeToString(aead.Seal(text, text, data, []byte(bound)))
}

// Open gives what was sealed; false for a text that was not, or for which the key is gone.
func (s *sealer) Open(purpose, bound, text string) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) < chacha20poly1305.NonceSizeX {
		return nil, false
	}
	for _, aead := range s.keys(purpose) {
		if data, err := aead.Open(nil, raw[:aead.NonceSize()], raw[aead.NonceSize():], []byte(bound)); err == nil {
			return data, true
		}
	}
	return nil, false
}

func (s *sealer) keys(purpose string) []cipher.AEAD {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.sealed[purpose]; all != nil {
		return all
	}
	var all []cipher.AEAD
	for _, key := range s.ring.derived(purpose) {
		aead, err := chacha20poly1305.NewX(key[:])
		if err != nil {
			panic("gateway: " + err.Error()) // only of keys of another length
		}
		all = append(all, aead)
	}
	if s.sealed == nil {
		s.sealed = map[string][]cipher.AEAD{}
	}
	s.sealed[purpose] = all
	return all
}

// forget has the keys made anew, after they changed.
func (s *sealer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = nil
}
