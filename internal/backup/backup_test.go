package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/archive"
	"github.com/marucloud/maru/store/memory"
)

var shop = maru.Scope{Project: "default", Environment: "production", App: "shop"}

// disk is volumes in memory.
type disk struct {
	mu      sync.Mutex
	content map[maru.VolumeID]string
	fail    maru.VolumeID // to import
}

func (d *disk) Volumes(context.Context) ([]maru.VolumeStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []maru.VolumeStatus
	for id := range d.content {
		all = append(all, maru.VolumeStatus{ID: id})
	}
	slices.SortFunc(all, func(a, b maru.VolumeStatus) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return all, nil
}

func (d *disk) RemoveVolume(ctx context.Context, id maru.VolumeID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.content, id)
	return nil
}

func (d *disk) ExportVolume(_ context.Context, id maru.VolumeID, w io.Writer) error {
	_, err := io.WriteString(w, d.content[id])
	return err
}

func (d *disk) ImportVolume(_ context.Context, id maru.VolumeID, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if id == d.fail {
		return maru.Errorf(maru.Exhausted, "the disk is full")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, there := d.content[id]; there {
		return maru.Errorf(maru.Exists, "volume %s exists", id)
	}
	d.content[id] = string(data)
	return nil
}

// repositories are Git repositories with contents.
type repositories struct {
	content   map[maru.RepositoryID]string
	exporting func() // nil: nothing happens meanwhile
}

func (r *repositories) List() []maru.RepositoryID {
	return slices.SortedFunc(maps.Keys(r.content), func(a, b maru.RepositoryID) int { return strings.Compare(a.String(), b.String()) })
}

func (r *repositories) Export(_ context.Context, id maru.RepositoryID, w io.Writer) error {
	content, ok := r.content[id]
	if !ok {
		return maru.Errorf(maru.NotFound, "there is no repository %s", id)
	}
	if r.exporting != nil {
		r.exporting()
	}
	_, err := io.WriteString(w, content)
	return err
}

func (r *repositories) Import(_ context.Context, id maru.RepositoryID, from io.Reader) error {
	data, err := io.ReadAll(from)
	r.content[id] = string(data)
	return err
}

func (r *repositories) Remove(id maru.RepositoryID) error {
	delete(r.content, id)
	return nil
}

// images are references with contents.
type images struct{ content map[string]string }

func (i *images) SaveImages(_ context.Context, references []string, w io.Writer) error {
	saved := map[string]string{}
	for _, r := range references {
		saved[r] = i.content[r]
	}
	return json.NewEncoder(w).Encode(saved)
}

func (i *images) Load(_ context.Context, r io.Reader) ([]maru.Image, error) {
	return nil, json.NewDecoder(r).Decode(&i.content)
}

// machine is an installation.
type machine struct {
	store        *memory.Store
	disk         *disk
	repositories *repositories
	images       *images
	keys         string
	folder       string
	backups      *Backups
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{
		store: memory.New(), disk: &disk{content: map[maru.VolumeID]string{}}, images: &images{content: map[string]string{}}, folder: t.TempDir(),
		repositories: &repositories{content: map[maru.RepositoryID]string{}},
	}
	m.backups = New(Config{
		State: m.store, Repositories: m.repositories, Volumes: m.disk, Images: m.images, Folder: m.folder, Version: "1.0.0",
		References: func(context.Context) ([]string, error) { return slices.Sorted(maps.Keys(m.images.content)), nil },
		Keepers: map[string]Keeper{"secrets": {
			Export: func() ([]byte, error) { return []byte(m.keys), nil },
			Adopt:  func(data []byte) error { m.keys = string(data); return nil },
		}},
	})
	return m
}

func filled(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.keys = "hunter2"
	var changes []maru.Change
	for i := range 50 {
		changes = append(changes, maru.Change{Key: maru.Key{Kind: "event", Name: fmt.Sprint(i)}, Data: json.RawMessage(fmt.Sprintf(`{"n": %d, "text": "<é\n>"}`, i))})
	}
	changes = append(changes, maru.Change{Key: maru.Key{Kind: "app", Name: shop.String()}, Data: json.RawMessage(`{"name":"shop"}`)})
	if _, err := m.store.Commit(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	m.disk.content[maru.VolumeID{Scope: shop, Volume: "db"}] = strings.Repeat("rows ", 100_000)
	m.disk.content[maru.VolumeID{Scope: maru.Scope{Project: "default", Environment: "production"}, Volume: "shared"}] = ""
	m.images.content["web@sha256:1"] = "layers"
	m.repositories.content[maru.RepositoryID{Project: "default", App: "shop"}] = "commits"
	return m
}

// state is all that a machine has.
func (m *machine) state(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"keys": m.keys}
	for o, err := range m.store.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, o.Data); err != nil {
			t.Fatal(err)
		}
		all[o.Kind+" "+o.Name] = compact.String()
	}
	for id, content := range m.disk.content {
		all["volume "+id.String()] = content
	}
	for r, content := range m.images.content {
		all["image "+r] = content
	}
	for id, content := range m.repositories.content {
		all["repository "+id.String()] = content
	}
	return all
}

