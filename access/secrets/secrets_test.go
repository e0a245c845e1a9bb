package secrets

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/crash"
)

func box(t testing.TB, folder string) *Box {
	t.Helper()
	b, err := OpenBox(folder)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opens(t testing.TB, b *Box, sealed []byte, name, want string) {
	t.Helper()
	value, err := b.Open(sealed, name)
	if err != nil || string(value) != want {
		t.Errorf("opened %q, %v; want %q", value, err, want)
	}
}

func refuses(t testing.TB, b *Box, sealed []byte, name string) {
	t.Helper()
	if value, err := b.Open(sealed, name); maru.KindOf(err) != maru.Invalid {
		t.Errorf("opened %q, %v", value, err)
	}
}

func TestSealAndOpen(t *testing.T) {
	b := box(t, t.TempDir())
	rapid.Check(t, func(r *rapid.T) {
		value := rapid.SliceOf(rapid.Byte()).Draw(r, "value")
		name, other := rapid.String().Draw(r, "name"), rapid.String().Draw(r, "other")
		sealed := b.Seal(value, name)
		got, err := b.Open(sealed, name)
		if err != nil || !bytes.Equal(got, value) {
			r.Fatalf("got %x, %v", got, err)
		}
		if name != other {
			refuses(t, b, sealed, other)
		}
		if len(value) > 8 && bytes.Contains(sealed, value) {
			r.Fatal("the value can be read")
		}
		if bytes.Equal(sealed, b.Seal(value, name)) {
			r.Fatal("sealing twice gives the same")
		}
		damaged := bytes.Clone(sealed)
		damaged[rapid.IntRange(0, len(sealed)-1).Draw(r, "at")] ^= byte(rapid.IntRange(1, 255).Draw(r, "bits"))
		refuses(t, b, damaged, name)
		refuses(t, b, sealed[:rapid.IntRange(0, len(sealed)-1).Draw(r, "length")], name)
	})
}

func TestReopen(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "secrets")
	b := box(t, folder)
	sealed := b.Seal([]byte("hunter2"), "secret a")
	again := box(t, folder)
	opens(t, again, sealed, "secret a", "hunter2")
	if again.Recipient() != b.Recipient() {
		t.Error("reopening made another identity")
	}
	refuses(t, box(t, t.TempDir()), sealed, "secret a")
	for name, want := range map[string]fs.FileMode{".": fs.ModeDir | 0o700, identityFile: 0o600, ringFile: 0o600} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestRotate(t *testing.T) {
	folder := t.TempDir()
	b := box(t, folder)
	old := b.Seal([]byte("a"), "n")
	if b.Stale(old) {
		t.Error("stale before the rotation")
	}
	if err := b.Rotate(); err != nil {
		t.Fatal(err)
	}
	recent := b.Seal([]byte("b"), "n")
	if !b.Stale(old) || b.Stale(recent) || !b.Stale(nil) {
		t.Errorf("stale: old %v, recent %v", b.Stale(old), b.Stale(recent))
	}
	for _, b := range []*Box{b, box(t, folder)} {
		opens(t, b, old, "n", "a")
		opens(t, b, recent, "n", "b")
	}
	before := b.Recipient()
	if err := b.RotateIdentity(); err != nil {
		t.Fatal(err)
	}
	if b.Recipient() == before {
		t.Error("the identity is as before")
	}
	for _, b := range []*Box{b, box(t, folder)} {
		opens(t, b, old, "n", "a")
	}
	if err := b.Retire(); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Box{b, box(t, folder)} {
		refuses(t, b, old, "n")
		opens(t, b, recent, "n", "b")
	}
}

func TestUseWhileRotating(t *testing.T) {
	b := box(t, t.TempDir())
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 50 {
				opens(t, b, b.Seal([]byte("a"), "n"), "n", "a")
			}
		})
	}
	for range 5 {
		if err := b.Rotate(); err != nil {
			t.Error(err)
		}
	}
	users.Wait()
}

func TestExportAndImport(t *testing.T) {
	b := box(t, t.TempDir())
	if err := b.Rotate(); err != nil {
		t.Fatal(err)
	}
	sealed := b.Seal([]byte("a"), "n")
	folder := filepath.Join(t.TempDir(), "new")
	if err := Import(folder, b.Export()); err != nil {
		t.Fatal(err)
	}
	opens(t, box(t, folder), sealed, "n", "a")
	if err := Import(folder, b.Export()); maru.KindOf(err) != maru.Exists {
		t.Errorf("imported over a box: %v", err)
	}
	for _, wrong := range []string{"", "{}", `{"identity":"x"}`, `{"identity":"` + b.identity.String() + `"}`, `{"identity":"` + b.identity.String() + `","ring":{"keys":[{"id":1,"key":"AAAA"}]}}`} {
		if err := Import(t.TempDir(), []byte(wrong)); maru.KindOf(err) != maru.Invalid {
			t.Errorf("imported %q: %v", wrong, err)
		}
	}
}

