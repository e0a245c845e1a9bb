package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/marucloud/maru"
)

// TestSecretsAreReplacedWhole holds that no secret is written in place, where a crash would leave a part
// of it, and that one which is there is left alone.
func TestSecretsAreReplacedWhole(t *testing.T) {
	folder := t.TempDir()
	s := &wantedStore{folder: folder, secrets: folder}
	w := maru.Workload{Files: []maru.File{{Path: "/run/secrets/key", Secret: true, Data: []byte("first")}}}
	save := func() {
		t.Helper()
		if err := s.save(wantedWorkload{Workload: w}); err != nil {
			t.Fatal(err)
		}
	}
	save()
	kept, before := filepath.Join(s.secretFolder(w.ID), "0"), filepath.Join(folder, "before")
	if err := os.Link(kept, before); err != nil {
		t.Fatal(err)
	}
	save()
	if !sameFile(t, kept, before) {
		t.Error("a secret that is there was written again")
	}
	w.Files[0].Data = []byte("second")
	save()
	old, err := os.ReadFile(before)
	if err != nil || string(old) != "first" || sameFile(t, kept, before) {
		t.Errorf("the file was written in place: it has %q, %v", old, err)
	}
	if now, err := os.ReadFile(kept); err != nil || string(now) != "second" {
		t.Errorf("kept is %q, %v", now, err)
	}
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	first, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(first, second)
}
