package registry_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/registry"
)

func TestDeleteTag(t *testing.T) {
	g := newRig(t)
	manifest := g.pushImage("shop/web", "1", "a layer")
	g.pushImage("shop/web", "2", "a layer")
	g.expect(http.StatusAccepted, "", http.MethodDelete, "/v2/shop/web/manifests/1", "")
	g.expect(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodGet, "/v2/shop/web/manifests/1", "")
	g.expect(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodDelete, "/v2/shop/web/manifests/1", "")
	g.expect(http.StatusOK, "", http.MethodGet, "/v2/shop/web/manifests/2", "")
	g.expect(http.StatusOK, "", http.MethodGet, "/v2/shop/web/manifests/"+sumOf(manifest), "")
}

func TestDeleteManifest(t *testing.T) {
	g := newRig(t)
	manifest := g.pushImage("shop/web", "1", "a layer")
	g.pushImage("shop/web", "2", "a layer")
	g.expect(http.StatusAccepted, "", http.MethodDelete, "/v2/shop/web/manifests/"+sumOf(manifest), "")
	for _, reference := range []string{"1", "2", sumOf(manifest)} {
		g.expect(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodGet, "/v2/shop/web/manifests/"+reference, "")
	}
	g.expect(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodDelete, "/v2/shop/web/manifests/"+sumOf(manifest), "")
	g.expect(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodDelete, "/v2/shop/web/manifests/"+sumOf("a layer"), "")
	if names, _ := g.names("/v2/shop/web/tags/list", "tags"); len(names) != 0 {
		t.Errorf("%q", names)
	}
}

func TestDeleteBlob(t *testing.T) {
	g := newRig(t)
	manifest := g.pushImage("shop/web", "1", "a layer")
	g.pushBlob("shop/api", "a layer")
	path := "/v2/shop/web/blobs/" + sumOf("a layer")
	g.expect(http.StatusForbidden, "DENIED", http.MethodDelete, path, "")
	g.expect(http.StatusAccepted, "", http.MethodDelete, "/v2/shop/web/manifests/"+sumOf(manifest), "")
	g.expect(http.StatusAccepted, "", http.MethodDelete, path, "")
	g.expect(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodGet, path, "")
	g.expect(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodDelete, path, "")
	g.has("shop/api", sumOf("a layer"), "a layer")
	g.expect(http.StatusBadRequest, "DIGEST_INVALID", http.MethodDelete, "/v2/shop/web/blobs/1", "")
}

// TestReleases shows the images of releases, which nobody pushed.
func TestReleases(t *testing.T) {
	g := newRig(t)
	image := imageOf("", "{}", "a layer")
	index := indexOf(image, "for another platform, not here")
	for _, text := range []string{"{}", "a layer", image, index, "of another app"} {
		g.store.Add([]byte(text))
	}
	web := maru.Scope{Project: "default", Environment: "production", App: "shop"}.Service("web")
	g.releases[web] = []maru.Release{
		{Number: 3, Image: "maru.internal/default/production/shop@" + sumOf(image)},
		{Number: 4, Image: "docker.io/library/web@" + sumOf(index)},
		{Number: 5, Image: "docker.io/library/web@" + sumOf("pruned")},
	}
	const name = "default/production/shop/web"
	if names, _ := g.names("/v2/"+name+"/tags/list", "tags"); !slices.Equal(names, []string{"3", "4"}) {
		t.Errorf("%q", names)
	}
	for reference, want := range map[string]string{"3": image, "4": index, sumOf(image): image, sumOf(index): index} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			got := g.expect(http.StatusOK, "", method, "/v2/"+name+"/manifests/"+reference, "")
			g.header(got, "Docker-Content-Digest", sumOf(want))
			if method == http.MethodGet && got.body != want {
				t.Errorf("%s: %q", reference, got.body)
			}
		}
	}
	g.has(name, sumOf("a layer"), "a layer")
	g.has(name, sumOf("{}"), "{}")
	g.expect(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodGet, "/v2/"+name+"/blobs/"+sumOf("of another app"), "")
	g.expect(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodGet, "/v2/"+name+"/manifests/5", "")
	g.expect(http.StatusNotFound, "NAME_UNKNOWN", http.MethodGet, "/v2/default/production/shop/none/tags/list", "")
	if got := g.expect(http.StatusOK, "", http.MethodGet, "/v2/"+name+"/referrers/"+sumOf(image), ""); !strings.Contains(got.body, `"manifests":[]`) {
		t.Error(got.body)
	}
	// They are read only, and those of an environment are for its tokens alone.
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		g.expect(http.StatusForbidden, "DENIED", method, "/v2/"+name+"/manifests/3", image)
	}
	g.expect(http.StatusForbidden, "DENIED", http.MethodPost, "/v2/"+name+"/blobs/uploads/", "")
	g.as("staging").expect(http.StatusForbidden, "DENIED", http.MethodGet, "/v2/"+name+"/manifests/3", "")
	g.as("production").expect(http.StatusOK, "", http.MethodGet, "/v2/"+name+"/manifests/3", "")
	// What is released is mounted, not pushed again.
	g.expect(http.StatusCreated, "", http.MethodPost, "/v2/shop/web/blobs/uploads/?mount="+sumOf("a layer")+"&from="+name, "")
	g.has("shop/web", sumOf("a layer"), "a layer")
}

