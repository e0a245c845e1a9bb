package layout

import (
	"os"
	"path/filepath"
	"testing"
)

func TestClosedAt(t *testing.T) {
	top := t.TempDir()
	for at := top; at != "/"; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err != nil || info.Mode().Perm()&0o001 == 0 {
			t.Skipf("%s is closed here: %v", at, err)
		}
	}
	closed := filepath.Join(top, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	if at, err := ClosedAt(filepath.Join(closed, "open", "none")); at != "" || err != nil {
		t.Errorf("open folders: %q %v", at, err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if at, err := ClosedAt(filepath.Join(closed, "open", "none")); at != closed || err != nil {
		t.Errorf("a closed folder: %q %v", at, err)
	}
}
