//go:build !windows

package sqlite

import (
	"errors"
	"os"
	"syscall"

	"github.com/marucloud/maru"
)

// lock keeps other processes from the store. The kernel gives it back when the process ends.
type lock struct{ file *os.File }

func acquire(path string) (*lock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "open store: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return &lock{file}, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, maru.WithHint(maru.Errorf(maru.Conflict, "open store: another process has %s", path),
			"stop the other maru server first; only one can use a state folder")
	}
	return nil, maru.Errorf(maru.Internal, "lock store: %w", err)
}

func (l *lock) release() error { return l.file.Close() }
