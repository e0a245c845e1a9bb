package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/containerd/containerd/v2/core/snapshots"
	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/volume"
)

// prepareMounts makes everything that the attempt mounts, in its folder and in the volumes.
func (s *start) prepareMounts(ctx context.Context, image imageInfo) ([]specs.Mount, error) {
	var mounts []specs.Mount
	covered := make(map[string]bool)
	for i, m := range s.workload.Container.Mounts {
		covered[cleanTarget(m.Target)] = true
		mounted, err := s.prepareMount(ctx, image, i, m)
		if err != nil {
			return nil, fmt.Errorf("mount at %s: %w", m.Target, err)
		}
		mounts = append(mounts, mounted)
	}
	for _, target := range image.config.Volumes {
		if covered[target] {
			continue
		}
		path, err := s.e.volumes.EnsureAnonymous(ctx, s.rec.ID, s.seed(image), target)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, s.volumeMount(path, target, false, ""))
	}
	files, err := s.prepareFiles()
	return append(mounts, files...), err
}

func (s *start) prepareMount(ctx context.Context, image imageInfo, index int, m maru.Mount) (specs.Mount, error) {
	target := cleanTarget(m.Target)
	switch m.Kind {
	case maru.VolumeMount:
		path, err := s.prepareVolume(ctx, image, m, target)
		return s.volumeMount(path, target, m.ReadOnly, m.Propagation), err
	case maru.BindMount:
		if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
			if !m.Create {
				return specs.Mount{}, maru.WithHint(maru.Errorf(maru.Invalid, "there is no %s on this machine", m.Source),
					"make it, or set create_host_path: true")
			}
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return specs.Mount{}, err
			}
		} else if err != nil {
			return specs.Mount{}, err
		}
		return bindMount(m.Source, target, m.ReadOnly, m.Propagation), nil
	case maru.TmpfsMount:
		return tmpfsMount(m), nil
	case maru.ImageMount:
		return s.prepareImage(ctx, index, m, target)
	}
	return specs.Mount{}, maru.Errorf(maru.Unsupported, "mounts of kind %q are not known", m.Kind)
}

// volumeMount shows the instance a volume with its owners as they are on the disk, whoever they would be
// in its user namespace.
func (s *start) volumeMount(source, target string, readOnly bool, propagation string) specs.Mount {
	mounted := bindMount(source, target, readOnly, propagation)
	if s.rec.Users != 0 {
		mounted.Options = append(mounted.Options, "idmap")
	}
	return mounted
}

func (s *start) prepareVolume(ctx context.Context, image imageInfo, m maru.Mount, target string) (string, error) {
	seed := s.seed(image)
	if m.NoCopy {
		seed = nil
	}
	var path string
	var err error
	if m.Source == "" {
		path, err = s.e.volumes.EnsureAnonymous(ctx, s.rec.ID, seed, target)
	} else {
		path, err = s.e.volumes.Ensure(ctx, s.workload.Volumes[m.Source], seed, target)
	}
	if err != nil || m.Subpath == "" {
		return path, err
	}
	if path, err = securejoin.SecureJoin(path, m.Subpath); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", maru.Errorf(maru.Invalid, "the volume has no %s", m.Subpath)
	}
	return path, nil
}

// seed lends the image's file system, to start a volume from.
func (s *start) seed(image imageInfo) volume.Image {
	return func(ctx context.Context, use func(root string) error) error {
		return s.e.images.lend(ctx, image.parent, use)
	}
}

