package source

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

// TestExportAndImport takes a repository elsewhere with all its branches, tags and its default branch.
func TestExportAndImport(t *testing.T) {
	r := start(t, Config{})
	r.git("tag", "-a", "-m", "The first", "v1")
	r.git("push", "--quiet", "maru", "HEAD:refs/heads/trunk", "HEAD:refs/heads/fix", "v1")
	id := r.repositories.List()[0]
	if err := r.repositories.SetDefault(t.Context(), id, "trunk"); err != nil {
		t.Fatal(err)
	}
	var bundle bytes.Buffer
	if err := r.repositories.Export(t.Context(), id, &bundle); err != nil {
		t.Fatal(err)
	}
	other, err := Open(Config{Folder: filepath.Join(t.TempDir(), "git")}, r.repositories.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Import(t.Context(), id, bytes.NewReader(bundle.Bytes())); err != nil {
		t.Fatal(err)
	}
	refs := func(s *Repositories) string {
		out, err := s.output(t.Context(), s.dir(id), "for-each-ref")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got, want := refs(other), refs(r.repositories); got != want || strings.Count(got, "\n") != 3 {
		t.Errorf("refs\n%s, want\n%s", got, want)
	}
	if standard, err := other.Default(id); standard != "trunk" || err != nil {
		t.Errorf("the default branch is %q, %v", standard, err)
	}
	if _, err := other.output(t.Context(), other.dir(id), "fsck", "--full", "--strict"); err != nil {
		t.Error(err)
	}
	if err := other.Import(t.Context(), id, bytes.NewReader(bundle.Bytes())); maru.KindOf(err) != maru.Conflict {
		t.Errorf("a second time: %v", err)
	}

	none := maru.RepositoryID{Project: "default", App: "none"}
	bundle.Reset()
	if err := r.repositories.Create(t.Context(), none); err != nil {
		t.Fatal(err)
	}
	if err := r.repositories.Export(t.Context(), none, &bundle); err != nil {
		t.Fatal(err)
	}
	if err := other.Import(t.Context(), none, &bundle); err != nil {
		t.Fatal(err)
	}
	if standard, err := other.Default(none); standard != "main" || err != nil {
		t.Errorf("the default branch of an empty one is %q, %v", standard, err)
	}
	for _, broken := range []string{"", "main", "main\nno bundle", "bad..name\n"} {
		if err := other.Import(t.Context(), maru.RepositoryID{Project: "default", App: "broken"}, strings.NewReader(broken)); err == nil {
			t.Errorf("%q was taken", broken)
		}
	}
	if got := other.List(); len(got) != 2 {
		t.Errorf("there are %v", got)
	}
	if left, err := filepath.Glob(filepath.Join(other.incoming(), "*")); len(left) > 0 || err != nil {
		t.Errorf("left over: %v, %v", left, err)
	}
}
