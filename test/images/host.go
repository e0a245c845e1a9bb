package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// JobPrograms are those of this host that jobs of pipelines need in their image.
var JobPrograms = []string{"sh", "bash", "tar", "find", "sleep", "cat", "ls", "mkdir", "rm", "chmod", "chown", "grep", "tr", "head", "base64", "env", "id", "date", "seq", "sed", "wc", "sort", "gzip"}

var library = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// OfHost makes an image of programs of this host, with the libraries that they need, and further files,
// by their place in the image.
func OfHost(programs []string, also map[string]string, config v1.Config) (v1.Image, error) {
	files := map[string]string{}
	for to, from := range also {
		files[to] = from
	}
	for _, p := range programs {
		path, err := exec.LookPath(p)
		if err != nil {
			return nil, err
		}
		files["bin/"+p] = path
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			return nil, fmt.Errorf("ldd %s: %w", path, err)
		}
		for _, m := range library.FindAllStringSubmatch(string(out), -1) {
			files[strings.TrimPrefix(m[1], "/")] = m[1]
		}
	}
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, dir := range []string{"tmp/", "root/", "etc/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o777}); err != nil {
			return nil, err
		}
	}
	for to, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: to, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", architecture
	file.Config = config
	file.Config.Env = append(file.Config.Env, "PATH=/bin")
	return mutate.ConfigFile(image, file)
}
