// Package memfile makes files that are in memory alone and that nobody can change any more: for what
// outlives a process, as a descriptor that somebody else holds, and must not be on a disk.
package memfile

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Prefix begins the names of the files, by which a supervisor that starts anew knows them.
const Prefix = "maru:"

// Seal makes a file that holds the data (memfd_create(2)).
func Seal(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(Prefix+name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal a file in memory: %w", err)
	}
	return f, nil
}

// Read gives all that a file holds, wherever whoever had it before left its offset.
func Read(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, 0, info.Size()))
}