func TestCollect(t *testing.T) {
	g := newRigWith(t, registry.Config{Grace: time.Nanosecond}, nil)
	first := g.pushImage("shop/web", "1", "the first layer")
	image := g.pushImage("shop/web", "1", "the second layer")
	signature := imageOf(`"subject":`+descriptor(ociImage, image)+",", "{}")
	g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/"+sumOf(signature), signature, "Content-Type: "+ociImage)
	g.pushBlob("shop/api", "whose manifest never came")
	gone, err := g.handler.Collect(t.Context())
	if err != nil || len(gone) != 3 {
		t.Errorf("%+v, %v", gone, err)
	}
	g.expect(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodGet, "/v2/shop/web/manifests/"+sumOf(first), "")
	g.expect(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodGet, "/v2/shop/web/blobs/"+sumOf("the first layer"), "")
	g.expect(http.StatusNotFound, "NAME_UNKNOWN", http.MethodGet, "/v2/shop/api/tags/list", "")
	g.has("shop/web", sumOf("the second layer"), "the second layer")
	g.expect(http.StatusOK, "", http.MethodGet, "/v2/shop/web/manifests/"+sumOf(signature), "")
	if gone, err = g.handler.Collect(t.Context()); err != nil || len(gone) != 0 {
		t.Errorf("a second time: %+v, %v", gone, err)
	}
}

// aged makes everything older, but for what was put into a repository again.
type aged struct {
	registry.Store
	by  time.Duration
	put map[string]bool
}

func (a *aged) Content(ctx context.Context, repository, reference string) (maru.Content, error) {
	c, err := a.Store.Content(ctx, repository, reference)
	return a.age(c), err
}

func (a *aged) Contents(ctx context.Context, repository string) ([]maru.Content, error) {
	all, err := a.Store.Contents(ctx, repository)
	for i := range all {
		all[i] = a.age(all[i])
	}
	return all, err
}

func (a *aged) PutContent(ctx context.Context, c maru.Content) error {
	a.put[c.Digest] = true
	return a.Store.PutContent(ctx, c)
}

func (a *aged) age(c maru.Content) maru.Content {
	if !a.put[c.Digest] {
		c.Pushed = c.Pushed.Add(-a.by)
	}
	return c
}

// TestWhatIsAskedForStays shows that a blob which a client found, and therefore does not push, is not collected
// before the client's manifest comes.
func TestWhatIsAskedForStays(t *testing.T) {
	a := &aged{by: 23 * time.Hour, put: map[string]bool{}}
	g := newRigWith(t, registry.Config{}, func(s registry.Store) registry.Store { a.Store = s; return a })
	found, passed := g.pushBlob("shop/web", "found"), g.pushBlob("shop/web", "passed over")
	g.expect(http.StatusOK, "", http.MethodHead, "/v2/shop/web/blobs/"+found, "")
	g.as("read-shop").expect(http.StatusOK, "", http.MethodHead, "/v2/shop/web/blobs/"+passed, "") // who can't push
	a.by = 25 * time.Hour
	if _, err := g.handler.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.has("shop/web", found, "found")
	g.expect(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodGet, "/v2/shop/web/blobs/"+passed, "")
}
