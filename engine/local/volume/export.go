package volume

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// attributePrefix is how tar archives name extended attributes, as GNU tar and bsdtar do.
const attributePrefix = "SCHILY.xattr."

// Export writes the volume's content as a tar stream with owners, modes, times, links and extended
// attributes. Sockets are left out. The caller sees to it that nobody writes meanwhile.
func (s *Store) Export(ctx context.Context, id maru.VolumeID, w io.Writer) error {
	data, err := s.Path(id)
	if err != nil {
		return err
	}
	out := exporter{root: data, tar: tar.NewWriter(w), links: make(map[inode]string)}
	err = filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return maru.Errorf(maru.Interrupted, "%w", context.Cause(ctx))
		}
		return out.add(path)
	})
	if err == nil {
		err = out.tar.Close()
	}
	if err != nil {
		return fmt.Errorf("export volume %s: %w", id, err)
	}
	return nil
}

type inode struct{ device, number uint64 }

type exporter struct {
	root  string
	tar   *tar.Writer
	links map[inode]string // names of files with several
}

func (e *exporter) add(path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSocket != 0 {
		return err
	}
	header, err := e.header(path, info)
	if err != nil {
		return err
	}
	if err := e.tar.WriteHeader(header); err != nil || header.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(e.tar, f, header.Size)
	return err
}

func (e *exporter) header(path string, info fs.FileInfo) (*tar.Header, error) {
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	if header.Name, err = filepath.Rel(e.root, path); err != nil {
		return nil, err
	}
	if info.IsDir() {
		header.Name += "/"
	}
	header.Format = tar.FormatPAX
	header.Uname, header.Gname = "", "" // names belong to the machine, numbers to the volume
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return nil, err
	}
	if header.Typeflag == tar.TypeReg && stat.Nlink > 1 {
		key := inode{stat.Dev, stat.Ino}
		if first, again := e.links[key]; again {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
			return header, nil
		}
		e.links[key] = header.Name
	}
	return header, addAttributes(path, header)
}

func addAttributes(path string, header *tar.Header) error {
	names, err := listAttributes(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := getAttribute(path, name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return fmt.Errorf("attribute %s of %s: %w", name, path, err)
		}
		if header.PAXRecords == nil {
			header.PAXRecords = make(map[string]string)
		}
		header.PAXRecords[attributePrefix+name] = string(value)
	}
	return nil
}

func listAttributes(path string) ([]string, error) {
	list, err := grow(func(buffer []byte) (int, error) { return unix.Llistxattr(path, buffer) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("attributes of %s: %w", path, err)
	}
	var names []string
	for start, i := 0, 0; i < len(list); i++ {
		if list[i] == 0 {
			names = append(names, string(list[start:i]))
			start = i + 1
		}
	}
	return names, nil
}

func getAttribute(path, name string) ([]byte, error) {
	return grow(func(buffer []byte) (int, error) { return unix.Lgetxattr(path, name, buffer) })
}

// grow calls read with larger and larger buffers until the answer fits.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buffer := make([]byte, size)
		n, err := read(buffer)
		if err == nil {
			return buffer[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size > 1<<20 {
			return nil, err
		}
	}
}
