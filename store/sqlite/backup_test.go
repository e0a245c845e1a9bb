package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/marucloud/maru"
)

// TestBackupWhileWriting takes backups of two objects that always change together.
func TestBackupWhileWriting(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "maru.db"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := store.Commit(t.Context(), pair(0)...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			if _, err := store.Commit(t.Context(), pair(n)...); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var last maru.Revision
	for range 5 {
		var backup bytes.Buffer
		if err := store.Backup(t.Context(), &backup); err != nil {
			t.Fatal(err)
		}
		last = restored(t, &backup, last)
	}
	cancel()
	writer.Wait()
	if entries, err := filepath.Glob(filepath.Join(filepath.Dir(store.path), "*"+temporaries+"*")); len(entries) > 0 || err != nil {
		t.Errorf("left over: %q, %v", entries, err)
	}
}

func pair(n int) []maru.Change {
	return []maru.Change{
		{Key: key("a"), Expect: maru.Any, Data: json.RawMessage(fmt.Sprint(n))},
		{Key: key("b"), Expect: maru.Any, Data: json.RawMessage(fmt.Sprint(n))},
	}
}

func restored(t *testing.T, backup *bytes.Buffer, after maru.Revision) maru.Revision {
	t.Helper()
	return restoredAt(t, filepath.Join(t.TempDir(), "new", "maru.db"), backup, after)
}

func restoredAt(t *testing.T, path string, backup *bytes.Buffer, after maru.Revision) maru.Revision {
	t.Helper()
	if err := Restore(t.Context(), path, backup); err != nil {
		t.Fatal(err)
	}
	store, err := Open(path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	objects, revision, err := store.List(t.Context(), "app", "")
	if err != nil || len(objects) != 2 || string(objects[0].Data) != string(objects[1].Data) {
		t.Errorf("restored %v, %v", objects, err)
	}
	if revision < after || revision%2 != 0 {
		t.Errorf("restored revision %d after %d", revision, after)
	}
	next, err := store.Commit(t.Context(), pair(-1)...)
	if err != nil || next != revision+2 {
		t.Errorf("the restored store goes on at %d, %v", next, err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	return revision
}

func TestBackupInterrupted(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "maru.db"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.Backup(ctx, &bytes.Buffer{}); maru.KindOf(err) != maru.Interrupted {
		t.Errorf("error %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := store.Backup(t.Context(), &bytes.Buffer{}); maru.KindOf(err) != maru.Unavailable {
		t.Errorf("error %v", err)
	}
}

// TestRestoreWhereAStoreWasDeleted: what it left beside its file does not get into the new one.
func TestRestoreWhereAStoreWasDeleted(t *testing.T) {
	old := openStore(t)
	if _, err := old.Commit(t.Context(), pair(1)...); err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if err := old.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "maru.db")
	child(t, path, 20)
	if _, err := os.Stat(path + "-wal"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	restoredAt(t, path, &backup, 2)
}

func TestRestoreRefuses(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "maru.db"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		change := maru.Change{Key: key(fmt.Sprint(n)), Data: json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)}
		if _, err := store.Commit(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	var backup bytes.Buffer
	if err := store.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), store.path, &backup); maru.KindOf(err) != maru.Exists {
		t.Errorf("restore over a store: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(backup.Bytes())
	for i := 4096; i < 8192; i++ {
		damaged[i] = 0xaa
	}
	newer := bytes.Clone(backup.Bytes())
	newer[63]++ // the schema's version
	for name, c := range map[string]struct {
		data []byte
		kind maru.Kind
	}{
		"nothing":   {nil, maru.Invalid},
		"text":      {[]byte(strings.Repeat("no database ", 1000)), maru.Invalid},
		"truncated": {backup.Bytes()[:backup.Len()/2], maru.Invalid},
		"damaged":   {damaged, maru.Invalid},
		"newer":     {newer, maru.Unsupported},
	} {
		path := filepath.Join(t.TempDir(), "maru.db")
		if err := Restore(t.Context(), path, bytes.NewReader(c.data)); maru.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %s", name, err, c.kind)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: left a file: %v", name, err)
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); len(entries) > 0 || err != nil {
			t.Errorf("%s: left %v, %v", name, entries, err)
		}
	}
}
