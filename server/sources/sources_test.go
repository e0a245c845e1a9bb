package sources

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/source"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func digest(content string) source.Digest { return sha256.Sum256([]byte(content)) }

func file(path, content string, perm uint32) source.Entry {
	return source.Entry{Path: path, Mode: source.TypeFile | perm, Size: int64(len(content)), Digest: digest(content)}
}

func folder(path string) source.Entry {
	return source.Entry{Path: path, Mode: source.TypeFolder | 0o750}
}

// send offers the manifest and uploads what is missing of the contents.
func send(t testing.TB, s *Store, m source.Manifest, contents ...string) string {
	t.Helper()
	id, missing, err := s.Offer(m)
	if err != nil {
		t.Fatal(err)
	}
	u := s.Upload()
	defer u.Close()
	for _, c := range contents {
		for _, d := range missing {
			if d != digest(c) {
				continue
			}
			if err := u.Next(d); err != nil {
				t.Fatal(err)
			}
			if err := u.Write([]byte(c)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := u.Done(); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestCheckoutLaysOutWhatWasSent(t *testing.T) {
	s := open(t, t.TempDir())
	m := source.Manifest{
		folder("d"), file("d/run", "#!", 0o755), file("d/set", "#!", 0o4711), file("empty", "", 0o644),
		{Path: "link", Mode: source.TypeLink | 0o777, Target: "/etc/passwd"}, file("plain", "text", 0o644),
	}
	id := send(t, s, m, "#!", "", "text")
	if id != m.ID() {
		t.Fatalf("ID %s, want %s", id, m.ID())
	}
	dir, release, err := s.Checkout(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for name, mode := range map[string]fs.FileMode{
		"d": fs.ModeDir | 0o750, "d/run": 0o755, "d/set": 0o711 | fs.ModeSetuid, "empty": 0o644, "plain": 0o644,
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
	if target, err := os.Readlink(filepath.Join(dir, "link")); err != nil || target != "/etc/passwd" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "plain")); err != nil || string(data) != "text" {
		t.Errorf("plain is %q, %v", data, err)
	}
	if _, missing, err := s.Offer(m); err != nil || len(missing) != 0 {
		t.Errorf("the second time %d contents are missing, %v", len(missing), err)
	}
	again, release2, err := s.Checkout(t.Context(), id)
	if err != nil || again != dir {
		t.Errorf("laid out again at %s, %v", again, err)
	}
	release2()
}

func TestSameContentHasSameTimesAndOtherContentOthers(t *testing.T) {
	s := open(t, t.TempDir())
	one := send(t, s, source.Manifest{file("a", "1", 0o644), file("b", "2", 0o644)}, "1", "2")
	two := send(t, s, source.Manifest{file("a", "2", 0o644), file("b", "1", 0o644)})
	stamp := func(id, name string) time.Time {
		dir, release, err := s.Checkout(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	if !stamp(one, "a").Equal(stamp(two, "b")) || stamp(one, "a").Equal(stamp(two, "a")) {
		t.Fatal("a builder that goes by size and time would take one content for another")
	}
}

func TestUploadRefusesOtherContent(t *testing.T) {
	s := open(t, t.TempDir())
	u := s.Upload()
	defer u.Close()
	if err := u.Write([]byte("x")); maru.KindOf(err) != maru.Invalid {
		t.Fatalf("content without a digest: %v", err)
	}
	if err := u.Next(digest("good")); err != nil {
		t.Fatal(err)
	}
	if err := u.Write([]byte("bad")); err != nil {
		t.Fatal(err)
	}
	if err := u.Done(); maru.KindOf(err) != maru.Conflict {
		t.Fatalf("other content: %v", err)
	}
	if _, missing, err := s.Offer(source.Manifest{file("a", "good", 0o644)}); err != nil || len(missing) != 1 {
		t.Fatalf("%d missing, %v", len(missing), err)
	}
	s.cfg.MaxBlob = 3
	if err := u.Next(digest("long")); err != nil {
		t.Fatal(err)
	}
	if err := u.Write([]byte("long")); maru.KindOf(err) != maru.Exhausted {
		t.Fatalf("content that is too long: %v", err)
	}
}

func TestCheckoutRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	incomplete, _, err := s.Offer(source.Manifest{file("a", "never sent", 0o644)})
	if err != nil {
		t.Fatal(err)
	}
	for id, kind := range map[string]maru.Kind{
		incomplete: maru.Conflict, source.Manifest{}.ID(): maru.NotFound, "sha256:../../x": maru.Invalid, "": maru.Invalid, "x": maru.Invalid,
	} {
		if _, _, err := s.Checkout(t.Context(), id); maru.KindOf(err) != kind {
			t.Errorf("%q: %v", id, err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(s.root.Name(), trees)); err != nil || len(entries) != 0 {
		t.Errorf("%d folders were left, %v", len(entries), err)
	}
	// What failed can succeed later.
	send(t, s, source.Manifest{file("a", "never sent", 0o644)}, "never sent")
	if _, release, err := s.Checkout(t.Context(), incomplete); err != nil {
		t.Error(err)
	} else {
		release()
	}
	if _, _, err := s.Offer(source.Manifest{{Path: "a", Mode: source.TypeFile, Size: 1, Digest: digest("never sent")}}); maru.KindOf(err) != maru.Invalid {
		t.Errorf("a wrong size: %v", err)
	}
}

func TestCheckoutsAtOnce(t *testing.T) {
	s := open(t, t.TempDir())
	id := send(t, s, source.Manifest{file("a", "1", 0o600)}, "1")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			dir, release, err := s.Checkout(t.Context(), id)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if _, err := os.Stat(filepath.Join(dir, "a")); err != nil {
				t.Error(err)
			}
			if err := s.Clean(time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestCleanForgetsWhatIsNotUsed(t *testing.T) {
	s := open(t, t.TempDir())
	old := send(t, s, source.Manifest{file("a", "old", 0o755), file("b", "both", 0o644)}, "old", "both")
	held, release, err := s.Checkout(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-s.cfg.MaxAge - time.Minute)
	if err := s.root.Chtimes(manifestName(old), past, past); err != nil {
		t.Fatal(err)
	}
	fresh := send(t, s, source.Manifest{file("b", "both", 0o644)})
	if err := s.Clean(time.Now()); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(held, "a")); err != nil || string(data) != "old" {
		t.Errorf("a folder in use changed: %q, %v", data, err)
	}
	if _, _, err := s.Offer(source.Manifest{}); err != nil {
		t.Error(err)
	}
	_, missing, err := s.Offer(source.Manifest{file("a", "old", 0o755), file("b", "both", 0o644)})
	if err != nil || len(missing) != 1 || missing[0] != digest("old") {
		t.Errorf("missing %v, %v", missing, err)
	}
	if _, release, err := s.Checkout(t.Context(), fresh); err != nil {
		t.Error(err)
	} else {
		release()
	}
	release()
	if err := s.Clean(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(held); !os.IsNotExist(err) {
		t.Errorf("a folder that nobody uses is still there: %v", err)
	}
}

func TestOpenAgain(t *testing.T) {
	dir := t.TempDir()
	m := source.Manifest{file("a", "1", 0o644)}
	s := open(t, dir)
	id := send(t, s, m, "1")
	if _, _, err := s.Checkout(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, missing, err := s.Offer(m); err != nil || len(missing) != 0 {
		t.Fatalf("after a restart %d are missing, %v", len(missing), err)
	}
	if err := s.root.WriteFile(bootFile, []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, missing, err := s.Offer(m); err != nil || len(missing) != 1 {
		t.Fatalf("after a reboot %d are missing, %v: content may be spoilt", len(missing), err)
	}
}

// FuzzCheckout lays out every manifest that is let through, and looks for anything outside.
func FuzzCheckout(f *testing.F) {
	for _, m := range []source.Manifest{
		{folder("a"), file("a/b", "", 0o644), {Path: "l", Mode: source.TypeLink, Target: "../../../outside"}},
		{{Path: "l", Mode: source.TypeLink, Target: ".."}, file("l/x", "", 0o644)},
		{file("../x", "", 0o644)}, {folder(".."), file("../x", "", 0o644)},
	} {
		f.Add(encode(m))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data)
		if err != nil {
			return
		}
		for i, e := range m {
			if e.IsFile() {
				m[i].Digest, m[i].Size = digest(""), 0
			}
		}
		outside := t.TempDir()
		s := open(t, filepath.Join(outside, "data"))
		id := send(t, s, m, "")
		dir, release, err := s.Checkout(t.Context(), id)
		if err != nil {
			return
		}
		defer release()
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
			t.Fatalf("%v was made outside, %v", entries, err)
		}
		if entries, err := os.ReadDir(filepath.Join(s.root.Name(), trees)); err != nil || len(entries) != 1 {
			t.Fatalf("%v was made beside, %v", entries, err)
		}
		made := 0
		if err := filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { made++; return nil }); err != nil {
			t.Fatal(err)
		}
		// A folder's bits may keep the test from looking in, but nothing is made beyond the manifest.
		if made > len(m)+1 {
			t.Fatalf("%d entries were made of %d", made, len(m))
		}
	})
}
