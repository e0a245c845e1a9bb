package secrets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

// ringForm is the content of the ring's file.
type ringForm struct {
	Keys []keyForm `json:"keys"` // the newest last
}

type keyForm struct {
	ID  uint32 `json:"id"`
	Key []byte `json:"key"`
}

func (r *ring) form() ringForm {
	var form ringForm
	for _, k := range r.keys {
		form.Keys = append(form.Keys, keyForm{k.id, k.key})
	}
	return form
}

func (f ringForm) ring() (*ring, error) {
	r := &ring{}
	for _, k := range f.Keys {
		key, err := newKey(k.ID, k.Key)
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, key)
	}
	if len(r.keys) == 0 {
		return nil, errors.New("it has no key")
	}
	return r, nil
}

func readIdentities(folder string) ([]*age.X25519Identity, error) {
	path := filepath.Join(folder, identityFile)
	data, err := atomicfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("open secrets: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "open secrets: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, maru.WithHint(maru.Errorf(maru.Denied, "open secrets: others can read %s", path), "chmod 600 "+path)
	}
	return parseIdentities(data)
}

func parseIdentities(data []byte) ([]*age.X25519Identity, error) {
	parsed, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "open secrets: %s: %w", identityFile, err)
	}
	var identities []*age.X25519Identity
	for _, p := range parsed {
		identity, ok := p.(*age.X25519Identity)
		if !ok {
			return nil, maru.Errorf(maru.Invalid, "open secrets: %s holds a key that is no X25519 identity", identityFile)
		}
		identities = append(identities, identity)
	}
	return identities, nil
}

func formatIdentities(identities ...*age.X25519Identity) []byte {
	text := "# This key opens the secrets of this installation of Maru. Whoever has it and the state can read them.\n"
	for _, identity := range identities {
		text += "# public key: " + identity.Recipient().String() + "\n" + identity.String() + "\n"
	}
	return []byte(text)
}

func writeIdentities(folder string, identities ...*age.X25519Identity) error {
	if err := atomicfile.Write(filepath.Join(folder, identityFile), formatIdentities(identities...), 0o600); err != nil {
		return maru.Errorf(maru.Internal, "keep identity: %w", err)
	}
	return nil
}

// readRing opens the ring, and tells which of the identities it is for.
func readRing(folder string, identities []*age.X25519Identity) (*ring, *age.X25519Identity, error) {
	sealed, err := atomicfile.Read(filepath.Join(folder, ringFile))
	if err != nil {
		return nil, nil, fmt.Errorf("open secrets: %w", err)
	}
	for _, identity := range identities {
		r, err := openRing(sealed, identity)
		var other *age.NoIdentityMatchError
		if errors.As(err, &other) {
			continue
		}
		if err != nil {
			return nil, nil, maru.Errorf(maru.Invalid, "open secrets: %s is damaged: %w", ringFile, err)
		}
		return r, identity, nil
	}
	return nil, nil, maru.WithHint(maru.Errorf(maru.Invalid, "open secrets: %s is for another identity than that in %s", ringFile, identityFile),
		"restore both from the same backup")
}

func openRing(sealed []byte, identity age.Identity) (*ring, error) {
	plain, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(plain)
	if err != nil {
		return nil, err
	}
	var form ringForm
	if err := json.Unmarshal(data, &form); err != nil {
		return nil, err
	}
	return form.ring()
}

func writeRing(folder string, r *ring, identity *age.X25519Identity) error {
	err := atomicfile.WriteFunc(filepath.Join(folder, ringFile), 0o600, func(w io.Writer) error {
		sealing, err := age.Encrypt(w, identity.Recipient())
		if err != nil {
			return err
		}
		if _, err := sealing.Write(maru.Raw(r.form())); err != nil {
			return err
		}
		return sealing.Close()
	})
	if err != nil {
		return maru.Errorf(maru.Internal, "keep keys: %w", err)
	}
	return nil
}

// exportForm is what Export gives.
type exportForm struct {
	Identity string   `json:"identity"`
	Ring     ringForm `json:"ring"`
}

// Export gives all that Import needs to make this box elsewhere, unencrypted. It is for a backup
// that is encrypted as a whole.
func (b *Box) Export() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maru.Raw(exportForm{Identity: b.identity.String(), Ring: b.ring.Load().form()})
}

// Import makes a box in the folder from what Export gave. It gives Exists when one with an identity is
// there, and Invalid for anything else than an export. If it is interrupted it can be done again.
func Import(folder string, exported []byte) error {
	if _, err := os.Stat(filepath.Join(folder, identityFile)); !errors.Is(err, fs.ErrNotExist) {
		return maru.Errorf(maru.Exists, "import secrets: %s is in %s already", identityFile, folder)
	}
	r, identity, err := parseExport(exported)
	if err != nil {
		return maru.Errorf(maru.Invalid, "import secrets: %w", err)
	}
	if err := atomicfile.MkdirAll(folder, 0o700); err != nil {
		return maru.Errorf(maru.Internal, "import secrets: %w", err)
	}
	// The ring first: an identity alone would be taken for that of a box that was never used.
	if err := writeRing(folder, r, identity); err != nil {
		return err
	}
	return writeIdentities(folder, identity)
}

// Adopt makes the box open what another one sealed, of which Export gave this. It goes on sealing with
// its own key. Adopting again changes nothing. Invalid for anything else than an export.
func (b *Box) Adopt(exported []byte) error {
	other, _, err := parseExport(exported)
	if err != nil {
		return maru.Errorf(maru.Invalid, "adopt secrets: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	joined, err := b.ring.Load().with(other)
	if err != nil {
		return err
	}
	if err := writeRing(b.folder, joined, b.identity); err != nil {
		return err
	}
	b.ring.Store(joined)
	return nil
}

func parseExport(exported []byte) (*ring, *age.X25519Identity, error) {
	var form exportForm
	if err := json.Unmarshal(exported, &form); err != nil {
		return nil, nil, err
	}
	identity, err := age.ParseX25519Identity(form.Identity)
	if err != nil {
		return nil, nil, err
	}
	r, err := form.Ring.ring()
	if err != nil {
		return nil, nil, err
	}
	return r, identity, nil
}