func TestAdopt(t *testing.T) {
	folder := t.TempDir()
	old, b := box(t, t.TempDir()), box(t, folder)
	if err := old.Rotate(); err != nil {
		t.Fatal(err)
	}
	theirs, ours := old.Seal([]byte("a"), "n"), b.Seal([]byte("b"), "n")
	refuses(t, b, theirs, "n")
	for range 2 {
		if err := b.Adopt(old.Export()); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range []*Box{b, box(t, folder)} {
		opens(t, b, theirs, "n", "a")
		opens(t, b, ours, "n", "b")
		if !b.Stale(theirs) || b.Stale(ours) || len(b.ring.Load().keys) != 3 {
			t.Errorf("%d keys, stale %v and %v", len(b.ring.Load().keys), b.Stale(theirs), b.Stale(ours))
		}
	}
	if err := b.Adopt([]byte("{}")); maru.KindOf(err) != maru.Invalid {
		t.Errorf("adopted nothing: %v", err)
	}
	clash := &ring{keys: []dataKey{b.ring.Load().keys[0]}}
	clash.keys[0].key = bytes.Repeat([]byte{1}, 32)
	if _, err := b.ring.Load().with(clash); maru.KindOf(err) != maru.Conflict {
		t.Errorf("adopted a key that clashes: %v", err)
	}
}

func TestOpenBoxRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(folder string) error
		kind  maru.Kind
	}{
		"lost identity":     {func(f string) error { return os.Remove(filepath.Join(f, identityFile)) }, maru.NotFound},
		"readable identity": {func(f string) error { return os.Chmod(filepath.Join(f, identityFile), 0o640) }, maru.Denied},
		"damaged identity": {func(f string) error {
			return os.WriteFile(filepath.Join(f, identityFile), []byte("AGE-SECRET-KEY-1"), 0o600)
		}, maru.Invalid},
		"damaged keys": {func(f string) error { return os.Truncate(filepath.Join(f, ringFile), 250) }, maru.Invalid},
		"other identity": {func(f string) error {
			return os.Rename(filepath.Join(box(t, t.TempDir()).folder, identityFile), filepath.Join(f, identityFile))
		}, maru.Invalid},
	} {
		folder := t.TempDir()
		box(t, folder)
		if err := c.spoil(folder); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadDir(folder)
		if _, err := OpenBox(folder); maru.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %s", name, err, c.kind)
		}
		if after, _ := os.ReadDir(folder); len(after) != len(before) {
			t.Errorf("%s: %v became %v", name, before, after)
		}
	}
}

// TestAge reads the files with the age program.
func TestAge(t *testing.T) {
	program, err := exec.LookPath("age")
	if err != nil {
		t.Skip("the age program is not here")
	}
	folder := t.TempDir()
	box(t, folder)
	out, err := exec.CommandContext(t.Context(), program, "-d", "-i", filepath.Join(folder, identityFile), filepath.Join(folder, ringFile)).Output()
	if err != nil || !strings.HasPrefix(string(out), `{"keys":[{"id":`) {
		t.Errorf("%s, %v", out, err)
	}
}

// TestChild rotates a box and is killed in between.
func TestChild(t *testing.T) {
	folder := os.Getenv("SECRETS_TEST_FOLDER")
	if folder == "" {
		t.Skip("runs as the child of TestKilled")
	}
	b := box(t, folder)
	for _, step := range []func() error{b.Rotate, b.RotateIdentity} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKilled(t *testing.T) {
	points := []string{"secrets.rotate.identities", "secrets.rotate.ring"}
	for _, nth := range []string{"1", "2", "3", "4"} {
		points = append(points, "atomicfile.rename.before:"+nth, "atomicfile.rename.after:"+nth)
	}
	for _, point := range points {
		folder := t.TempDir()
		b := box(t, folder)
		sealed := b.Seal([]byte("a"), "n")
		killed(t, folder, point)
		opens(t, box(t, folder), sealed, "n", "a")
		opens(t, box(t, folder), sealed, "n", "a")
	}
	for _, point := range []string{"secrets.initialize.after", "atomicfile.rename.before:1", "atomicfile.rename.before:2"} {
		folder := filepath.Join(t.TempDir(), "secrets")
		killed(t, folder, point)
		b := box(t, folder)
		opens(t, b, b.Seal([]byte("a"), "n"), "n", "a")
		if entries, err := os.ReadDir(folder); len(entries) != 2 || err != nil {
			t.Errorf("%s: %v, %v", point, entries, err)
		}
	}
}

func killed(t *testing.T, folder, point string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "SECRETS_TEST_FOLDER="+folder, crash.Variable+"="+point)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("%s: the child was not killed: %v\n%s", point, err, out)
	}
}

func FuzzOpen(f *testing.F) {
	b := box(f, f.TempDir())
	f.Add(b.Seal([]byte("value"), "name"), "name")
	f.Add([]byte{version}, "")
	f.Fuzz(func(t *testing.T, sealed []byte, name string) {
		value, err := b.Open(sealed, name)
		if err != nil && maru.KindOf(err) != maru.Invalid || err == nil && string(value) != "value" {
			t.Errorf("opened %q, %v", value, err)
		}
		b.Stale(sealed)
	})
}

func FuzzImport(f *testing.F) {
	f.Add(box(f, f.TempDir()).Export())
	f.Fuzz(func(t *testing.T, exported []byte) {
		r, _, err := parseExport(exported)
		if err == nil {
			if _, err := r.open(r.seal([]byte("a"), "n"), "n"); err != nil {
				t.Error(err)
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	box, value := box(b, b.TempDir()), make([]byte, 100)
	for b.Loop() {
		box.Seal(value, "secret default/production/shop/password/3")
	}
}

func BenchmarkOpen(b *testing.B) {
	box := box(b, b.TempDir())
	sealed := box.Seal(make([]byte, 100), "name")
	for b.Loop() {
		if _, err := box.Open(sealed, "name"); err != nil {
			b.Fatal(err)
		}
	}
}
