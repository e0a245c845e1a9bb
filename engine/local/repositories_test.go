package local_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/enginetest"
	"github.com/marucloud/maru/engine/local"
)

func TestRepositories(t *testing.T) {
	cfg := newConfig(t)
	e, stop := startEngine(t, cfg)
	enginetest.RunRepositories(t,
		func(*testing.T) enginetest.Repositories { return e },
		func(t *testing.T) enginetest.Repositories {
			stop()
			e, _ = startEngine(t, cfg)
			return e
		})
}

// push makes content part of a repository.
func push(t *testing.T, e *local.Engine, repository, digest string, content io.Reader) {
	t.Helper()
	upload := repository + "@" + digest
	if _, err := e.AppendUpload(t.Context(), upload, 0, content); err != nil {
		t.Fatal(err)
	}
	if err := e.CommitUpload(t.Context(), upload, repository, digest); err != nil {
		t.Fatal(err)
	}
}

// pushToRepository pushes an image as the registry does, and gives its digest.
func pushToRepository(t *testing.T, e *local.Engine, repository, tag string, image v1.Image) string {
	t.Helper()
	var parts []string
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		content, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		push(t, e, repository, digest.String(), content)
		parts = append(parts, digest.String())
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	name, err := image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	push(t, e, repository, name.String(), bytes.NewReader(config))
	manifest, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	mediaType, err := image.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	push(t, e, repository, digest.String(), bytes.NewReader(manifest))
	err = e.PutContent(t.Context(), maru.Content{
		Repository: repository, Digest: digest.String(), MediaType: string(mediaType), References: append(parts, name.String()), Tags: []string{tag},
	})
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// TestPushedImagesRun shows that what is pushed runs from where it is, and that neither of who has it takes it
// from the other.
func TestPushedImagesRun(t *testing.T) {
	cfg := newConfig(t)
	e, stop := startEngine(t, cfg)
	digest := pushToRepository(t, e, "default/shop/web", "1", labeled(t, "pushed"))
	if all, err := e.Images(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("images that nobody runs: %+v, %v", all, err)
	}
	if removed, err := e.Prune(t.Context(), nil); err != nil || len(removed) != 0 {
		t.Errorf("%+v, %v", removed, err)
	}
	image, err := e.Image(t.Context(), maru.RegistryHost+"/default/shop/web:1")
	if err != nil || image.Reference != maru.RegistryHost+"/default/shop/web@"+digest || image.Config.Labels["which"] != "pushed" {
		t.Fatalf("%+v, %v", image, err)
	}
	if want := []string{maru.RegistryHost + "/default/shop/web:1"}; !slices.Equal(image.Names, want) {
		t.Errorf("%q", image.Names)
	}
	for _, other := range []string{"docker.io/default/shop/web:1", maru.RegistryHost + "/default/shop:1", maru.RegistryHost + "/default/shop/web:2"} {
		if found, err := e.Image(t.Context(), other); maru.KindOf(err) != maru.NotFound {
			t.Errorf("%+v, %v", found, err)
		}
	}
	startOne(t, e, newWorkload("web", "1", image.Reference))
	// Out of the registry, it still runs, and starts again.
	if err := e.RemoveContent(t.Context(), "default/shop/web", digest); err != nil {
		t.Fatal(err)
	}
	if all, err := e.Contents(t.Context(), "default/shop/web"); err != nil || len(all) == 0 || slices.ContainsFunc(all, func(c maru.Content) bool { return c.MediaType != "" }) {
		t.Errorf("%+v, %v", all, err)
	}
	for _, c := range contents(t, e) {
		if err := e.RemoveContent(t.Context(), c.Repository, c.Digest); err != nil {
			t.Fatal(err)
		}
	}
	startOne(t, e, newWorkload("other", "1", image.Reference))
	removeAll(t, e)
	// Pushed again and pruned, it is still in the registry.
	pushToRepository(t, e, "default/shop/web", "2", labeled(t, "pushed"))
	if removed, err := e.Prune(t.Context(), nil); err != nil || len(removed) != 1 || removed[0].Reference != image.Reference {
		t.Errorf("%+v, %v", removed, err)
	}
	stop()
	e, _ = startEngine(t, cfg)
	if got := contents(t, e); len(got) != 4 {
		t.Errorf("%+v", got)
	}
	for _, reference := range []string{":2", "@" + digest} {
		if again, err := e.Image(t.Context(), maru.RegistryHost+"/default/shop/web"+reference); err != nil || again.Reference != image.Reference {
			t.Errorf("%+v, %v", again, err)
		}
	}
	startOne(t, e, newWorkload("web", "2", image.Reference))
}

func contents(t *testing.T, e *local.Engine) []maru.Content {
	t.Helper()
	all, err := e.Contents(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPushToAFullDisk(t *testing.T) {
	cfg := newConfig(t)
	cfg.Full = 1e-9
	e, _ := startEngine(t, cfg)
	if _, err := e.AppendUpload(t.Context(), "x", 0, strings.NewReader("no room")); maru.KindOf(err) != maru.Exhausted || maru.HintOf(err) == "" {
		t.Error(err)
	}
}

// TestLostContentIsPushedAgain shows what a power cut may leave: containerd knows of a blob whose file is gone.
func TestLostContentIsPushedAgain(t *testing.T) {
	cfg := newConfig(t)
	e, _ := startEngine(t, cfg)
	digest := pushToRepository(t, e, "default/shop/web", "1", labeled(t, "lost"))
	_, sum, _ := strings.Cut(digest, ":")
	if err := os.Remove(filepath.Join(cfg.Layout.ContainerdData(), "io.containerd.content.v1.content", "blobs", "sha256", sum)); err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{digest, "1"} {
		if c, err := e.Content(t.Context(), "default/shop/web", reference); maru.KindOf(err) != maru.NotFound {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if again := pushToRepository(t, e, "default/shop/web", "1", labeled(t, "lost")); again != digest {
		t.Fatal(again)
	}
	if _, err := e.Content(context.Background(), "default/shop/web", "1"); err != nil {
		t.Error(err)
	}
}
