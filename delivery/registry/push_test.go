package registry_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// begin begins an upload and gives where it goes on.
func (g *rig) begin(name string) string {
	g.Helper()
	got := g.expect(http.StatusAccepted, "", http.MethodPost, "/v2/"+name+"/blobs/uploads/", "")
	location := got.Header.Get("Location")
	if !strings.HasPrefix(location, "/v2/"+name+"/blobs/uploads/") {
		g.Fatalf("the upload goes on at %q", location)
	}
	return location
}

func (g *rig) has(name, digest, text string) {
	g.Helper()
	if got := g.expect(http.StatusOK, "", http.MethodGet, "/v2/"+name+"/blobs/"+digest, ""); got.body != text {
		g.Errorf("%s is %q, want %q", digest, got.body, text)
	}
}

func TestPushPostThenPut(t *testing.T) {
	g := newRig(t)
	location := g.begin("shop/web")
	got := g.expect(http.StatusCreated, "", http.MethodPut, location+"?digest="+sumOf("a layer"), "a layer", "Content-Type: application/octet-stream")
	g.header(got, "Location", "/v2/shop/web/blobs/"+sumOf("a layer"))
	g.header(got, "Docker-Content-Digest", sumOf("a layer"))
	g.has("shop/web", sumOf("a layer"), "a layer")
	g.expect(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", http.MethodGet, location, "")
}

func TestPushSinglePost(t *testing.T) {
	g := newRig(t)
	got := g.expect(http.StatusCreated, "", http.MethodPost, "/v2/shop/web/blobs/uploads/?digest="+sumOf("a layer"), "a layer")
	g.header(got, "Location", "/v2/shop/web/blobs/"+sumOf("a layer"))
	g.has("shop/web", sumOf("a layer"), "a layer")
	g.pushBlob("shop/web", "")
	g.has("shop/web", sumOf(""), "")
}

func TestPushChunked(t *testing.T) {
	g := newRig(t)
	location := g.begin("shop/web")
	got := g.expect(http.StatusAccepted, "", http.MethodPatch, location, "01234", "Content-Range: 0-4", "Content-Type: application/octet-stream")
	g.header(got, "Range", "0-4")
	location = got.Header.Get("Location")
	got = g.expect(http.StatusAccepted, "", http.MethodPatch, location, "567", "Content-Range: 5-7")
	g.header(got, "Range", "0-7")
	g.expect(http.StatusCreated, "", http.MethodPut, got.Header.Get("Location")+"?digest="+sumOf("0123456789"), "89", "Content-Range: 8-9")
	g.has("shop/web", sumOf("0123456789"), "0123456789")
}

func TestPushStreamed(t *testing.T) {
	g := newRig(t)
	location := g.begin("shop/web")
	for _, piece := range []string{"one, ", "two, ", "three"} {
		location = g.expect(http.StatusAccepted, "", http.MethodPatch, location, piece).Header.Get("Location")
	}
	g.expect(http.StatusCreated, "", http.MethodPut, location+"?digest="+sumOf("one, two, three"), "")
	g.has("shop/web", sumOf("one, two, three"), "one, two, three")
}

func TestPushOutOfOrder(t *testing.T) {
	g := newRig(t)
	location := g.begin("shop/web")
	g.expect(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", http.MethodPatch, location, "567", "Content-Range: 5-7")
	g.expect(http.StatusAccepted, "", http.MethodPatch, location, "01234", "Content-Range: 0-4")
	for _, again := range []string{"0-4", "3-7", "6-10"} {
		got := g.expect(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", http.MethodPatch, location, "56789", "Content-Range: "+again)
		g.header(got, "Range", "0-4")
		g.header(got, "Location", location)
	}
	g.expect(http.StatusRequestedRangeNotSatisfiable, "", http.MethodPut, location+"?digest="+sumOf("0123456789"), "56789", "Content-Range: 6-10")
	g.expect(http.StatusBadRequest, "SIZE_INVALID", http.MethodPatch, location, "567", "Content-Range: 5-9")
	for _, wrong := range []string{"x", "9-5", "-5", "5", "5-99999999999999999999"} {
		g.expect(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", http.MethodPatch, location, "56789", "Content-Range: "+wrong)
	}
	// None of that has harmed it.
	g.expect(http.StatusCreated, "", http.MethodPut, location+"?digest="+sumOf("0123456789"), "56789", "Content-Range: bytes 5-9/10")
	g.has("shop/web", sumOf("0123456789"), "0123456789")
}

func TestUploadStatus(t *testing.T) {
	g := newRig(t)
	location := g.begin("shop/web")
	g.header(g.expect(http.StatusNoContent, "", http.MethodGet, location, ""), "Range", "0-0")
	g.expect(http.StatusAccepted, "", http.MethodPatch, location, "01234")
	got := g.expect(http.StatusNoContent, "", http.MethodGet, location, "")
	g.header(got, "Range", "0-4")
	g.header(got, "Location", location)
}

func TestUploadCancel(t *testing.T) {
	g := newRig(t)
	location := g.begin("shop/web")
	g.expect(http.StatusAccepted, "", http.MethodPatch, location, "01234")
	g.expect(http.StatusNoContent, "", http.MethodDelete, location, "")
	for _, method := range []string{http.MethodGet, http.MethodPatch, http.MethodDelete} {
		g.expect(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", method, location, "")
	}
	g.expect(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", http.MethodPut, location+"?digest="+sumOf("01234"), "")
}

func TestUploadsAreTheirRepositories(t *testing.T) {
	g := newRig(t)
	location := g.begin("shop/web")
	g.expect(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", http.MethodPatch, strings.Replace(location, "shop/web", "shop/api", 1), "x")
	g.expect(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", http.MethodGet, "/v2/shop/web/blobs/uploads/none", "")
	g.expect(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", http.MethodGet, "/v2/shop/web/blobs/uploads/ABCDEFGHIJKLMNOPQRSTUVWXYZ", "")
}

func TestPushOtherDigest(t *testing.T) {
	g := newRig(t)
	location := g.begin("shop/web")
	for _, wrong := range []string{"", "sha256:abc", "sha512:" + strings.Repeat("0", 128)} {
		g.expect(http.StatusBadRequest, "DIGEST_INVALID", http.MethodPut, location+"?digest="+wrong, "a layer")
	}
	g.expect(http.StatusBadRequest, "DIGEST_INVALID", http.MethodPut, location+"?digest="+sumOf("another layer"), "a layer")
	g.expect(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", http.MethodGet, location, "")
	g.expect(http.StatusBadRequest, "DIGEST_INVALID", http.MethodPost, "/v2/shop/web/blobs/uploads/?digest="+sumOf("another layer"), "a layer")
	for _, text := range []string{"a layer", "another layer"} {
		g.expect(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodGet, "/v2/shop/web/blobs/"+sumOf(text), "")
	}
}

func TestMount(t *testing.T) {
	g := newRig(t)
	digest := g.pushBlob("shop/web", "a layer")
	mount := func(g *rig, status int, query string) {
		g.Helper()
		got := g.expect(status, "", http.MethodPost, "/v2/shop/api/blobs/uploads/?"+query, "")
		if location := got.Header.Get("Location"); strings.Contains(location, "/uploads/") != (status == http.StatusAccepted) {
			g.Errorf("goes on at %q", location)
		}
	}
	mount(g, http.StatusAccepted, "mount="+digest)
	mount(g, http.StatusAccepted, "mount="+digest+"&from=shop/none")
	mount(g, http.StatusAccepted, "mount="+digest+"&from=Not-A-Name")
	mount(g, http.StatusAccepted, "mount="+sumOf("never pushed")+"&from=shop/web")
	g.expect(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodGet, "/v2/shop/api/blobs/"+digest, "")
	mount(g, http.StatusCreated, "mount="+digest+"&from=shop/web")
	g.has("shop/api", digest, "a layer")
	g.expect(http.StatusBadRequest, "DIGEST_INVALID", http.MethodPost, "/v2/shop/api/blobs/uploads/?mount=x&from=shop/web", "")
	// What a token may not read it is told nothing of.
	secret := g.pushBlob("zoo/web", "a secret of the zoo")
	mount(g.as("shop"), http.StatusAccepted, "mount="+secret+"&from=zoo/web")
	g.expect(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodGet, "/v2/shop/api/blobs/"+secret, "")
}

func TestPushManifest(t *testing.T) {
	g := newRig(t)
	g.pushBlob("shop/web", "{}")
	g.pushBlob("shop/web", "a layer")
	manifest := imageOf("", "{}", "a layer")
	got := g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/1", manifest, "Content-Type: "+ociImage)
	g.header(got, "Location", "/v2/shop/web/manifests/"+sumOf(manifest))
	g.header(got, "Docker-Content-Digest", sumOf(manifest))
	g.header(got, "OCI-Subject", "")
	g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/"+sumOf(manifest), manifest, "Content-Type: "+ociImage)
	// A tag moves.
	second := imageOf(`"annotations":{"second":"yes"},`, "{}", "a layer")
	g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/1", second, "Content-Type: "+ociImage)
	if got := g.expect(http.StatusOK, "", http.MethodGet, "/v2/shop/web/manifests/1", ""); got.body != second {
		t.Errorf("%q", got.body)
	}
	if got := g.expect(http.StatusOK, "", http.MethodGet, "/v2/shop/web/manifests/"+sumOf(manifest), ""); got.body != manifest {
		t.Errorf("%q", got.body)
	}
}

func TestPushIndex(t *testing.T) {
	g := newRig(t)
	one, two := g.pushImage("shop/web", "", "for amd64"), g.pushImage("shop/web", "", "for arm64")
	index := indexOf(one, two)
	g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/1", index, "Content-Type: "+ociIndex)
	got := g.expect(http.StatusOK, "", http.MethodGet, "/v2/shop/web/manifests/1", "")
	g.header(got, "Content-Type", ociIndex)
	nested := strings.Replace(indexOf(index), ociImage, ociIndex, 1)
	g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/nested", nested, "Content-Type: "+ociIndex)
	g.expect(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", http.MethodPut, "/v2/shop/web/manifests/2", indexOf(one, "never pushed"), "Content-Type: "+ociIndex)
}

func TestTagParameters(t *testing.T) {
	g := newRig(t)
	g.pushBlob("shop/web", "{}")
	manifest := imageOf("", "{}")
	got := g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/"+sumOf(manifest)+"?tag=1&tag=latest", manifest, "Content-Type: "+ociImage)
	if tags := got.Header.Values("OCI-Tag"); strings.Join(tags, " ") != "1 latest" {
		t.Errorf("%q", tags)
	}
	for _, tag := range []string{"1", "latest"} {
		g.expect(http.StatusOK, "", http.MethodGet, "/v2/shop/web/manifests/"+tag, "")
	}
}

func TestManifestsAreRefused(t *testing.T) {
	g := newRig(t)
	g.pushBlob("shop/web", "{}")
	good := imageOf("", "{}")
	config := descriptor("application/json", "{}")
	for _, c := range []struct{ name, reference, body, mediaType, code string }{
		{"no JSON", "1", "{", ociImage, "MANIFEST_INVALID"},
		{"nothing", "1", "", ociImage, "MANIFEST_INVALID"},
		{"another digest", sumOf("x"), good, ociImage, "DIGEST_INVALID"},
		{"a digest of another kind", "sha512:" + strings.Repeat("0", 128), good, ociImage, "DIGEST_INVALID"},
		{"no tag", "-1", good, ociImage, "MANIFEST_INVALID"},
		{"a tag that is too long", strings.Repeat("t", 129), good, ociImage, "MANIFEST_INVALID"},
		{"another type than it says", "1", good, ociIndex, "MANIFEST_INVALID"},
		{"a type that is not known", "1", `{"schemaVersion":2}`, "text/plain", "MANIFEST_INVALID"},
		{"Docker's schema 1", "1", `{"schemaVersion":1}`, "application/vnd.docker.distribution.manifest.v1+json", "MANIFEST_INVALID"},
		{"no schema version", "1", `{"config":` + config + `}`, ociImage, "MANIFEST_INVALID"},
		{"no config", "1", `{"schemaVersion":2,"layers":[]}`, ociImage, "MANIFEST_INVALID"},
		{"an image and an index at once", "1", `{"schemaVersion":2,"config":` + config + `,"manifests":[]}`, ociImage, "MANIFEST_INVALID"},
		{"an index and an image at once", "1", `{"schemaVersion":2,"layers":[],"manifests":[]}`, ociIndex, "MANIFEST_INVALID"},
		{"a blob that is not there", "1", imageOf("", "{}", "never pushed"), ociImage, "MANIFEST_BLOB_UNKNOWN"},
		{"a blob of another size", "1", strings.Replace(good, `"size":2`, `"size":3`, 1), ociImage, "MANIFEST_INVALID"},
		{"a blob of another kind of digest", "1", strings.Replace(good, "sha256:", "sha512:", 1), ociImage, "MANIFEST_INVALID"},
		{"a subject without a digest", "1", imageOf(`"subject":{"mediaType":"x","size":1},`, "{}"), ociImage, "MANIFEST_INVALID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := *g
			g.T = t
			g.expect(http.StatusBadRequest, c.code, http.MethodPut, "/v2/shop/web/manifests/"+c.reference, c.body, "Content-Type: "+c.mediaType)
		})
	}
	g.expect(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodGet, "/v2/shop/web/manifests/1", "")
}

func TestManifestTypes(t *testing.T) {
	g := newRig(t)
	g.pushBlob("shop/web", "{}")
	bare := `{"schemaVersion":2,"config":` + descriptor("application/json", "{}") + `,"layers":[]}`
	for i, c := range []struct{ body, said, want string }{
		{bare, ociImage, ociImage},
		{bare + " ", "", ociImage},
		{bare + "  ", ociImage + "; charset=utf-8", ociImage},
		{strings.Replace(imageOf("", "{}"), ociImage, "application/vnd.docker.distribution.manifest.v2+json", 1), "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.v2+json"},
		{`{"schemaVersion":2,"manifests":[]}`, "", ociIndex},
		{`{"schemaVersion":2,"manifests":[]} `, "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json"},
	} {
		path := fmt.Sprint("/v2/shop/web/manifests/", i)
		g.expect(http.StatusCreated, "", http.MethodPut, path, c.body, "Content-Type: "+c.said)
		g.header(g.expect(http.StatusOK, "", http.MethodGet, path, ""), "Content-Type", c.want)
	}
}

func TestManifestSize(t *testing.T) {
	g := newRig(t)
	g.pushBlob("shop/web", "{}")
	padded := func(size int) string {
		manifest := imageOf("", "{}")
		return manifest + strings.Repeat(" ", size-len(manifest))
	}
	g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/1", padded(4<<20), "Content-Type: "+ociImage)
	g.expect(http.StatusRequestEntityTooLarge, "SIZE_INVALID", http.MethodPut, "/v2/shop/web/manifests/2", padded(4<<20+1), "Content-Type: "+ociImage)
}

func TestLayersElsewhere(t *testing.T) {
	g := newRig(t)
	g.pushBlob("shop/web", "{}")
	for _, kind := range []string{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"} {
		manifest := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, descriptor("application/json", "{}"), descriptor(kind, "never pushed"))
		g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/1", manifest, "Content-Type: "+ociImage)
	}
}
