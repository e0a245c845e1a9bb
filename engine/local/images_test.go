package local_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
)

// startRegistry serves an image registry that wants a password, unless that is empty.
func startRegistry(t testing.TB, password string) *httptest.Server {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

func hostOf(server *httptest.Server) string { return server.Listener.Addr().String() }

func pushImage(t testing.TB, ref, password string, image v1.Image) {
	t.Helper()
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parsed, image, remote.WithAuth(&authn.Basic{Username: "me", Password: password})); err != nil {
		t.Fatal(err)
	}
}

// labeled gives an image that differs from others by a label.
func labeled(t testing.TB, value string) v1.Image {
	return newImage(t, func(c *v1.Config) { c.Labels = map[string]string{"which": value} })
}

func TestPull(t *testing.T) {
	const password = "open sesame"
	server := startRegistry(t, password)
	e, _ := startEngine(t, newConfig(t))
	ref := hostOf(server) + "/team/app:1"
	first := labeled(t, "first")
	pushImage(t, ref, password, first)

	for _, wrong := range []maru.PullOptions{{}, {Username: "me", Password: "wrong"}} {
		if _, err := e.Pull(t.Context(), ref, wrong, nil); maru.KindOf(err) != maru.Denied || maru.HintOf(err) == "" {
			t.Errorf("pull with %+v: %v (%s)", wrong, err, maru.KindOf(err))
		}
	}
	right := maru.PullOptions{Username: "me", Password: password}
	var last maru.PullProgress
	image, err := e.Pull(t.Context(), ref, right, func(p maru.PullProgress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	digest, err := first.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if want := hostOf(server) + "/team/app@" + digest.String(); image.Reference != want {
		t.Errorf("reference %s, want %s", image.Reference, want)
	}
	if image.Config.Labels["which"] != "first" || image.Platform != "linux/amd64" || image.Bytes == 0 || !slices.Equal(image.Names, []string{ref}) {
		t.Errorf("%+v", image)
	}
	if last.Total == 0 || last.Done != last.Total {
		t.Errorf("progress %+v", last)
	}

	// The tag moves on: what was given by digest stays.
	pushImage(t, ref, password, labeled(t, "second"))
	second, err := e.Pull(t.Context(), ref, right, nil)
	if err != nil || second.Reference == image.Reference {
		t.Fatalf("%+v, %v", second, err)
	}
	kept, err := e.Image(t.Context(), image.Reference)
	if err != nil || kept.Config.Labels["which"] != "first" || len(kept.Names) != 0 {
		t.Errorf("%+v, %v", kept, err)
	}
	byTag, err := e.Image(t.Context(), ref)
	if err != nil || byTag.Reference != second.Reference {
		t.Errorf("%+v, %v", byTag, err)
	}
	again, err := e.Pull(t.Context(), image.Reference, right, nil)
	if err != nil || again.Reference != image.Reference {
		t.Errorf("pull by digest: %+v, %v", again, err)
	}
	for _, missing := range []string{hostOf(server) + "/team/app:2", hostOf(server) + "/team/none:1"} {
		if _, err := e.Pull(t.Context(), missing, right, nil); maru.KindOf(err) != maru.NotFound {
			t.Errorf("%v (%s)", err, maru.KindOf(err))
		}
	}
	if _, err := e.Pull(t.Context(), "team/App:1", right, nil); maru.KindOf(err) != maru.Invalid {
		t.Error(err)
	}
	if _, err := e.Pull(t.Context(), "127.0.0.1:1/x:1", right, nil); maru.KindOf(err) != maru.Unavailable {
		t.Errorf("%v (%s)", err, maru.KindOf(err))
	}
}

func TestMirror(t *testing.T) {
	away, mirror := startRegistry(t, ""), startRegistry(t, "")
	away.Close()
	pushImage(t, hostOf(mirror)+"/library/nginx:1", "", labeled(t, "mirrored"))
	pushImage(t, hostOf(mirror)+"/team/app:1", "", labeled(t, "any"))
	cfg := newConfig(t)
	cfg.Mirrors = map[string][]string{"docker.io": {away.URL, mirror.URL}, "*": {mirror.URL}}
	e, _ := startEngine(t, cfg)
	image, err := e.Pull(t.Context(), "nginx:1", maru.PullOptions{}, nil)
	if err != nil || image.Config.Labels["which"] != "mirrored" || !strings.HasPrefix(image.Reference, "docker.io/library/nginx@sha256:") {
		t.Errorf("%+v, %v", image, err)
	}
	image, err = e.Pull(t.Context(), "registry.example.com/team/app:1", maru.PullOptions{}, nil)
	if err != nil || image.Config.Labels["which"] != "any" {
		t.Errorf("%+v, %v", image, err)
	}
	for _, bad := range []string{"http://mirror.example.com", "ftp://127.0.0.1", "127.0.0.1"} {
		cfg := local.Config{Mirrors: map[string][]string{"docker.io": {bad}}}
		if err := cfg.Validate(); maru.KindOf(err) != maru.Invalid {
			t.Errorf("mirror %s: %v", bad, err)
		}
	}
}

func TestPullPlatform(t *testing.T) {
	server := startRegistry(t, "")
	index := v1.ImageIndex(empty.Index)
	var arm v1.Hash
	for _, arch := range []string{"amd64", "arm64"} {
		image := labeled(t, arch)
		described, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		described = described.DeepCopy()
		described.Architecture = arch
		if image, err = mutate.ConfigFile(image, described); err != nil {
			t.Fatal(err)
		}
		if arch == "arm64" {
			if arm, err = image.Digest(); err != nil {
				t.Fatal(err)
			}
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	ref, err := name.ParseReference(hostOf(server)+"/multi:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	e, _ := startEngine(t, newConfig(t))
	own, err := e.Pull(t.Context(), ref.String(), maru.PullOptions{}, nil)
	if err != nil || own.Config.Labels["which"] != "amd64" || own.Platform != "linux/amd64" {
		t.Errorf("%+v, %v", own, err)
	}
	other, err := e.Pull(t.Context(), ref.String(), maru.PullOptions{Platform: "linux/arm64"}, nil)
	if err != nil || other.Config.Labels["which"] != "arm64" || !strings.HasSuffix(other.Reference, arm.String()) {
		t.Errorf("%+v, %v", other, err)
	}
	if _, err := e.Pull(t.Context(), ref.String(), maru.PullOptions{Platform: "linux/s390x"}, nil); maru.KindOf(err) != maru.NotFound {
		t.Errorf("%v (%s)", err, maru.KindOf(err))
	}
	own, err = e.Image(t.Context(), own.Reference)
	if err != nil || own.Config.Labels["which"] != "amd64" {
		t.Errorf("%+v, %v", own, err)
	}
}

func TestPrune(t *testing.T) {
	e, stop := startEngine(t, newConfig(t))
	load := func(tag, which string) string {
		t.Helper()
		loaded, err := e.Load(t.Context(), archiveOf(t, tag, labeled(t, which)))
		if err != nil || len(loaded) != 1 {
			t.Fatalf("%+v, %v", loaded, err)
		}
		return loaded[0].Reference
	}
	used, mounted, kept, tagged, gone := load("a:1", "used"), load("b:1", "mounted"), load("c:1", "kept"), load("d:1", "tagged"), load("e:1", "gone")
	w := newWorkload("web", "1", used)
	w.Container.Mounts = []maru.Mount{{Kind: maru.ImageMount, Source: mounted, Target: "/assets"}}
	startOne(t, e, w)
	removed, err := e.Prune(t.Context(), []string{kept, "d:1", "never:there"})
	if err != nil || len(removed) != 1 || removed[0].Reference != gone || !slices.Equal(removed[0].Names, []string{"docker.io/library/e:1"}) {
		t.Errorf("%+v, %v", removed, err)
	}
	all, err := e.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, image := range all {
		left = append(left, image.Reference)
	}
	want := []string{used, mounted, kept, tagged}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	if _, err := e.Image(t.Context(), gone); maru.KindOf(err) != maru.NotFound {
		t.Errorf("%v", err)
	}
	if again := load("e:1", "gone"); again != gone {
		t.Errorf("loaded again: %s", again)
	}
	removeAll(t, e)
	if removed, err := e.Prune(t.Context(), nil); err != nil || len(removed) != 5 {
		t.Errorf("%d, %v", len(removed), err)
	}
	stop()
	if _, err := e.Images(t.Context()); maru.KindOf(err) != maru.Unavailable {
		t.Errorf("of an engine that has stopped: %v", err)
	}
}

func TestLoadAndSave(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	ref := loadImage(t, e, nil)
	var archive bytes.Buffer
	if err := e.SaveImages(t.Context(), []string{ref}, &archive); err != nil {
		t.Fatal(err)
	}
	other, _ := startEngine(t, newConfig(t))
	loaded, err := other.Load(t.Context(), &archive)
	if err != nil || len(loaded) != 1 || loaded[0].Reference != ref {
		t.Fatalf("%+v, %v", loaded, err)
	}
	startOne(t, other, newWorkload("web", "1", ref))
	if _, err := e.Load(t.Context(), strings.NewReader("no archive")); maru.KindOf(err) != maru.Invalid {
		t.Errorf("%v", err)
	}
	if err := e.SaveImages(t.Context(), []string{missing}, io.Discard); maru.KindOf(err) != maru.NotFound {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Pull(ctx, "127.0.0.1:1/x:1", maru.PullOptions{}, nil); err == nil {
		t.Error("a pull that nobody waits for succeeds")
	}
}
