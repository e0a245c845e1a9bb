package layout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// ClosedAt gives the folder on the way to path, or path itself, that other users than its owner can't
// pass; "" when there is none. What does not exist is taken as open.
func ClosedAt(path string) (string, error) {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case info.Mode().Perm()&0o001 == 0:
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", nil
		}
	}
}
