package registry

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// mostListed is how many names one answer has.
const mostListed = 10_000

// page gives the part of a list that the request asks for by n and last, and tells by a Link (RFC 8288) when
// there is more. Names are in the order that the specification has: by letters, whether large or small.
func (c *call) page(all []string) ([]string, error) {
	order := func(a, b string) int {
		return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
	}
	slices.SortFunc(all, order)
	query := c.r.URL.Query()
	if last := query.Get("last"); last != "" {
		all = slices.DeleteFunc(all, func(name string) bool { return order(name, last) <= 0 })
	}
	n := mostListed
	if text := query.Get("n"); text != "" {
		asked, err := strconv.Atoi(text)
		if err != nil || asked < 0 {
			return nil, maru.Errorf(maru.Invalid, "n is %q, which is no number", text)
		}
		n = min(n, asked)
	}
	if n > 0 && len(all) > n {
		next := url.Values{"n": {strconv.Itoa(n)}, "last": {all[n-1]}}
		c.w.Header().Set("Link", "<"+c.r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
	}
	return append([]string{}, all[:min(n, len(all))]...), nil
}

// tags lists a repository's tags.
func (c *call) tags() error {
	all, err := c.contents()
	if err != nil {
		return err
	}
	var tags []string
	for _, content := range all {
		tags = append(tags, content.Tags...)
	}
	if tags, err = c.page(tags); err != nil {
		return err
	}
	answer(c.w, http.StatusOK, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{c.name.written, tags})
	return nil
}

// catalog lists the repositories of what people pushed that the token may read. It is Docker's; the
// specification has no such list.
func (c *call) catalog() error {
	all, err := c.store.Contents(c.r.Context(), "")
	if err != nil {
		return err
	}
	var names []string
	for _, content := range all {
		n, err := parseName(shortName(content.Repository))
		if err == nil && mayPull(c.token, n) == nil {
			names = append(names, n.written)
		}
	}
	slices.Sort(names)
	if names, err = c.page(slices.Compact(names)); err != nil {
		return err
	}
	answer(c.w, http.StatusOK, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{names})
	return nil
}

// referrers lists the manifests that are about another one: signatures, bills of materials.
func (c *call) referrers() error {
	if err := checkDigest(c.last); err != nil {
		return err
	}
	all, err := c.store.Contents(c.r.Context(), c.name.key)
	if err != nil {
		return err
	}
	wanted := c.r.URL.Query().Get("artifactType")
	index := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, ociIndex, []descriptor{}}
	for _, content := range all {
		if content.Subject != c.last || c.name.releases() {
			continue
		}
		d, err := c.parse(c.r.Context(), content)
		if err != nil {
			return err
		}
		if wanted == "" || d.artifactType() == wanted {
			index.Manifests = append(index.Manifests, descriptor{content.MediaType, content.Digest, content.Size, d.artifactType(), d.Annotations})
		}
	}
	if wanted != "" {
		c.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	answer(c.w, http.StatusOK, ociIndex, index)
	return nil
}
