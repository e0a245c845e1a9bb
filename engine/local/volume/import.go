package volume

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

// Import makes the volume with the content of a tar stream; Exists when it is there, Invalid when the
// stream is not an archive or reaches outside of the volume. It is there whole or not at all.
func (s *Store) Import(ctx context.Context, id maru.VolumeID, r io.Reader) error {
	folder := s.folder(id)
	defer s.lock(folder)()
	data := filepath.Join(folder, dataFolder)
	if _, err := os.Lstat(data); err == nil {
		return maru.WithHint(maru.Errorf(maru.Exists, "volume %s is there already", id), "remove it first")
	}
	if err := atomicfile.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("import volume %s: %w", id, err)
	}
	half := data + temporary + rand.Text()[:8]
	if err := os.Mkdir(half, 0o755); err != nil {
		return fmt.Errorf("import volume %s: %w", id, err)
	}
	err := unpack(ctx, half, r)
	if err == nil {
		err = publish(half, data)
	}
	if err != nil {
		return fmt.Errorf("import volume %s: %w", id, errors.Join(err, os.RemoveAll(half)))
	}
	return nil
}

// unpack fills an empty folder from a tar stream.
func unpack(ctx context.Context, folder string, r io.Reader) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	in := importer{root: root}
	archive := tar.NewReader(r)
	for {
		if ctx.Err() != nil {
			return maru.Errorf(maru.Interrupted, "%w", context.Cause(ctx))
		}
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return in.finish()
		}
		if err != nil {
			return maru.Errorf(maru.Invalid, "read archive: %w", err)
		}
		if err := in.add(header, archive); err != nil {
			return fmt.Errorf("%q: %w", header.Name, err)
		}
	}
}

type importer struct {
	root    *os.Root
	folders []*tar.Header // their modes and times are set last, so that files can be put in
}

func (in *importer) add(header *tar.Header, content io.Reader) error {
	name := path.Clean(strings.TrimPrefix(header.Name, "/"))
	if !filepath.IsLocal(name) {
		return maru.Errorf(maru.Invalid, "the name leads out of the volume")
	}
	header.Name = name
	if name != "." && header.Typeflag != tar.TypeDir {
		if err := in.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
	}
	switch header.Typeflag {
	case tar.TypeDir:
		if err := in.root.MkdirAll(name, 0o700); err != nil {
			return err
		}
		in.folders = append(in.folders, header)
		return nil
	case tar.TypeReg:
		return in.file(header, content)
	case tar.TypeLink:
		target := path.Clean(strings.TrimPrefix(header.Linkname, "/"))
		if !filepath.IsLocal(target) {
			return maru.Errorf(maru.Invalid, "the link leads out of the volume")
		}
		return in.root.Link(target, name)
	case tar.TypeSymlink:
		if err := in.root.Symlink(header.Linkname, name); err != nil {
			return err
		}
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		if err := in.node(header); err != nil {
			return err
		}
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return maru.Errorf(maru.Invalid, "entries of type %q are not known", header.Typeflag)
	}
	return in.dress(header)
}

func (in *importer) file(header *tar.Header, content io.Reader) error {
	f, err := in.root.OpenFile(header.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return in.dress(header)
}

func (in *importer) node(header *tar.Header) error {
	mode := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[header.Typeflag]
	parent, err := in.root.Open(path.Dir(header.Name))
	if err != nil {
		return err
	}
	defer parent.Close()
	device := unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor))
	return unix.Mknodat(int(parent.Fd()), path.Base(header.Name), mode|0o600, int(device))
}

// dress gives an entry its owner, mode, attributes and times, in the order in which they don't undo
// each other.
func (in *importer) dress(header *tar.Header) error {
	if err := in.root.Lchown(header.Name, header.Uid, header.Gid); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeSymlink {
		mode := header.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
		if err := in.root.Chmod(header.Name, mode); err != nil {
			return err
		}
	}
	parent, err := in.root.Open(path.Dir(header.Name))
	if err != nil {
		return err
	}
	defer parent.Close()
	place := fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), path.Base(header.Name))
	for key, value := range header.PAXRecords {
		name, found := strings.CutPrefix(key, attributePrefix)
		if !found {
			continue
		}
		if err := unix.Lsetxattr(place, name, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	at := unix.NsecToTimespec(header.ModTime.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, place, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// finish dresses the folders, the deepest first.
func (in *importer) finish() error {
	for i := len(in.folders) - 1; i >= 0; i-- {
		if err := in.dress(in.folders[i]); err != nil {
			return err
		}
	}
	return nil
}
