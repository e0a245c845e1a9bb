package registry_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/registry"
)

func TestPullBlob(t *testing.T) {
	g := newRig(t)
	digest := g.pushBlob("shop/web", "0123456789")
	path := "/v2/shop/web/blobs/" + digest
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		got := g.expect(http.StatusOK, "", method, path, "")
		g.header(got, "Docker-Content-Digest", digest)
		g.header(got, "Content-Length", "10")
		g.header(got, "Content-Type", "application/octet-stream")
		if method == http.MethodGet && got.body != "0123456789" {
			t.Errorf("%q", got.body)
		}
		g.expect(http.StatusNotModified, "", method, path, "", `If-None-Match: "`+digest+`"`)
	}
	for _, missing := range []string{"/v2/shop/web/blobs/" + sumOf("never pushed"), "/v2/shop/api/blobs/" + digest, "/v2/shop/blobs/" + digest} {
		g.expect(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodGet, missing, "")
		g.expect(http.StatusNotFound, "", http.MethodHead, missing, "")
	}
	for _, wrong := range []string{"sha256:abc", "md5:0123", "latest", "sha512:" + strings.Repeat("0", 128)} {
		g.expect(http.StatusBadRequest, "DIGEST_INVALID", http.MethodGet, "/v2/shop/web/blobs/"+wrong, "")
	}
}

func TestPullRange(t *testing.T) {
	g := newRig(t)
	path := "/v2/shop/web/blobs/" + g.pushBlob("shop/web", "0123456789")
	for _, c := range []struct{ ranged, want, content string }{
		{"bytes=0-3", "0123", "bytes 0-3/10"}, {"bytes=4-", "456789", "bytes 4-9/10"}, {"bytes=-2", "89", "bytes 8-9/10"}, {"bytes=8-100", "89", "bytes 8-9/10"},
	} {
		got := g.expect(http.StatusPartialContent, "", http.MethodGet, path, "", "Range: "+c.ranged)
		if got.body != c.want {
			t.Errorf("%s: %q", c.ranged, got.body)
		}
		g.header(got, "Content-Range", c.content)
	}
	g.expect(http.StatusRequestedRangeNotSatisfiable, "", http.MethodGet, path, "", "Range: bytes=10-")
}

func TestPullManifest(t *testing.T) {
	g := newRig(t)
	manifest := g.pushImage("shop/web", "1", "a layer")
	for _, reference := range []string{"1", sumOf(manifest)} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			got := g.expect(http.StatusOK, "", method, "/v2/shop/web/manifests/"+reference, "", "Accept: application/json")
			g.header(got, "Docker-Content-Digest", sumOf(manifest))
			g.header(got, "Content-Type", ociImage)
			if method == http.MethodGet && got.body != manifest {
				t.Errorf("%q", got.body)
			}
		}
	}
	for _, missing := range []string{"/v2/shop/web/manifests/2", "/v2/shop/web/manifests/" + sumOf("never pushed"), "/v2/shop/api/manifests/1", "/v2/shop/web/manifests/" + sumOf("a layer"), "/v2/shop/web/manifests/!"} {
		g.expect(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodGet, missing, "")
		g.expect(http.StatusNotFound, "", http.MethodHead, missing, "")
	}
}

// faulty fails as an engine may.
type faulty struct {
	registry.Store
	err error
}

func (f *faulty) Content(ctx context.Context, repository, reference string) (maru.Content, error) {
	if f.err != nil {
		return maru.Content{}, f.err
	}
	return f.Store.Content(ctx, repository, reference)
}

func TestFaults(t *testing.T) {
	f := &faulty{}
	g := newRigWith(t, registry.Config{}, func(s registry.Store) registry.Store { f.Store = s; return f })
	path := "/v2/shop/web/blobs/" + g.pushBlob("shop/web", "x")
	f.err = maru.Errorf(maru.Unavailable, "the engine is away")
	g.expect(http.StatusServiceUnavailable, "UNAVAILABLE", http.MethodGet, path, "")
	f.err = io.ErrUnexpectedEOF
	if got := g.expect(http.StatusInternalServerError, "UNKNOWN", http.MethodGet, path, ""); strings.Contains(got.body, "EOF") {
		t.Errorf("tells the client of its insides: %s", got.body)
	}
	f.err = nil
	g.store.Fill(true)
	g.expect(http.StatusInsufficientStorage, "DENIED", http.MethodPost, "/v2/shop/web/blobs/uploads/", "")
	g.expect(http.StatusOK, "", http.MethodGet, path, "")
	g.store.Fill(false)
	g.expect(http.StatusAccepted, "", http.MethodPost, "/v2/shop/web/blobs/uploads/", "")
}

func TestSlowClientsAreGivenUp(t *testing.T) {
	g := newRigWith(t, registry.Config{Idle: 50 * time.Millisecond}, nil)
	r, w := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.server.URL+"/v2/shop/web/blobs/uploads/", r)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("anybody", "all")
	go func() { _, _ = io.WriteString(w, "the beginning") }()
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err == nil {
		_ = answer.Body.Close()
		if answer.StatusCode < 400 {
			t.Errorf("%s", answer.Status)
		}
	}
	_ = w.Close()
}
