package host

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is the reference of the test service's image.
const Image = "example.test/service:1"

// LoadImage builds the test service and loads its image.
func (m *Machine) LoadImage(t testing.TB) {
	t.Helper()
	if err := m.Load(t.Context(), Image, "test/end-to-end/service"); err != nil {
		t.Fatal(err)
	}
}

// Load builds a Go program of the checkout and loads an image that holds nothing else.
func (m *Machine) Load(ctx context.Context, reference, program string) error {
	archive, err := m.Archive(ctx, reference, program)
	if err != nil {
		return err
	}
	_, err = m.Run(ctx, "image", "load", archive)
	return err
}

// Archive builds a Go program of the checkout and gives the path of a docker archive with an image that holds nothing else.
func (m *Machine) Archive(ctx context.Context, reference, program string) (path string, err error) {
	binary, err := m.Build(ctx, program)
	if err != nil {
		return "", err
	}
	return binary + ".tar", writeImage(binary+".tar", reference, binary)
}

// built keeps the programs that were built, by their folder in the checkout.
var built sync.Map // string -> func() ([]byte, error)

// Build builds a Go program of the checkout, which may be a module of its own, and gives its path.
func (m *Machine) Build(ctx context.Context, program string) (string, error) {
	build, _ := built.LoadOrStore(program, sync.OnceValues(func() ([]byte, error) { return build(context.WithoutCancel(ctx), program) }))
	data, err := build.(func() ([]byte, error))()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(m.folder, fmt.Sprint("program-", m.made.Add(1)))
	return binary, os.WriteFile(binary, data, 0o755)
}

// LookAt looks at all files below a folder of the checkout that another program will read for the test, so that a
// cached result of it does not outlive them.
func LookAt(dir string) error {
	return filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err })
}

func build(ctx context.Context, program string) ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "maru-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	binary := filepath.Join(folder, "program")
	if err := LookAt(filepath.Join(root, program)); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, ".")
	cmd.Dir = filepath.Join(root, program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", program, err, out)
	}
	return os.ReadFile(binary)
}

// Layer gives a layer with a program at /service.
func Layer(program []byte) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "data/from-image", Typeflag: tar.TypeReg, Mode: 0o644, Uid: 7, Gid: 7},
		{Name: "service", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if h.Size > 0 {
			if _, err := w.Write(program); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
}

func writeImage(path, reference, binary string) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	layer, err := Layer(data)
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Config.Entrypoint = []string{"/service"}
	file.Config.ExposedPorts = map[string]struct{}{"8080/tcp": {}}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return err
	}
	return tarball.WriteToFile(path, tag, image)
}
