package images

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const (
	defaultSuite  = "bookworm"
	architecture  = runtime.GOARCH
	layoutFolder  = "layout"
	keyAnnotation = "test.maru.key"
)

// key changes with all that the root file system is made of.
func (r Recipe) key() string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{cmp.Or(r.suite, defaultSuite), architecture, r.before, r.after}, r.packages...), "\x00")))
	return r.Repository + "-" + hex.EncodeToString(sum[:8])
}

// Pack makes the recipe's root file system and puts it into the cache. It needs root, mmdebstrap and
// a way to Debian's mirrors.
func (r Recipe) Pack(ctx context.Context, cache string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	archive := filepath.Join(cache, r.key()+".tar")
	defer os.Remove(archive)
	if err := r.bootstrap(ctx, archive); err != nil {
		return err
	}
	layer, err := tarball.LayerFromFile(archive, tarball.WithCompressionLevel(1))
	if err != nil {
		return fmt.Errorf("read the root file system: %w", err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return fmt.Errorf("make an image of the root file system: %w", err)
	}
	folder := filepath.Join(cache, layoutFolder)
	path, err := layout.FromPath(folder)
	if err != nil {
		if path, err = layout.Write(folder, empty.Index); err != nil {
			return fmt.Errorf("begin the cache: %w", err)
		}
	}
	if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{keyAnnotation: r.key()}),
		layout.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture})); err != nil {
		return fmt.Errorf("put %s into the cache: %w", r.Repository, err)
	}
	return nil
}

func (r Recipe) bootstrap(ctx context.Context, archive string) error {
	args := []string{"--variant=minbase", "--dpkgopt=force-unsafe-io", "--include=" + strings.Join(r.packages, ",")}
	for _, path := range []string{"doc/*", "man/*", "locale/*", "info/*"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+path)
	}
	if r.before != "" {
		args = append(args, "--essential-hook="+r.before)
	}
	if r.after != "" {
		args = append(args, "--customize-hook="+r.after)
	}
	args = append(args, cmp.Or(r.suite, defaultSuite), archive)
	if mirror := os.Getenv("DEBIAN_MIRROR"); mirror != "" {
		args = append(args, mirror)
	}
	if out, err := exec.CommandContext(ctx, "mmdebstrap", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap of %s: %w\n%s", r.Repository, err, out)
	}
	return nil
}
