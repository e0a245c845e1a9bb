//go:build !windows

package truststore

import (
	"os"
	"syscall"
)

// owned tells whether what is made in the folder will belong to its owner.
func owned(folder string) bool {
	info, err := os.Stat(folder)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
