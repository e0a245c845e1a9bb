package accesslog

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/marucloud/maru"
)

// FileConfig says how large a log grows.
type FileConfig struct {
	Bytes int64 // of one file; 0: 64 MiB
	Keep  int   // older files beside it, NAME.1 being the youngest; 0: 3
}

// File is a log file that is rotated by size. Writes are whole lines, so no line is ever split.
type File struct {
	path string
	cfg  FileConfig

	mu   sync.Mutex
	f    *os.File
	size int64
}

// OpenFile opens or goes on with the file at path; its folder is made if missing.
func OpenFile(path string, cfg FileConfig) (*File, error) {
	if cfg.Bytes == 0 {
		cfg.Bytes = 64 << 20
	}
	if cfg.Keep == 0 {
		cfg.Keep = 3
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, maru.Errorf(maru.Unavailable, "access log: %w", err)
	}
	l := &File{path: path, cfg: cfg}
	return l, l.open()
}

func (l *File) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return maru.Errorf(maru.Unavailable, "access log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return maru.Errorf(maru.Unavailable, "access log: %w", err)
	}
	l.f, l.size = f, info.Size()
	return nil
}

// Write appends p, to a new file if this one would grow too large.
func (l *File) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	if l.size > 0 && l.size+int64(len(p)) > l.cfg.Bytes {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(p)
	l.size += int64(n)
	return n, err
}

func (l *File) rotate() error {
	l.f.Close()
	l.f = nil
	for i := l.cfg.Keep - 1; i >= 1; i-- {
		if err := os.Rename(l.numbered(i), l.numbered(i+1)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if err := os.Rename(l.path, l.numbered(1)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return l.open()
}

func (l *File) numbered(i int) string { return fmt.Sprintf("%s.%d", l.path, i) }

// Close closes the file.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}
