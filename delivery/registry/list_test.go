package registry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// names asks for a list, and gives its names and where it goes on.
func (g *rig) names(path, field string) (names []string, next string) {
	g.Helper()
	got := g.expect(http.StatusOK, "", http.MethodGet, path, "")
	var list map[string]json.RawMessage
	if err := json.Unmarshal([]byte(got.body), &list); err != nil {
		g.Fatal(err)
	}
	if err := json.Unmarshal(list[field], &names); err != nil || names == nil {
		g.Fatalf("%s: %s (%v)", path, got.body, err)
	}
	if link := got.Header.Get("Link"); link != "" {
		next, _ = strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
	}
	return names, next
}

func TestTags(t *testing.T) {
	g := newRig(t)
	g.expect(http.StatusNotFound, "NAME_UNKNOWN", http.MethodGet, "/v2/shop/web/tags/list", "")
	g.pushBlob("shop/web", "{}")
	if names, _ := g.names("/v2/shop/web/tags/list", "tags"); len(names) != 0 {
		t.Errorf("%q", names)
	}
	for i, tag := range []string{"b", "C", "a", "10", "9", "latest"} {
		manifest := imageOf(fmt.Sprintf(`"annotations":{"n":"%d"},`, i), "{}")
		g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/"+tag, manifest, "Content-Type: "+ociImage)
	}
	want := []string{"10", "9", "a", "b", "C", "latest"}
	if names, next := g.names("/v2/shop/web/tags/list", "tags"); !slices.Equal(names, want) || next != "" {
		t.Errorf("%q, %q", names, next)
	}
	if names, _ := g.names("/v2/shop/web/tags/list?last=9", "tags"); !slices.Equal(names, want[2:]) {
		t.Errorf("%q", names)
	}
	if names, _ := g.names("/v2/shop/web/tags/list?last=99", "tags"); !slices.Equal(names, want[2:]) {
		t.Errorf("after a tag that is not there: %q", names)
	}
	if names, next := g.names("/v2/shop/web/tags/list?n=0", "tags"); len(names) != 0 || next != "" {
		t.Errorf("%q, %q", names, next)
	}
	for _, n := range []int{1, 2, 3, 6, 7} {
		var all []string
		for path := fmt.Sprintf("/v2/shop/web/tags/list?n=%d", n); path != ""; {
			var names []string
			if names, path = g.names(path, "tags"); len(names) > n {
				t.Errorf("%d of %d: %q", len(names), n, names)
			}
			all = append(all, names...)
		}
		if !slices.Equal(all, want) {
			t.Errorf("by %d: %q", n, all)
		}
	}
	g.expect(http.StatusBadRequest, "UNSUPPORTED", http.MethodGet, "/v2/shop/web/tags/list?n=x", "")
	g.expect(http.StatusBadRequest, "UNSUPPORTED", http.MethodGet, "/v2/shop/web/tags/list?n=-1", "")
}

func TestCatalog(t *testing.T) {
	g := newRig(t)
	if names, _ := g.names("/v2/_catalog", "repositories"); len(names) != 0 {
		t.Errorf("%q", names)
	}
	for _, name := range []string{"zoo", "shop/web", "team/shop/web", "default/default/web"} {
		g.pushBlob(name, "x")
	}
	want := []string{"default/web", "shop/web", "team/shop/web", "zoo"}
	if names, _ := g.names("/v2/_catalog", "repositories"); !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	if names, next := g.names("/v2/_catalog?n=2", "repositories"); !slices.Equal(names, want[:2]) || next != "/v2/_catalog?last=shop%2Fweb&n=2" {
		t.Errorf("%q, %q", names, next)
	}
	if names, _ := g.as("read-shop").names("/v2/_catalog", "repositories"); !slices.Equal(names, []string{"shop/web"}) {
		t.Errorf("%q", names)
	}
}

