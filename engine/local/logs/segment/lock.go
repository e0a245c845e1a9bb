package segment

import (
	"errors"
	"os"
	"syscall"
)

// locked asks with a shared lock, which keeps no writer out: a writer locks before others see the file.
func locked(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
