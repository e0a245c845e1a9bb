package local

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

// rootLabel keeps what containerd's garbage collector would find unused. The engine removes it itself.
const rootLabel = "containerd.io/gc.root"

// imageInfo is what the engine needs to know of an image. It never changes.
type imageInfo struct {
	config   maru.ImageConfig
	env      []string
	platform string
	created  time.Time
	bytes    int64
	parent   string // snapshot that its root file systems start from
	passwd   []byte
	group    []byte
}

// syncedUnpack has a layer's files on the disk before containerd notes that the layer is there: after a
// power cut it would be taken for whole.
var syncedUnpack = containerd.WithUnpackApplyOpts(diff.WithSyncFs(true))

// describe reads an image's description and sees to it that it is unpacked and on the disk: releases
// rely on it.
func (s *imageStore) describe(ctx context.Context, record images.Image) (imageInfo, error) {
	s.mu.Lock()
	known, ok := s.known[record.Target.Digest]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	release, err := s.working(ctx, record.Target.Digest)
	if err != nil {
		return imageInfo{}, err
	}
	defer release()
	info, err := s.read(ctx, record)
	if err != nil {
		return imageInfo{}, fmt.Errorf("image %s: %w", record.Name, err)
	}
	// Neither containerd's nor a build's files need be there yet, only what containerd notes of them.
	if err := atomicfile.SyncTree(s.folder); err != nil {
		return imageInfo{}, fmt.Errorf("image %s: %w", record.Name, err)
	}
	s.mu.Lock()
	s.known[record.Target.Digest] = info
	s.mu.Unlock()
	return info, nil
}

func (s *imageStore) read(ctx context.Context, record images.Image) (imageInfo, error) {
	manifest, err := images.Manifest(ctx, s.client.ContentStore(), record.Target, anyPlatform)
	if err != nil {
		return imageInfo{}, present(err)
	}
	var described ocispec.Image
	blob, err := content.ReadBlob(ctx, s.client.ContentStore(), manifest.Config)
	if err != nil {
		return imageInfo{}, present(err)
	}
	if err := json.Unmarshal(blob, &described); err != nil {
		return imageInfo{}, maru.Errorf(maru.Invalid, "its configuration: %w", err)
	}
	info := imageInfo{
		config:   imageConfig(described.Config),
		env:      described.Config.Env,
		platform: platforms.Format(platforms.Normalize(described.Platform)),
		bytes:    manifest.Config.Size,
		parent:   identity.ChainID(described.RootFS.DiffIDs).String(),
	}
	if described.Created != nil {
		info.created = described.Created.UTC()
	}
	for _, layer := range manifest.Layers {
		info.bytes += layer.Size
	}
	image := containerd.NewImageWithPlatform(s.client, record, anyPlatform)
	unpacked, err := image.IsUnpacked(ctx, snapshotter)
	if err == nil && !unpacked {
		err = image.Unpack(ctx, snapshotter, syncedUnpack)
	}
	if err != nil {
		return imageInfo{}, fmt.Errorf("unpack: %w", present(err))
	}
	err = s.lend(ctx, info.parent, func(root string) error {
		if info.passwd, err = readWithin(root, "/etc/passwd"); err != nil {
			return err
		}
		info.group, err = readWithin(root, "/etc/group")
		return err
	})
	return info, err
}

// present says of content that is missing that the image is not whole.
func present(err error) error {
	if errdefs.IsNotFound(err) {
		return maru.WithHint(maru.Errorf(maru.NotFound, "%w", err), "pull or load the image again")
	}
	return err
}

// lendPrefix begins the names of snapshots that are lent.
const lendPrefix = "lend-"

// lend shows a snapshot's file system at a folder while use runs.
func (s *imageStore) lend(ctx context.Context, parent string, use func(root string) error) error {
	snapshot := s.client.SnapshotService(snapshotter)
	key := lendPrefix + rand.Text()
	mounts, err := snapshot.View(ctx, key, parent, snapshots.WithLabels(map[string]string{rootLabel: time.Now().UTC().Format(time.RFC3339)}))
	if err != nil {
		return present(err)
	}
	err = mount.WithReadonlyTempMount(ctx, mounts, use)
	return errors.Join(err, snapshot.Remove(context.WithoutCancel(ctx), key))
}

// readWithin reads a file of a root file system, following links inside it. A missing one is empty.
func readWithin(root, path string) ([]byte, error) {
	file, err := securejoin.SecureJoin(root, path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

func imageConfig(c ocispec.ImageConfig) maru.ImageConfig {
	config := maru.ImageConfig{
		Entrypoint: c.Entrypoint, Command: c.Cmd, User: c.User, WorkDir: c.WorkingDir,
		StopSignal: c.StopSignal, Labels: c.Labels,
	}
	for exposed := range c.ExposedPorts {
		number, protocol, _ := strings.Cut(exposed, "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil || port == 0 {
			continue
		}
		if protocol == "" {
			protocol = string(maru.TCP)
		}
		config.Ports = append(config.Ports, maru.Port{Port: uint16(port), Protocol: maru.Protocol(protocol)})
	}
	slices.SortFunc(config.Ports, func(a, b maru.Port) int {
		if a.Port != b.Port {
			return int(a.Port) - int(b.Port)
		}
		return strings.Compare(string(a.Protocol), string(b.Protocol))
	})
	for volume := range c.Volumes {
		config.Volumes = append(config.Volumes, cleanTarget(volume))
	}
	slices.Sort(config.Volumes)
	return config
}

// anyPlatform takes this machine's platform, and one of another only if the image is of that alone:
// then it was pulled on purpose.
var anyPlatform = preferring{platforms.Default()}

type preferring struct{ platforms.MatchComparer }

func (preferring) Match(ocispec.Platform) bool { return true }

// digestOf gives the digest that a reference ends with, or "".
func digestOf(reference string) digest.Digest {
	_, after, found := strings.Cut(reference, "@")
	if !found {
		return ""
	}
	d, err := digest.Parse(after)
	if err != nil {
		return ""
	}
	return d
}