func TestReferrers(t *testing.T) {
	g := newRig(t)
	image := g.pushImage("shop/web", "1", "a layer")
	path := "/v2/shop/web/referrers/" + sumOf(image)
	type listed struct {
		SchemaVersion int
		MediaType     string
		Manifests     []struct {
			MediaType, Digest, ArtifactType string
			Size                            int
			Annotations                     map[string]string
		}
	}
	list := func(path string) (l listed, got response) {
		t.Helper()
		got = g.expect(http.StatusOK, "", http.MethodGet, path, "")
		g.header(got, "Content-Type", ociIndex)
		if err := json.Unmarshal([]byte(got.body), &l); err != nil || l.Manifests == nil || l.SchemaVersion != 2 || l.MediaType != ociIndex {
			t.Fatalf("%s: %s (%v)", path, got.body, err)
		}
		return l, got
	}
	for _, empty := range []string{path, "/v2/shop/web/referrers/" + sumOf("never pushed"), "/v2/shop/none/referrers/" + sumOf("x")} {
		if l, _ := list(empty); len(l.Manifests) != 0 {
			t.Errorf("%+v", l)
		}
	}
	subject := `"subject":` + descriptor(ociImage, image) + ","
	signature := imageOf(subject+`"artifactType":"application/vnd.example.signature","annotations":{"by":"ann"},`, "{}")
	bill := imageOf(subject, "{}")
	index := strings.Replace(indexOf(), `"manifests"`, subject+`"artifactType":"application/vnd.example.index","manifests"`, 1)
	for _, c := range []struct{ body, mediaType string }{{signature, ociImage}, {bill, ociImage}, {index, ociIndex}} {
		got := g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/"+sumOf(c.body), c.body, "Content-Type: "+c.mediaType)
		g.header(got, "OCI-Subject", sumOf(image))
	}
	l, got := list(path)
	g.header(got, "OCI-Filters-Applied", "")
	if len(l.Manifests) != 3 {
		t.Fatalf("%+v", l)
	}
	for _, m := range l.Manifests {
		want := map[string][2]string{
			sumOf(signature): {ociImage, "application/vnd.example.signature"},
			sumOf(bill):      {ociImage, "application/vnd.oci.image.config.v1+json"},
			sumOf(index):     {ociIndex, "application/vnd.example.index"},
		}[m.Digest]
		if m.MediaType != want[0] || m.ArtifactType != want[1] || m.Size == 0 || (m.Annotations["by"] == "ann") != (m.Digest == sumOf(signature)) {
			t.Errorf("%+v", m)
		}
	}
	l, got = list(path + "?artifactType=application/vnd.example.signature")
	g.header(got, "OCI-Filters-Applied", "artifactType")
	if len(l.Manifests) != 1 || l.Manifests[0].Digest != sumOf(signature) {
		t.Errorf("%+v", l)
	}
	g.expect(http.StatusAccepted, "", http.MethodDelete, "/v2/shop/web/manifests/"+sumOf(signature), "")
	if l, _ = list(path); len(l.Manifests) != 2 {
		t.Errorf("%+v", l)
	}
	g.expect(http.StatusBadRequest, "DIGEST_INVALID", http.MethodGet, "/v2/shop/web/referrers/1", "")
}

// TestSubjectNeedNotBeThere shows that a signature may come before what it signs.
func TestSubjectNeedNotBeThere(t *testing.T) {
	g := newRig(t)
	g.pushBlob("shop/web", "{}")
	image := imageOf("", "{}", "a layer")
	signature := imageOf(`"subject":`+descriptor(ociImage, image)+",", "{}")
	g.expect(http.StatusCreated, "", http.MethodPut, "/v2/shop/web/manifests/"+sumOf(signature), signature, "Content-Type: "+ociImage)
	if got := g.pushImage("shop/web", "1", "a layer"); got != image {
		t.Fatal(got)
	}
	if got := g.expect(http.StatusOK, "", http.MethodGet, "/v2/shop/web/referrers/"+sumOf(image), ""); !strings.Contains(got.body, sumOf(signature)) {
		t.Error(got.body)
	}
}
