package golang

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/marucloud/maru"
)

// kept is something that a builder keeps: a file of the compiler's cache, or a toolchain.
type kept struct {
	path string
	size int64
	used time.Time
}

// Prune drops what was used longest ago until at most keep bytes are left, and tells how many it
// freed. Modules go as a whole, and only when the rest is not enough: a part of them could not be told
// from all.
func (b *Builder) Prune(ctx context.Context, keep int64) (int64, error) {
	if err := b.setup(); err != nil {
		return 0, err
	}
	// No build may be in progress: it could use what is dropped.
	if err := b.slots.Acquire(ctx, b.parallel); err != nil {
		return 0, maru.Errorf(maru.Interrupted, "waiting for builds to end: %w", err)
	}
	defer b.slots.Release(b.parallel)
	files, err := b.keptFiles()
	if err != nil {
		return 0, fmt.Errorf("prune Go cache: %w", err)
	}
	modules, err := size(b.path("modules"))
	if err != nil {
		return 0, fmt.Errorf("prune Go cache: %w", err)
	}
	left := modules
	for _, k := range files {
		left += k.size
	}
	var freed int64
	slices.SortFunc(files, func(x, y kept) int { return cmp.Or(x.used.Compare(y.used), cmp.Compare(x.path, y.path)) })
	for i, k := range files {
		if left <= keep {
			return freed, nil
		}
		if i == 0 {
			b.cool()
		}
		if err := os.RemoveAll(k.path); err != nil {
			return freed, fmt.Errorf("prune Go cache: %w", err)
		}
		left -= k.size
		freed += k.size
	}
	if left <= keep || modules == 0 {
		return freed, nil
	}
	if err := b.dropModules(); err != nil {
		return freed, fmt.Errorf("prune Go modules: %w", err)
	}
	return freed + modules, nil
}

// cool forgets that the cache has the standard library.
func (b *Builder) cool() {
	marks, _ := filepath.Glob(filepath.Join(b.path("warm"), "*"))
	for _, mark := range marks {
		_ = os.Remove(mark) // else the next builds do the same work twice
	}
}

func (b *Builder) dropModules() error {
	entries, err := os.ReadDir(b.path("modules"))
	if err != nil {
		return err
	}
	// The marks that say what was fetched go first: a crash between must not leave one that lies.
	slices.SortFunc(entries, func(x, y fs.DirEntry) int {
		return cmp.Compare(y.Name(), x.Name())
	})
	for pass := range 2 {
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), fetchedPrefix) == (pass == 0) {
				if err := os.RemoveAll(filepath.Join(b.path("modules"), e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *Builder) keptFiles() ([]kept, error) {
	var all []kept
	err := filepath.WalkDir(b.path("cache"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreAbsent(err)
		}
		info, err := d.Info()
		if err == nil {
			all = append(all, kept{path, info.Size(), info.ModTime()})
		}
		return ignoreAbsent(err)
	})
	if err != nil {
		return nil, err
	}
	chains, err := os.ReadDir(b.path("toolchains"))
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		path := filepath.Join(b.path("toolchains"), c.Name())
		bytes, err := size(path)
		if err != nil {
			return nil, err
		}
		used := time.Time{}
		if info, err := c.Info(); err == nil {
			used = info.ModTime()
		}
		all = append(all, kept{path, bytes, used})
	}
	return all, nil
}

// size gives the bytes on disk of what is in a folder.
func size(folder string) (int64, error) {
	var total int64
	err := filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreAbsent(err)
		}
		info, err := d.Info()
		if err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				total += stat.Blocks * 512
			}
		}
		return ignoreAbsent(err)
	})
	return total, err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
