package backup

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/authority"
	"github.com/marucloud/maru/access/secrets"
	"github.com/marucloud/maru/store/sqlite"
)

// installation is the real parts of a server.
type installation struct {
	store     *sqlite.Store
	vault     *secrets.Vault
	authority *authority.Authority
	backups   *Backups
}

func install(t *testing.T) *installation {
	t.Helper()
	folder := t.TempDir()
	store, err := sqlite.Open(filepath.Join(folder, "state.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	box, err := secrets.OpenBox(filepath.Join(folder, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := authority.Open(filepath.Join(folder, "authority"), box, authority.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &installation{store, secrets.NewVault(store, box), root, New(Config{
		State: store, Folder: folder,
		Keepers: map[string]Keeper{
			"secrets":   {Export: func() ([]byte, error) { return box.Export(), nil }, Adopt: box.Adopt},
			"authority": {Export: root.Export, Adopt: root.Adopt},
		},
	})}
}

// TestRealParts: on another machine secrets open, and who trusted the authority still does.
func TestRealParts(t *testing.T) {
	lock, key := keyPair(t)
	old := install(t)
	version, _, err := old.vault.SetSecret(t.Context(), "ann", shop, "db", []byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	app := maru.Change{Key: maru.Key{Kind: "app", Name: shop.String()}, Data: maru.Raw(maru.App{Name: "shop"})}
	if _, err := old.store.Commit(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := old.backups.write(t.Context(), &file, lock, true); err != nil {
		t.Fatal(err)
	}
	fresh := install(t)
	restored, err := fresh.backups.restore(t.Context(), &file, key)
	if err != nil || len(restored.Apps) != 1 {
		t.Fatalf("restored %+v, %v", restored, err)
	}
	value, err := fresh.vault.Value(t.Context(), shop, "db", version)
	if err != nil || string(value) != "hunter2" {
		t.Errorf("the secret is %q, %v", value, err)
	}
	if fresh.authority.Fingerprint() != old.authority.Fingerprint() {
		t.Error("the authority is another one")
	}
	next, changed, err := fresh.vault.SetSecret(t.Context(), "bob", shop, "db", []byte("other"))
	if err != nil || !changed || next != version+1 {
		t.Errorf("the next version is %d, %v, %v", next, changed, err)
	}
}
