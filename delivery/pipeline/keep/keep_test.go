package keep

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

func archive(files ...string) *bytes.Buffer {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		_ = w.WriteHeader(&tar.Header{Name: f, Mode: 0o755, Size: int64(len(f)), Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, f)
	}
	_ = w.WriteHeader(&tar.Header{Name: "link", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink})
	_ = w.Close()
	return &out
}

func TestCache(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	for _, e := range [][2]string{{"main", "go-1"}, {"main", "go-2"}, {"feature", "go-9"}} {
		if err := c.Save(t.Context(), e[0], e[1], "v", strings.NewReader(e[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Save(t.Context(), "main", "go-1", "v", strings.NewReader("other")); maru.KindOf(err) != maru.Exists {
		t.Errorf("a key is kept twice: %v", err)
	}
	for _, e := range []struct {
		scopes, key, prefixes, want string
	}{
		{"main", "go-1", "", "go-1"}, {"main", "GO-1", "", "go-1"}, {"main", "go-3", "go-", "go-2"}, {"main", "go-3", "", ""},
		{"main", "go-", "", "go-2"}, {"feature main", "go-1", "", "go-1"}, {"feature main", "go-7", "go-", "go-9"}, {"main", "go-9", "", ""},
	} {
		key, content, err := c.Restore(t.Context(), strings.Fields(e.scopes), e.key, strings.Fields(e.prefixes), "v")
		if err != nil && maru.KindOf(err) != maru.NotFound || key != e.want {
			t.Errorf("%+v: %q %v", e, key, err)
		}
		if content != nil {
			if data, _ := io.ReadAll(content); string(data) != e.want {
				t.Errorf("%+v: %q", e, data)
			}
			_ = content.Close()
		}
	}
	if _, _, err := c.Restore(t.Context(), []string{"main"}, "go-1", nil, "other"); maru.KindOf(err) != maru.NotFound {
		t.Errorf("another version: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := &Cache{Dir: t.TempDir(), MaxEntry: 3000, MaxTotal: 5000}
	noise := func(n int) io.Reader { return io.LimitReader(rand.Reader, int64(n)) }
	if err := c.Save(t.Context(), "s", "large", "v", noise(9000)); maru.KindOf(err) != maru.Exhausted {
		t.Errorf("%v", err)
	}
	for _, key := range []string{"a", "b", "c"} {
		if err := c.Save(t.Context(), "s", key, "v", noise(2000)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.Restore(t.Context(), []string{"s"}, "a", nil, "v"); maru.KindOf(err) != maru.NotFound {
		t.Errorf("the oldest is still there: %v", err)
	}
}

func TestArtifacts(t *testing.T) {
	a := &Artifacts{Dir: t.TempDir(), MaxFiles: 3}
	size, digest, err := a.Put(t.Context(), "run", "one", false, archive("a", "d/b", "../out"))
	if err != nil || size != 4 || len(digest) != 64 {
		t.Fatalf("%d %s %v", size, digest, err)
	}
	if _, _, err := a.Put(t.Context(), "run", "ONE", false, archive("a")); maru.KindOf(err) != maru.Exists {
		t.Errorf("%v", err)
	}
	if _, _, err := a.Put(t.Context(), "run", "two", false, archive("a", "b", "c", "d")); maru.KindOf(err) != maru.Exhausted {
		t.Errorf("%v", err)
	}
	if names, err := a.List(t.Context(), "run"); err != nil || strings.Join(names, " ") != "one" {
		t.Errorf("%q %v", names, err)
	}
	content, err := a.Get(t.Context(), "run", "one")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	_ = content.Close()
	if got := strings.Join(names, " "); got != "a d/b" {
		t.Errorf("%s", got)
	}
	if _, err := a.Get(t.Context(), "other", "one"); maru.KindOf(err) != maru.NotFound {
		t.Errorf("%v", err)
	}
	if err := a.Remove("run"); err != nil {
		t.Error(err)
	}
	if names, _ := a.List(t.Context(), "run"); names != nil {
		t.Errorf("%q", names)
	}
}
