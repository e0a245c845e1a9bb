// Package images makes images of real servers, and of toolchains, from Debian's packages, with entry points like
// those of the official images, and serves them as a registry. Root file systems are packed once and kept in a
// cache; the entry points on top are made at each use.
package images

import (
	"archive/tar"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

//go:embed entrypoints
var entrypoints embed.FS

// Recipe says how an image is made.
type Recipe struct {
	Repository string // as people write it in compose files
	Tag        string
	Also       []string // further names, REPOSITORY:TAG
	suite      string   // of Debian; "": bookworm
	packages   []string
	before     string // shell commands in the root file system before packages are set up; $1 is its path
	after      string // and after
	config     v1.Config
}

// Servers are the images of servers.
var Servers = []Recipe{
	{
		Repository: "postgres", Tag: "15", packages: []string{"postgresql-15", "gosu"},
		before: `mkdir -p "$1/etc/postgresql-common" && echo 'create_main_cluster = false' > "$1/etc/postgresql-common/createcluster.conf"`,
		config: v1.Config{
			Cmd: []string{"postgres"}, StopSignal: "SIGINT", ExposedPorts: ports("5432/tcp"),
			Env:     []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/lib/postgresql/15/bin", "PGDATA=/var/lib/postgresql/data"},
			Volumes: map[string]struct{}{"/var/lib/postgresql/data": {}},
		},
	},
	{
		Repository: "redis", Tag: "7", packages: []string{"redis-server"},
		config: v1.Config{
			Cmd: []string{"redis-server"}, WorkingDir: "/data", ExposedPorts: ports("6379/tcp"),
			Volumes: map[string]struct{}{"/data": {}},
		},
	},
	{
		Repository: "nginx", Tag: "1.22", packages: []string{"nginx-light"},
		// As in the official image, only what the configuration folder names is served, and logs go to the console.
		after: `rm "$1/etc/nginx/sites-enabled/default" && ln -sf /dev/stdout "$1/var/log/nginx/access.log" && ln -sf /dev/stderr "$1/var/log/nginx/error.log"`,
		config: v1.Config{
			Cmd: []string{"nginx", "-g", "daemon off;"}, StopSignal: "SIGQUIT", ExposedPorts: ports("80/tcp"),
		},
	},
	{
		Repository: "rabbitmq", Tag: "3", packages: []string{"rabbitmq-server", "gosu"},
		config: v1.Config{
			Cmd: []string{"rabbitmq-server"}, ExposedPorts: ports("5672/tcp"),
			Env:     []string{"PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/var/lib/rabbitmq"},
			Volumes: map[string]struct{}{"/var/lib/rabbitmq": {}},
		},
	},
}

func ports(all ...string) map[string]struct{} {
	set := make(map[string]struct{})
	for _, port := range all {
		set[port] = struct{}{}
	}
	return set
}

// Missing gives those of the recipes whose root file systems are not in the cache.
func Missing(cache string, recipes []Recipe) []Recipe {
	var missing []Recipe
	for _, recipe := range recipes {
		if _, err := recipe.rootImage(cache); err != nil {
			missing = append(missing, recipe)
		}
	}
	return missing
}

// Image gives the image, from the cache and the entry point.
func (r Recipe) Image(cache string) (v1.Image, error) {
	root, err := r.rootImage(cache)
	if err != nil {
		return nil, fmt.Errorf("%s is not in the cache at %s: %w", r.Repository, cache, err)
	}
	image, entrypoint, err := r.withEntrypoint(root)
	if err != nil {
		return nil, fmt.Errorf("add the entry point: %w", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", architecture
	file.Config = r.config
	file.Config.Entrypoint = entrypoint
	return mutate.ConfigFile(image, file)
}

func (r Recipe) rootImage(cache string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(filepath.Join(cache, layoutFolder))
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, one := range manifest.Manifests {
		if one.Annotations[keyAnnotation] == r.key() {
			return index.Image(one.Digest)
		}
	}
	return nil, fmt.Errorf("nothing has the key %s", r.key())
}

// withEntrypoint adds the entry point, where the image has one.
func (r Recipe) withEntrypoint(root v1.Image) (v1.Image, []string, error) {
	script, err := entrypoints.ReadFile("entrypoints/" + r.Repository + ".sh")
	if errors.Is(err, fs.ErrNotExist) {
		return root, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	layer, err := entrypointLayer(script)
	if err != nil {
		return nil, nil, err
	}
	image, err := mutate.AppendLayers(root, layer)
	return image, []string{"docker-entrypoint.sh"}, err
}

func entrypointLayer(script []byte) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := tar.Header{Name: "usr/local/bin/docker-entrypoint.sh", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(script))}
	if err := w.WriteHeader(&header); err != nil {
		return nil, err
	}
	if _, err := w.Write(script); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
}

// Reference is the image's full name at Docker's registry.
func (r Recipe) Reference() string {
	return "docker.io/library/" + strings.TrimPrefix(r.Repository, "library/") + ":" + r.Tag
}
