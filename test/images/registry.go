package images

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Serve serves the recipes' images, which are in the cache, under the paths that Docker's registry has them at,
// until the server is closed. Blobs come from the cache's disk.
func Serve(cache string, recipes ...Recipe) (*httptest.Server, error) {
	blobs := registry.NewDiskBlobHandler(filepath.Join(cache, layoutFolder, "blobs"))
	server := httptest.NewServer(registry.New(registry.WithBlobHandler(blobs), registry.Logger(log.New(io.Discard, "", 0))))
	for _, recipe := range recipes {
		if err := push(server, cache, recipe); err != nil {
			server.Close()
			return nil, err
		}
	}
	return server, nil
}

func push(server *httptest.Server, cache string, recipe Recipe) error {
	image, err := recipe.Image(cache)
	if err != nil {
		return err
	}
	host := strings.TrimPrefix(server.URL, "http://")
	for _, reference := range append([]string{recipe.Repository + ":" + recipe.Tag}, recipe.Also...) {
		tag, err := name.NewTag(host+"/library/"+reference, name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(tag, image, remote.WithTransport(http.DefaultTransport)); err != nil {
			return fmt.Errorf("put %s into the registry: %w", reference, err)
		}
	}
	return nil
}