// prepareImage mounts another image's content, which is read only.
func (s *start) prepareImage(ctx context.Context, index int, m maru.Mount, target string) (specs.Mount, error) {
	record, err := s.e.images.find(ctx, m.Source)
	if err != nil {
		return specs.Mount{}, err
	}
	info, err := s.e.images.describe(ctx, record)
	if err != nil {
		return specs.Mount{}, err
	}
	viewKey := imageSnapshot(s.container, index)
	view, err := s.e.daemon.client.SnapshotService(snapshotter).View(ctx, viewKey, info.parent,
		snapshots.WithLabels(map[string]string{rootLabel: rootLabelValue(), instanceLabel: s.rec.ID}))
	if err != nil {
		return specs.Mount{}, fmt.Errorf("image %s: %w", m.Source, present(err))
	}
	if len(view) != 1 {
		return specs.Mount{}, maru.Errorf(maru.Internal, "image %s takes %d mounts", m.Source, len(view))
	}
	mounted := specs.Mount{Destination: target, Type: view[0].Type, Source: view[0].Source, Options: view[0].Options}
	if m.Subpath == "" {
		return mounted, nil
	}
	return specs.Mount{}, maru.Errorf(maru.Unsupported, "subpath of an image is not supported")
}

// prepareFiles puts configs into the attempt's folder; secrets are in memory already. Those of an
// instance with users of its own are copies, which belong to them.
func (s *start) prepareFiles() ([]specs.Mount, error) {
	var mounts []specs.Mount
	for i, f := range s.workload.Files {
		path, copied := filepath.Join(s.folder, "file-"+strconv.Itoa(i)), true
		switch {
		case f.Secret && s.rec.Users == 0:
			path, copied = filepath.Join(s.e.wanted.secretFolder(s.workload.ID), strconv.Itoa(i)), false
		case f.Secret:
			path = filepath.Join(attemptSecrets(s.e.cfg.Layout, s.container), strconv.Itoa(i))
		}
		if copied {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, f.Data, 0o600)); err != nil {
				return nil, err
			}
		}
		mode := fs.FileMode(f.Mode) & fs.ModePerm
		if err := errors.Join(os.Chown(path, s.rec.Users.ID(f.UID), s.rec.Users.ID(f.GID)), os.Chmod(path, mode)); err != nil {
			return nil, fmt.Errorf("file %s: %w", f.Path, err)
		}
		mounts = append(mounts, bindMount(path, cleanTarget(f.Path), true, ""))
	}
	return mounts, nil
}

// checkMounts says of a workload's mounts what is wrong, as Invalid or Unsupported.
func checkMounts(w maru.Workload) error {
	kinds := []maru.MountKind{maru.VolumeMount, maru.BindMount, maru.TmpfsMount, maru.ImageMount}
	for _, m := range w.Container.Mounts {
		switch {
		case !slices.Contains(kinds, m.Kind):
			return maru.Errorf(maru.Unsupported, "mounts of kind %q are not known", m.Kind)
		case !filepath.IsAbs(m.Target) || cleanTarget(m.Target) == "/":
			return maru.Errorf(maru.Invalid, "%q is no place for a mount", m.Target)
		case m.Kind == maru.VolumeMount && m.Source != "":
			id, ok := w.Volumes[m.Source]
			if !ok {
				return maru.Errorf(maru.Invalid, "volume %q has no ID", m.Source)
			}
			if err := checkVolume(id); err != nil {
				return err
			}
		case m.Kind == maru.BindMount && !filepath.IsAbs(m.Source):
			return maru.Errorf(maru.Invalid, "bind mount of %q, which is not absolute", m.Source)
		case m.Kind == maru.ImageMount && m.Subpath != "":
			return maru.Errorf(maru.Unsupported, "subpath of an image is not supported")
		}
		if m.Subpath != "" && !filepath.IsLocal(m.Subpath) {
			return maru.Errorf(maru.Invalid, "subpath %q leads out of the volume", m.Subpath)
		}
	}
	for _, f := range w.Files {
		if !filepath.IsAbs(f.Path) {
			return maru.Errorf(maru.Invalid, "%q is no place for a file", f.Path)
		}
	}
	return nil
}

// checkVolume keeps names that are part of paths from leading elsewhere.
func checkVolume(id maru.VolumeID) error {
	names := []string{id.Project, id.Environment, id.Volume}
	if id.App != "" {
		names = append(names, id.App)
	}
	for _, name := range names {
		if err := maru.CheckName("volume", name); err != nil {
			return err
		}
	}
	return nil
}
