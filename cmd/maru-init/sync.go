package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// whiteout begins the name of what stands for a deletion, as in the layers of OCI images.
const whiteout = ".wh."

// receive takes a tar stream with absolute names into the instance: files, folders, symbolic links, and
// whiteouts of what is to go. It runs as the instance's user and sees what the instance sees: it can
// write nothing that the program could not write itself, and no link leads out.
func receive(from io.Reader) error {
	archive := tar.NewReader(from)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the files: %w", err)
		}
		if err := put(header, archive); err != nil {
			return err
		}
	}
}

func put(header *tar.Header, content io.Reader) error {
	name := path.Clean("/" + header.Name)
	if name == "/" {
		return nil
	}
	folder, base := path.Split(name)
	if gone, ok := strings.CutPrefix(base, whiteout); ok {
		if gone == "" || gone == "." || gone == ".." {
			return fmt.Errorf("%s names nothing to delete", name)
		}
		return os.RemoveAll(folder + gone)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(header.Mode).Perm()
	switch header.Typeflag {
	case tar.TypeDir:
		if info, err := os.Lstat(name); err == nil && !info.IsDir() && info.Mode().Type() != fs.ModeSymlink {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
		return os.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink:
		if err := os.RemoveAll(name); err != nil {
			return err
		}
		return os.Symlink(header.Linkname, name)
	case tar.TypeReg:
		return putFile(name, mode, content)
	case tar.TypeLink:
		if err := os.RemoveAll(name); err != nil {
			return err
		}
		return os.Link(path.Clean("/"+header.Linkname), name)
	}
	return fmt.Errorf("%s is neither a file, a folder nor a symbolic link", name)
}

// putFile replaces the file at once, so that a program that reads it has the old or the new one. What
// can't be replaced, such as a file that is mounted, is written in place.
func putFile(name string, mode fs.FileMode, content io.Reader) error {
	if info, err := os.Lstat(name); err == nil && info.IsDir() {
		if err := os.RemoveAll(name); err != nil {
			return err
		}
	}
	temporary, err := os.CreateTemp(path.Dir(name), ".maru-sync-*")
	if err != nil {
		return putInPlace(name, mode, content)
	}
	defer os.Remove(temporary.Name())
	_, err = io.Copy(temporary, content)
	if err == nil {
		err = temporary.Chmod(mode)
	}
	if closed := temporary.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if os.Rename(temporary.Name(), name) == nil {
		return nil
	}
	again, err := os.Open(temporary.Name())
	if err != nil {
		return err
	}
	defer again.Close()
	return putInPlace(name, mode, again)
}

func putInPlace(name string, mode fs.FileMode, content io.Reader) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}
