package segment

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"
)

// File is a segment as it is in its folder.
type File struct {
	Name
	Size     int64
	Modified time.Time
}

// List gives the segments in a folder in the order in which they were written. Of one that is there
// both compressed and not, it gives the latter.
func List(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := make([]File, 0, len(entries))
	for _, e := range entries {
		name, ok := ParseName(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, File{name, info.Size(), info.ModTime()})
	}
	slices.SortFunc(files, func(a, b File) int {
		if c := a.Compare(b.Name); c != 0 {
			return c
		}
		if a.Compressed {
			return 1
		}
		return -1
	})
	return slices.CompactFunc(files, func(a, b File) bool { return a.Compare(b.Name) == 0 }), nil
}

// Growing tells whether a writer has the segment locked.
func Growing(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return locked(f)
}
