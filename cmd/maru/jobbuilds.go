package main

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/pipeline/runner"
	"github.com/marucloud/maru/server"
)

// jobBuilds builds images for jobs, from contexts that are in a folder meanwhile.
type jobBuilds struct {
	client *build.Client
	folder string
}

// Build implements [runner.Builder].
func (b jobBuilds) Build(ctx context.Context, req runner.BuildRequest, archive io.Reader, progress func(string)) (string, error) {
	if err := os.MkdirAll(b.folder, 0o700); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(b.folder, "context-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := unpack(dir, archive); err != nil {
		return "", err
	}
	project, app, _ := strings.Cut(req.Repository, "/")
	request := build.Request{
		Name:    server.JobImage(project, app) + ":" + strings.ToLower(rand.Text()[:16]), // each its own: a name that moved on would leave its image to be cleaned up
		Secrets: req.Secrets,
		Build:   maru.Build{Context: dir, Dockerfile: req.Dockerfile, Target: req.Target, Args: req.Args, Labels: req.Labels, NoCache: req.NoCache, Pull: req.Pull},
	}
	for id := range req.Secrets {
		request.Build.Secrets = append(request.Build.Secrets, maru.BuildSecret{ID: id})
	}
	image, err := b.client.Build(ctx, request, func(e build.Event) {
		if e.Log == "" && e.Status == build.StepStarted {
			progress(e.Name)
		}
		for line := range strings.Lines(e.Log) {
			progress(strings.TrimRight(line, "\r\n"))
		}
	})
	return image.Reference, err
}

// unpack writes a tar stream of files, folders and symbolic links below a folder, and nothing beside it.
func unpack(dir string, archive io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in := tar.NewReader(archive)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if name == "." {
			continue
		}
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := unpackOne(root, name, h, in); err != nil {
			return maru.Errorf(maru.Invalid, "unpack %s: %w", name, err)
		}
	}
}

func unpackOne(root *os.Root, name string, h *tar.Header, content io.Reader) error {
	mode := h.FileInfo().Mode().Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(path.Clean(h.Linkname), name)
	case tar.TypeReg:
		file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, content)
		return errors.Join(err, file.Close())
	}
	return nil
}
