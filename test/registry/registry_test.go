package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/marucloud/maru/test/host"
)

func TestMain(m *testing.M) {
	inside, code := host.Enter()
	if !inside {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// installation is Maru with a registry, and a program to put into images.
type installation struct {
	*host.Machine
	t       *testing.T
	program []byte
	address string // of the gateway, by the name that clients speak HTTP to
	token   string
}

func begin(t *testing.T) *installation {
	t.Helper()
	m := host.Start(t)
	binary, err := m.Build(t.Context(), "test/end-to-end/service")
	if err != nil {
		t.Fatal(err)
	}
	i := &installation{Machine: m, t: t, address: strings.Replace(m.HTTP, "127.0.0.1", "localhost", 1)}
	if i.program, err = os.ReadFile(binary); err != nil {
		t.Fatal(err)
	}
	i.token = strings.TrimSpace(m.Do(t, "token", "create", "ann", "--app", "shop"))
	return i
}

// image is one that answers with a version.
func (i *installation) image(version string) v1.Image {
	i.t.Helper()
	layer, err := host.Layer(i.program)
	if err != nil {
		i.t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		image, err = mutate.ConfigFile(image, config(i.t, image, version))
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return image
}

func config(t *testing.T, image v1.Image, version string) *v1.ConfigFile {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Config.Entrypoint, file.Config.Env = []string{"/service"}, []string{"VERSION=" + version}
	file.Config.ExposedPorts = map[string]struct{}{"8080/tcp": {}}
	return file
}

func (i *installation) push(reference string, image v1.Image) error {
	tag, err := name.NewTag(i.address+"/"+reference, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(tag, image, remote.WithAuth(&authn.Basic{Username: "ann", Password: i.token}), remote.WithContext(i.t.Context()))
}

func (i *installation) compose(image string) string {
	return fmt.Sprintf("name: shop\nservices:\n  web:\n    image: %s\n    x-maru: {route: shop.localhost, health: /healthz}\n", image)
}

// serves gives the version that answers; "" while none does.
func (i *installation) serves() string {
	i.t.Helper()
	request, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, "http://"+i.HTTP+"/", nil)
	if err != nil {
		i.t.Fatal(err)
	}
	request.Host = "shop.localhost"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var who struct{ Version string }
	if json.NewDecoder(response.Body).Decode(&who) != nil {
		return ""
	}
	return who.Version
}

// call sends a request to the registry and gives its status, a header of the answer and its body.
func (i *installation) call(ctx context.Context, method, path string, body io.Reader, headers ...string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+i.HTTP+path, body)
	if err != nil {
		return nil, err
	}
	request.Host = i.address
	request.SetBasicAuth("ann", i.token)
	for _, header := range headers {
		key, value, _ := strings.Cut(header, ": ")
		request.Header.Set(key, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(data))
	return response, err
}

func TestPushDeployPull(t *testing.T) {
	i := begin(t)
	first := i.image("first")
	if err := i.push("shop/web:1", first); err != nil {
		t.Fatal(err)
	}
	// Who has no token, or one for something else, gets nothing.
	if response, err := http.Get("http://" + i.address + "/v2/"); err != nil || response.StatusCode != http.StatusUnauthorized || response.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%+v, %v", response, err)
	}
	if err := i.push("zoo/web:1", first); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("push to another app: %v", err)
	}

	i.Deploy(t, i.compose(i.address+"/shop/web:1"))
	if got := i.serves(); got != "first" {
		t.Fatalf("%q serves", got)
	}

	// The tag moves, and a deploy of the same file brings what it leads to now.
	if err := i.push("shop/web:1", i.image("second")); err != nil {
		t.Fatal(err)
	}
	i.Deploy(t, i.compose(i.address+"/shop/web:1"))
	if got := i.serves(); got != "second" {
		t.Fatalf("%q serves", got)
	}

	// Pruning takes neither what is pushed nor what a rollback needs.
	i.Do(t, "image", "prune")
	i.Do(t, "rollback", "--app", "shop", "1")
	if got := i.serves(); got != "first" {
		t.Fatalf("%q serves", got)
	}

	want, err := first.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got := i.pull("default/production/shop/web:1"); got.String() != want.String() {
		t.Errorf("release 1 is %s, and was pushed as %s", got, want)
	}
	i.pull("shop/web:1")

	// What is taken out of the registry runs on.
	response, err := i.call(t.Context(), http.MethodDelete, "/v2/shop/web/manifests/"+want.String(), nil)
	if err != nil || response.StatusCode != http.StatusAccepted {
		t.Fatalf("%+v, %v", response, err)
	}
	if err := i.Reload("runtime"); err != nil {
		t.Fatal(err)
	}
	i.Do(t, "restart", "--app", "shop", "web")
	if got := i.serves(); got != "first" {
		t.Fatalf("%q serves", got)
	}
}

// pull fetches a whole image as containerd does, by the API's address, and gives its digest.
func (i *installation) pull(reference string) digest.Digest {
	i.t.Helper()
	ctx := i.t.Context()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(i.Do(i.t, "trust", "--print"))) {
		i.t.Fatal("no authority")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(docker.WithClient(client),
		docker.WithPlainHTTP(func(string) (bool, error) { return false, nil }),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(func(string) (string, string, error) { return "node", i.token, nil }))))})
	named, root, err := resolver.Resolve(ctx, i.API+"/"+reference)
	if err != nil {
		i.t.Fatalf("resolve %s: %v", reference, err)
	}
	fetcher, err := resolver.Fetcher(ctx, named)
	if err != nil {
		i.t.Fatal(err)
	}
	get := func(d ocispec.Descriptor) []byte {
		i.t.Helper()
		body, err := fetcher.Fetch(ctx, d)
		if err != nil {
			i.t.Fatalf("fetch %s: %v", d.Digest, err)
		}
		defer body.Close()
		data, err := io.ReadAll(body)
		if err != nil || digest.FromBytes(data) != d.Digest || int64(len(data)) != d.Size {
			i.t.Fatalf("%s: %d bytes, %v", d.Digest, len(data), err)
		}
		return data
	}
	if !images.IsManifestType(root.MediaType) {
		i.t.Fatalf("%s is %s", reference, root.MediaType)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(get(root), &manifest); err != nil {
		i.t.Fatal(err)
	}
	for _, part := range append(manifest.Layers, manifest.Config) {
		get(part)
	}
	return root.Digest
}

