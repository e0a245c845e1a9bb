package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/marucloud/maru/store/storetest"
)

func openIn(t testing.TB, folder string) storetest.Store {
	t.Helper()
	store, err := Open(filepath.Join(folder, "state", "maru.db"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestStore(t *testing.T) {
	storetest.Run(t, openIn)
	storetest.RunDurable(t, openIn)
}

// TestStoreWithLittleMemory makes watchers read from the file.
func TestStoreWithLittleMemory(t *testing.T) {
	storetest.Run(t, func(t testing.TB, folder string) storetest.Store {
		t.Helper()
		store, err := Open(filepath.Join(folder, "maru.db"), Config{Readers: 1, CacheBytes: 64 << 10, RecentCount: 3, RecentBytes: 100})
		if err != nil {
			t.Fatal(err)
		}
		return store
	})
}

func BenchmarkStore(b *testing.B) { storetest.Bench(b, openIn) }
