package sqlite

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/crash"
)

// later is the schema of a Maru to come.
var later = append(append([]string{}, schema...),
	`UPDATE object SET data = CAST(json_set(data, '$.v', 2) AS BLOB)`,
	`CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT`)

func filled(t *testing.T, path string) {
	t.Helper()
	store, err := Open(path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Commit(t.Context(), maru.Change{Key: key("a"), Data: json.RawMessage(`{"v":1}`)}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func key(name string) maru.Key { return maru.Key{Kind: "app", Name: name} }

// holds checks the object's data after opening the file with the schema.
func holds(t *testing.T, path string, schema []string, want string) {
	t.Helper()
	store, err := open(path, Config{}, schema)
	if err != nil {
		t.Fatal(err)
	}
	object, err := store.Get(t.Context(), key("a"))
	if err != nil || string(object.Data) != want {
		t.Errorf("%s holds %s, %v; want %s", filepath.Base(path), object.Data, err, want)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

func TestMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "maru.db")
	filled(t, path)
	for range 2 {
		holds(t, path, later, `{"v":2}`)
	}
	_, err := Open(path, Config{})
	if maru.KindOf(err) != maru.Unsupported || !strings.Contains(maru.HintOf(err), ".v1.backup") {
		t.Errorf("an older Maru opens the file: %v", err)
	}
	kept := path + ".v1.backup"
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	holds(t, kept, schema, `{"v":1}`)
}

func TestMigrationFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "maru.db")
	filled(t, path)
	_, err := open(path, Config{}, append(later[:len(later):len(later)], `CREATE TABLE more (id)`))
	if err == nil {
		t.Fatal("a step failed and the store opened")
	}
	holds(t, path, schema, `{"v":1}`)
}

// TestMigrationChild is killed while it migrates.
func TestMigrationChild(t *testing.T) {
	path := os.Getenv("STORE_TEST_MIGRATE")
	if path == "" {
		t.Skip("runs as the child of TestMigrationKilled")
	}
	_, err := open(path, Config{}, later)
	t.Fatalf("still here: %v", err)
}

func TestMigrationKilled(t *testing.T) {
	for point, want := range map[string]string{
		"store.keep.before":    `{"v":1}`,
		"store.keep.after":     `{"v":1}`,
		"store.migrate.before": `{"v":1}`,
		"store.migrate.after":  `{"v":2}`,
	} {
		t.Run(point, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "maru.db")
			filled(t, path)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMigrationChild$")
			cmd.Env = append(os.Environ(), "STORE_TEST_MIGRATE="+path, crash.Variable+"="+point)
			if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != -1 {
				t.Fatalf("the child was not killed: %v\n%s", err, out)
			}
			if want == `{"v":1}` {
				holds(t, path, schema, want)
			}
			holds(t, path, later, `{"v":2}`)
			holds(t, path+".v1.backup", schema, `{"v":1}`)
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*"+temporaries+"*")); len(left) > 0 {
				t.Errorf("left over: %q", left)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Run("a second process", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "maru.db")
		store, err := Open(path, Config{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(path, Config{})
		if maru.KindOf(err) != maru.Conflict || maru.HintOf(err) == "" {
			t.Errorf("opened twice: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		if store, err = Open(path, Config{}); err != nil {
			t.Fatalf("open after close: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("no database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "maru.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, Config{})
		if maru.KindOf(err) != maru.Internal || !strings.Contains(maru.HintOf(err), "maru restore") {
			t.Errorf("error %v, hint %q", err, maru.HintOf(err))
		}
	})
	t.Run("another program's database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "maru.db")
		db, err := connect(path, Config{}.withDefaults(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(`CREATE TABLE x (y)`); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Config{}); maru.KindOf(err) != maru.Invalid {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a configuration", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "maru.db")
		if _, err := Open(path, Config{Readers: -1}); maru.KindOf(err) != maru.Invalid {
			t.Errorf("error %v", err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("made a file all the same: %v", err)
		}
	})
}

// TestOddPaths holds names that mean something in an address of SQLite's.
func TestOddPaths(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a b%20c?d#e&_pragma=x")
	path := filepath.Join(folder, "maru?x=1#.db")
	filled(t, path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]fs.FileMode{folder: fs.ModeDir | 0o700, path: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	holds(t, path, schema, `{"v":1}`)
}
