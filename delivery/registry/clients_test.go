package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	orasremote "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

func (g *rig) host() string { return g.server.Listener.Addr().String() }

// TestCrane pushes, copies, lists, pulls and deletes by the library of crane, ko and Kaniko.
func TestCrane(t *testing.T) {
	g := newRig(t)
	login := []remote.Option{remote.WithAuth(&authn.Basic{Username: "me", Password: "all"}), remote.WithContext(t.Context())}
	tag := func(text string) name.Tag {
		parsed, err := name.NewTag(g.host()+"/"+text, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	image, err := random.Image(100_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag("shop/web:1"), image, login...); err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(tag("shop/web:1"), login...)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pulled.Digest(); err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	layers, err := pulled.Layers()
	if err != nil || len(layers) != 3 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	for _, layer := range layers {
		body, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, body); err != nil { // the library verifies it
			t.Error(err)
		}
		_ = body.Close()
	}
	// Its layers are mounted where it is copied to, and its tags listed.
	if err := remote.Write(tag("shop/api:1"), pulled, login...); err != nil {
		t.Fatal(err)
	}
	if err := remote.Tag(tag("shop/api:latest"), pulled, login...); err != nil {
		t.Fatal(err)
	}
	if tags, err := remote.List(tag("shop/api").Context(), login...); err != nil || !slices.Equal(tags, []string{"1", "latest"}) {
		t.Errorf("%q, %v", tags, err)
	}
	signature, ok := mutate.Subject(mutate.MediaType(image, "application/vnd.oci.image.manifest.v1+json"), v1.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: want, Size: 1}).(v1.Image)
	if !ok {
		t.Fatal("no image")
	}
	if err := remote.Write(tag("shop/web:signature"), signature, login...); err != nil {
		t.Fatal(err)
	}
	referrers, err := remote.Referrers(tag("shop/web").Context().Digest(want.String()), login...)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := referrers.IndexManifest(); err != nil || len(list.Manifests) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	index, err := random.Index(1000, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag("shop/web:index"), index, login...); err != nil {
		t.Fatal(err)
	}
	if err := remote.Delete(tag("shop/api:latest"), login...); err != nil {
		t.Error(err)
	}
	if all, err := remote.Catalog(t.Context(), tag("shop/web").Registry, login...); err != nil || !slices.Equal(all, []string{"shop/api", "shop/web"}) {
		t.Errorf("%q, %v", all, err)
	}
	if _, err := remote.Image(tag("shop/web:1"), remote.WithAuth(authn.Anonymous)); err == nil {
		t.Error("anybody may pull")
	}
}

// TestORAS pushes an artifact and what refers to it by the library of oras, notation and Helm.
func TestORAS(t *testing.T) {
	g := newRig(t)
	ctx := t.Context()
	repository, err := orasremote.NewRepository(g.host() + "/shop/web")
	if err != nil {
		t.Fatal(err)
	}
	repository.PlainHTTP = true
	repository.Client = &auth.Client{Client: http.DefaultClient, Credential: func(context.Context, string) (auth.Credential, error) {
		return auth.Credential{Username: "me", Password: "all"}, nil
	}}
	here := memory.New()
	layer, err := oras.PushBytes(ctx, here, "text/plain", []byte("what is in it"))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(options oras.PackManifestOptions) ocispec.Descriptor {
		packed, err := oras.PackManifest(ctx, here, oras.PackManifestVersion1_1, "application/vnd.example.bill", options)
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	image := pack(oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer}})
	bill := pack(oras.PackManifestOptions{Subject: &image, ManifestAnnotations: map[string]string{"by": "ann"}})
	for tag, d := range map[string]ocispec.Descriptor{"1": image, "bill": bill} {
		if err := here.Tag(ctx, d, tag); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := oras.Copy(ctx, here, "1", repository, "1", oras.DefaultCopyOptions); err != nil {
		t.Fatal(err)
	}
	if _, err := oras.ExtendedCopy(ctx, here, "1", repository, "1", oras.DefaultExtendedCopyOptions); err != nil {
		t.Fatal(err)
	}
	var found []ocispec.Descriptor
	err = repository.Referrers(ctx, image, "application/vnd.example.bill", func(referrers []ocispec.Descriptor) error {
		found = append(found, referrers...)
		return nil
	})
	if err != nil || len(found) != 1 || found[0].Digest != bill.Digest || found[0].Annotations["by"] != "ann" {
		t.Errorf("%+v, %v", found, err)
	}
	// No list of referrers is kept under a tag, as for registries that have none.
	var tags []string
	if err := repository.Tags(ctx, "", func(page []string) error { tags = append(tags, page...); return nil }); err != nil || !slices.Equal(tags, []string{"1"}) {
		t.Errorf("%q, %v", tags, err)
	}
	there := memory.New()
	if got, err := oras.Copy(ctx, repository, "1", there, "1", oras.DefaultCopyOptions); err != nil || got.Digest != image.Digest {
		t.Errorf("%+v, %v", got, err)
	}
	if err := repository.Delete(ctx, bill); err != nil {
		t.Error(err)
	}
}

// TestContainerd pushes and pulls as containerd does, and with it Kubernetes and nerdctl.
func TestContainerd(t *testing.T) {
	g := newRig(t)
	ctx := t.Context()
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
		docker.WithPlainHTTP(docker.MatchAllHosts),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthCreds(func(string) (string, string, error) { return "me", "all", nil }))),
	)})
	ref := g.host() + "/shop/web:1"
	pusher, err := resolver.Pusher(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	layer := strings.Repeat("a layer ", 100_000)
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: describe(ocispec.MediaTypeImageConfig, "{}"), Layers: []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayerZstd, layer)}}
	manifest.SchemaVersion = 2
	data, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	root := describe(ocispec.MediaTypeImageManifest, string(data))
	put := func(d ocispec.Descriptor, text string) {
		t.Helper()
		writer, err := pusher.Push(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		defer writer.Close()
		if err := content.Copy(ctx, writer, strings.NewReader(text), d.Size, d.Digest); err != nil {
			t.Fatal(err)
		}
	}
	put(manifest.Config, "{}")
	put(manifest.Layers[0], layer)
	put(root, string(data))
	name, resolved, err := resolver.Resolve(ctx, ref)
	if err != nil || resolved.Digest != root.Digest || resolved.Size != root.Size || !images.IsManifestType(resolved.MediaType) {
		t.Fatalf("%+v, %v", resolved, err)
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, fetcher, resolved); got != string(data) {
		t.Errorf("%q", got)
	}
	if got := fetch(t, fetcher, manifest.Layers[0]); got != layer {
		t.Errorf("%d bytes", len(got))
	}
}

func describe(mediaType, text string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
}

func fetch(t *testing.T, fetcher remotes.Fetcher, d ocispec.Descriptor) string {
	t.Helper()
	body, err := fetcher.Fetch(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	var data bytes.Buffer
	if _, err := io.Copy(&data, body); err != nil {
		t.Fatal(err)
	}
	return data.String()
}