func keyPair(t testing.TB) (archive.Lock, archive.Key) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return archive.Lock{Recipients: []string{identity.Recipient().String()}}, archive.Key{Identities: identity.String()}
}

func wantKind(t *testing.T, what string, err error, want maru.Kind) {
	t.Helper()
	if maru.KindOf(err) != want {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

func TestBackupAndRestore(t *testing.T) {
	old := filled(t)
	var file bytes.Buffer
	if err := old.backups.write(t.Context(), &file, archive.Lock{Passphrase: "correct horse", WorkFactor: 10}, true); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	_, err := m.backups.Restore(t.Context(), bytes.NewReader(file.Bytes()), "battery staple")
	wantKind(t, "a wrong passphrase", err, maru.Unauthenticated)
	restored, err := m.backups.Restore(t.Context(), bytes.NewReader(file.Bytes()), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	want := Restored{Apps: []string{"default/production/shop"}, Volumes: []string{"default/production//shared", "default/production/shop/db"}}
	if d := cmp.Diff(want, restored); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(old.state(t), m.state(t)); d != "" {
		t.Error(d)
	}
	if left, err := os.ReadDir(m.folder); len(left) > 0 || err != nil {
		t.Errorf("left over: %v, %v", left, err)
	}
	_, err = m.backups.Restore(t.Context(), bytes.NewReader(file.Bytes()), "correct horse")
	wantKind(t, "restore again", err, maru.Conflict)
}

// TestRepositoryThatGoes: what is removed while a backup is taken is not in it.
func TestRepositoryThatGoes(t *testing.T) {
	old := filled(t)
	zoo := maru.RepositoryID{Project: "default", App: "zoo"}
	old.repositories.content[zoo] = "commits"
	old.repositories.exporting = func() { delete(old.repositories.content, zoo) }
	var file bytes.Buffer
	if err := old.backups.write(t.Context(), &file, archive.Lock{Passphrase: "correct horse", WorkFactor: 10}, true); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	if _, err := m.backups.Restore(t.Context(), &file, "correct horse"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(old.state(t), m.state(t)); d != "" {
		t.Error(d)
	}
}

func TestWithoutVolumes(t *testing.T) {
	lock, key := keyPair(t)
	var file bytes.Buffer
	if err := filled(t).backups.write(t.Context(), &file, lock, false); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	restored, err := m.backups.restore(t.Context(), &file, key)
	if err != nil || len(restored.Apps) != 1 || len(restored.Volumes) != 0 || len(m.disk.content) != 0 {
		t.Errorf("restored %+v, %v", restored, err)
	}
}

func TestOnlyState(t *testing.T) {
	lock, key := keyPair(t)
	old, store := filled(t), memory.New()
	var file bytes.Buffer
	if err := New(Config{State: old.store}).write(t.Context(), &file, lock, true); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{State: store}).restore(t.Context(), &file, key); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), maru.Key{Kind: "app", Name: shop.String()}); err != nil {
		t.Error(err)
	}
}

// TestNothingHappensUnlessTheFileIsSound cuts and changes a backup.
func TestNothingHappensUnlessTheFileIsSound(t *testing.T) {
	lock, key := keyPair(t)
	var file bytes.Buffer
	if err := filled(t).backups.write(t.Context(), &file, lock, true); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	before := m.state(t)
	for n := 0; n < file.Len(); n += 1 + file.Len()/40 {
		changed := bytes.Clone(file.Bytes())
		changed[n] ^= 4
		for _, bad := range [][]byte{file.Bytes()[:n], changed} {
			if _, err := m.backups.restore(t.Context(), bytes.NewReader(bad), key); err == nil {
				t.Fatalf("restored what was changed at %d", n)
			}
		}
	}
	if d := cmp.Diff(before, m.state(t)); d != "" {
		t.Error(d)
	}
}

func TestRestoreRefuses(t *testing.T) {
	lock, key := keyPair(t)
	var file bytes.Buffer
	if err := filled(t).backups.write(t.Context(), &file, lock, true); err != nil {
		t.Fatal(err)
	}
	t.Run("a volume that is there", func(t *testing.T) {
		m := newMachine(t)
		m.disk.content[maru.VolumeID{Scope: shop, Volume: "db"}] = "mine"
		_, err := m.backups.restore(t.Context(), bytes.NewReader(file.Bytes()), key)
		wantKind(t, "restore", err, maru.Conflict)
		if len(m.disk.content) != 1 || m.keys != "" {
			t.Errorf("changed: %v", m.state(t))
		}
	})
	t.Run("a volume that fails", func(t *testing.T) {
		for _, fail := range []maru.VolumeID{{Scope: shop, Volume: "db"}, {Scope: maru.Scope{Project: "default", Environment: "production"}, Volume: "shared"}} {
			m := newMachine(t)
			m.disk.fail = fail
			_, err := m.backups.restore(t.Context(), bytes.NewReader(file.Bytes()), key)
			wantKind(t, "restore", err, maru.Exhausted)
			if len(m.disk.content) != 0 {
				t.Errorf("left volumes: %v", m.disk.content)
			}
			apps, _, err := m.store.List(t.Context(), "app", "")
			if len(apps) > 0 || err != nil {
				t.Errorf("left apps: %v, %v", apps, err)
			}
		}
	})
	t.Run("a caller that leaves", func(t *testing.T) {
		m := newMachine(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := m.backups.restore(ctx, bytes.NewReader(file.Bytes()), key)
		wantKind(t, "restore", err, maru.Interrupted)
	})
	t.Run("no state", func(t *testing.T) {
		var file bytes.Buffer
		a, err := archive.NewWriter(&file, lock, archive.Manifest{})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = newMachine(t).backups.restore(t.Context(), &file, key)
		wantKind(t, "restore", err, maru.Invalid)
	})
}

func TestBackupThatFailsIsNone(t *testing.T) {
	lock, key := keyPair(t)
	m := filled(t)
	cause := errors.New("no keys")
	m.backups.config.Keepers = map[string]Keeper{"secrets": {Export: func() ([]byte, error) { return nil, cause }}}
	var file bytes.Buffer
	if err := m.backups.write(t.Context(), &file, lock, true); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	if _, _, err := archive.Verify(&file, key); err == nil {
		t.Error("a backup that failed is whole")
	}
}

func FuzzReadState(f *testing.F) {
	f.Add([]byte(`{"kind":"app","name":"a","data":{}}` + "\n"))
	f.Fuzz(func(t *testing.T, state []byte) {
		changes, err := readState(bytes.NewReader(state))
		if err != nil {
			return
		}
		for _, c := range changes {
			if c.Key.Kind == "" || c.Key.Name == "" || !json.Valid(c.Data) {
				t.Errorf("read %+v", c)
			}
		}
	})
}
