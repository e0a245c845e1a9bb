//go:build vm

package vm

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const (
	root  = "../.."
	older = "1.0.0"
	newer = "1.1.0"
	owner = 65532 // who runs the programs in images
)

var services = []string{"web", "catalog", "orders", "worker", "payments", "store"}

// prebuilt has the services' images, twice over, in place of their builds. Their instances are told
// which of the two they are.
const prebuilt = `services:
  web: {build: !reset null, image: "shop/web:${TAG:-1}", environment: {RELEASE: "${TAG:-1}"}}
  catalog: {build: !reset null, image: "shop/catalog:${TAG:-1}", environment: {RELEASE: "${TAG:-1}"}}
  orders: {build: !reset null, image: "shop/orders:${TAG:-1}", environment: {RELEASE: "${TAG:-1}"}}
  worker: {build: !reset null, image: "shop/worker:${TAG:-1}", environment: {RELEASE: "${TAG:-1}"}}
  payments: {build: !reset null, image: "shop/payments:${TAG:-1}", environment: {RELEASE: "${TAG:-1}"}}
  store: {build: !reset null, image: "shop/store:${TAG:-1}", environment: {RELEASE: "${TAG:-1}"}}
`

// prepare makes what the machine boots from, base, and the disk with what is brought into it.
func prepare(t *testing.T) (base, payload string) {
	t.Helper()
	base, err := filepath.Abs(filepath.Join(root, ".cache/vm"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		t.Fatal(err)
	}
	goBuild(t, ".", filepath.Join(base, "agent"), "./agent")
	run(t, "./image.sh", base, filepath.Join(base, "agent"))

	tree := t.TempDir()
	for _, version := range []string{older, newer} {
		pack(t, tree, version)
	}
	shop := filepath.Join(root, "examples/shop")
	goBuild(t, shop, filepath.Join(tree, "smoke"), "./smoke")
	images := map[name.Tag]v1.Image{}
	for _, service := range services {
		program := filepath.Join(t.TempDir(), service)
		goBuild(t, shop, program, "./"+service)
		for _, tag := range []string{"1", "2"} {
			images[tagOf(t, "shop/"+service+":"+tag)] = imageOf(t, program, tag)
		}
	}
	service := filepath.Join(tree, "service")
	goBuild(t, root, service, "-ldflags", "-s -w", "./test/end-to-end/service")
	goBuild(t, root, filepath.Join(tree, "leftovers"), "./test/vm/leftovers")
	goBuild(t, root, filepath.Join(tree, "idle"), "./test/vm/idle")
	if err := tarball.WriteToFile(filepath.Join(tree, "service.tar"), tagOf(t, "example.test/service:1"), imageOf(t, service, "1")); err != nil {
		t.Fatal(err)
	}
	if err := tarball.MultiWriteToFile(filepath.Join(tree, "images.tar"), images); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"compose.yaml", "payments_key.txt"} {
		run(t, "cp", filepath.Join(shop, file), tree)
	}
	if err := os.WriteFile(filepath.Join(tree, "prebuilt.yaml"), []byte(prebuilt), 0o644); err != nil {
		t.Fatal(err)
	}
	payload = filepath.Join(t.TempDir(), "payload.img")
	run(t, "truncate", "-s", "1G", payload)
	run(t, "mke2fs", "-q", "-t", "ext4", "-F", "-L", "payload", "-d", tree, payload)
	return base, payload
}

// pack makes the packages of a version.
func pack(t *testing.T, folder, version string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "maru")
	goBuild(t, root, program, "-ldflags", "-s -w -X main.version="+version, "./cmd/maru")
	cmd := exec.Command("scripts/package.sh")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "VERSION="+version, "BINARY="+program, "DIST="+folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("package %s: %v\n%s", version, err, out)
	}
}

func goBuild(t *testing.T, folder, output string, args ...string) {
	t.Helper()
	output, err := filepath.Abs(output)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", append([]string{"build", "-o", output}, args...)...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

func tagOf(t *testing.T, reference string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

// imageOf holds a program alone, and the folder that the store's volume begins as.
func imageOf(t *testing.T, program, tag string) v1.Image {
	t.Helper()
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, header := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
		{Typeflag: tar.TypeDir, Name: "data/", Mode: 0o755, Uid: owner, Gid: owner},
		{Typeflag: tar.TypeReg, Name: "app", Mode: 0o755, Size: int64(len(content))},
	} {
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", RootFS: rootFS(t, image),
		Config: v1.Config{Entrypoint: []string{"/app"}, User: "65532:65532", Labels: map[string]string{"tag": tag}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func rootFS(t *testing.T, image v1.Image) v1.RootFS {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config.RootFS
}
