package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

func TestCheckout(t *testing.T) {
	r := start(t, Config{})
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(r.work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("web/app.txt", "hello")
	write("media/.gitattributes", "*.png filter=lfs diff=lfs\nsecret export-ignore\n")
	write("media/secret", "kept")
	if err := os.Symlink("/etc/passwd", filepath.Join(r.work, "link")); err != nil {
		t.Fatal(err)
	}
	first := r.commit("first: ünïcode")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+first+",vendored")
	r.git("commit", "--quiet", "-m", "second")
	second := strings.TrimSpace(r.git("rev-parse", "HEAD"))
	r.git("push", "maru", "main")
	c, err := r.repositories.Checkout(t.Context(), shop, second)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(c.Dir) != "shop" {
		t.Errorf("the folder is %s", c.Dir)
	}
	for name, want := range map[string]string{"web/app.txt": "hello", "media/secret": "kept"} {
		if got, err := os.ReadFile(filepath.Join(c.Dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(c.Dir, "link")); err != nil || target != "/etc/passwd" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, ".git")); err == nil {
		t.Error("there is a .git")
	}
	if len(c.Notes) != 2 || !strings.Contains(c.Notes[0], "submodule vendored") || !strings.Contains(c.Notes[1], "media/.gitattributes") {
		t.Errorf("noted %q", c.Notes)
	}
	if got := r.repositories.Subject(t.Context(), shop, first); got != "first: ünïcode" {
		t.Errorf("the subject is %q", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(r.repositories.checkouts()); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := r.repositories.Checkout(t.Context(), shop, strings.Repeat("1", 40)); maru.KindOf(err) != maru.NotFound {
		t.Errorf("a commit that is not there: %v", err)
	}
	if _, err := r.repositories.Checkout(t.Context(), shop, "--help"); maru.KindOf(err) != maru.Invalid {
		t.Errorf("no commit at all: %v", err)
	}
}
