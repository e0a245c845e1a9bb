//go:build vm

package vm

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestDiskLosesOnlyItsCache: what was flushed outlives a power cut, of what was not a part is lost.
func TestDiskLosesOnlyItsCache(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 100*block), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDisk(t, image)
	write := func(from, to int, what byte) {
		t.Helper()
		// Across the borders of blocks.
		if err := d.write(bytes.Repeat([]byte{what}, (to-from)*block-200), int64(from*block)+100); err != nil {
			t.Fatal(err)
		}
	}
	count := func(what byte) (blocks int) {
		t.Helper()
		all := make([]byte, 100*block)
		if err := d.read(all, 0); err != nil {
			t.Fatal(err)
		}
		for b := range 100 {
			if all[b*block+block/2] == what {
				blocks++
			}
		}
		return blocks
	}
	write(0, 40, 'a')
	if err := d.flush(); err != nil {
		t.Fatal(err)
	}
	write(40, 100, 'b')
	if a, b := count('a'), count('b'); a != 40 || b != 60 {
		t.Errorf("read back: %d and %d blocks", a, b)
	}
	lost, of, err := d.cut(rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if of != 60 || lost == 0 || lost == of {
		t.Errorf("lost %d of %d blocks", lost, of)
	}
	if a, b := count('a'), count('b'); a != 40 || b != 60-lost {
		t.Errorf("after the cut: %d blocks that were flushed and %d that were not, of which %d should be lost", a, b, lost)
	}
}