// TestBuiltImagesArePulled shows that what Maru built is there for other machines.
func TestBuiltImagesArePulled(t *testing.T) {
	i := begin(t)
	path, err := i.Compose("name: shop\nservices:\n  web:\n    build: .\n    x-maru: {route: shop.localhost, health: /healthz}\n")
	if err != nil {
		t.Fatal(err)
	}
	folder := strings.TrimSuffix(path, "/compose.yaml")
	for file, text := range map[string]string{"service": string(i.program), "Dockerfile": "FROM scratch\nCOPY --chmod=755 service /service\nENV VERSION=built\nENTRYPOINT [\"/service\"]\nEXPOSE 8080\n"} {
		if err := os.WriteFile(folder+"/"+file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	i.Do(t, "deploy", "-f", path)
	if got := i.serves(); got != "built" {
		t.Fatalf("%q serves", got)
	}
	i.pull("default/production/shop/web:1")
}

// TestKilled ends processes without warning in the middle of uploads. What is there afterwards is whole, and what
// was under way goes on.
func TestKilled(t *testing.T) {
	i := begin(t)
	layer := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	sum := sha256.Sum256(layer)
	name := "sha256:" + hex.EncodeToString(sum[:])
	const path = "/v2/shop/web/blobs/"
	for _, process := range []string{"runtime", "server", "proxy"} {
		response, err := i.call(t.Context(), http.MethodPost, path+"uploads/", nil)
		if err != nil || response.StatusCode != http.StatusAccepted {
			t.Fatalf("%+v, %v", response, err)
		}
		location := response.Header.Get("Location")
		if err := i.interrupted(location, layer[:10<<20], process); err != nil {
			t.Fatal(err)
		}
		offset := i.resume(location)
		t.Logf("after %s was killed %d bytes are there", process, offset)
		if offset > 10<<20 {
			t.Fatalf("%d bytes are there, of which fewer were sent", offset)
		}
		response, err = i.call(t.Context(), http.MethodPut, location+"?digest="+name, bytes.NewReader(layer[offset:]), fmt.Sprintf("Content-Range: %d-%d", offset, len(layer)-1))
		if err != nil || response.StatusCode != http.StatusCreated {
			t.Fatalf("%+v, %v", response, err)
		}
		response, err = i.call(t.Context(), http.MethodGet, path+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(got, layer) {
			t.Fatalf("after %s was killed the layer is %d bytes, %v", process, len(got), err)
		}
		response, err = i.call(t.Context(), http.MethodDelete, path+name, nil)
		if err != nil || response.StatusCode != http.StatusAccepted {
			t.Fatalf("%+v, %v", response, err)
		}
	}
}

// interrupted sends a part of an upload, and kills a process before it knows that this was all.
func (i *installation) interrupted(location string, part []byte, process string) error {
	r, w := io.Pipe()
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeoutCause(i.t.Context(), time.Minute, errors.New("the upload goes on for ever"))
	defer cancel()
	go func() {
		_, err := i.call(ctx, http.MethodPatch, location, r)
		_ = r.CloseWithError(errors.New("the request is over"))
		ended <- err
	}()
	if _, err := w.Write(part); err != nil {
		return err
	}
	_, err := i.Kill(process)
	_ = w.CloseWithError(errors.New("the client goes away"))
	<-ended
	return err
}

// resume asks until it is told how far an upload is.
func (i *installation) resume(location string) (offset int64) {
	i.t.Helper()
	host.Eventually(i.t, time.Minute, "the registry knows of the upload", func() bool {
		response, err := i.call(i.t.Context(), http.MethodGet, location, nil)
		if err != nil || response.StatusCode != http.StatusNoContent {
			return false
		}
		var last int64
		if _, err := fmt.Sscanf(response.Header.Get("Range"), "0-%d", &last); err != nil {
			i.t.Fatal(err)
		}
		offset = last + 1
		if last == 0 { // of nothing, or of one byte
			offset = 0
		}
		return true
	})
	return offset
}
