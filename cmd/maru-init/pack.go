package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// pack writes what is in a folder as a tar stream with names relative to it: files, folders and symbolic links. A file
// that goes meanwhile is left out; one that is written to has as many bytes as it had at first.
func pack(folder string, to io.Writer) error {
	archive := tar.NewWriter(to)
	err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(folder, name)
		if err != nil || relative == "." {
			return err
		}
		err = add(archive, name, relative, d)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", folder, err)
	}
	return archive.Close()
}

func add(archive *tar.Writer, name, relative string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	switch {
	case d.Type() == fs.ModeSymlink:
		if link, err = os.Readlink(name); err != nil {
			return err
		}
	case !d.IsDir() && !d.Type().IsRegular():
		return nil
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name, header.Uname, header.Gname = relative, "", ""
	if !d.Type().IsRegular() {
		return archive.WriteHeader(header)
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	n, err := io.CopyN(archive, file, header.Size)
	if errors.Is(err, io.EOF) {
		_, err = io.CopyN(archive, zeros{}, header.Size-n)
	}
	return err
}

// zeros stand for what a file lost since its size was told.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
